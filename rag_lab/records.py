"""What passes between the stages: questions, parts, passages, answers and what they cost."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any, Literal

Split = Literal["dev", "held_out"]
AnswerKind = Literal["extractive", "generated", "refused"]
Outcome = Literal["answered", "refused", "failed", "skipped"]
Stage = Literal[
    "queue",  # for a turn: from the scheduled start, then for a batch to ride in
    "limiter",  # for a slot
    "budget",  # for the provider's rate limits
    "call",  # the provider, and the way there and back
    "decode",  # from bytes to a matrix
    "backoff",  # between attempts
    "decompose",  # finding the parts of a question, the calls for it included
    "lookup",  # of what the question names
    "search",
    "fuse",
    "rerank",
    "synthesise",  # writing the answer, the calls for it included
]


@dataclass(frozen=True, slots=True)
class Part:
    """One sub-question of a multi-part question, with its own gold documents."""

    text: str
    relevant_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Question:
    """A question with what a right answer to it needs.

    `relevant_ids` are document ids; `relevant_groups` name the larger units (statutes) that hold
    the answer where a set judges only those. A question without either is one that the corpus
    cannot answer.
    """

    id: str
    text: str
    kind: str = "factual"
    answer: str = ""
    relevant_ids: tuple[str, ...] = ()
    relevant_groups: tuple[str, ...] = ()
    parts: tuple[Part, ...] = ()
    answer_contains: tuple[str, ...] = ()

    @property
    def answerable(self) -> bool:
        """Whether any gold document or group is known for it."""
        return bool(self.relevant_ids or self.relevant_groups)

    @property
    def split(self) -> Split:
        """Development or held-out half, by a hash of the id: stable across runs and machines."""
        even = hashlib.sha256(self.id.encode()).digest()[0] % 2 == 0
        return "dev" if even else "held_out"


@dataclass(frozen=True, slots=True)
class Passage:
    """A retrieved node: its text, where it comes from, and how well it matched.

    `scores` and `ranks` are what each search gave its document, by the name of the search; `parts`
    are the numbers, from 1, of the parts of the question that found it, if it had any.
    """

    node_id: str
    document_id: str
    text: str
    score: float
    source: str = ""
    scores: Mapping[str, float] = field(default_factory=dict)
    ranks: Mapping[str, int] = field(default_factory=dict)
    parts: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Usage:
    """What was used. Counts add up; `cost_usd` is None where no price is known.

    Attributes:
        calls: answered requests to a model; one shared by several questions counts for each.
        texts: texts embedded by those calls.
        cache_hits: texts and answers that were known.
        retries: requests made again after a failure.
        hedges: second requests for one that was late.
    """

    calls: int = 0
    texts: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cache_hits: int = 0
    retries: int = 0
    hedges: int = 0
    cost_usd: float | None = None

    def __add__(self, other: Usage) -> Usage:
        costs = [usage.cost_usd for usage in (self, other) if usage.cost_usd is not None]
        return Usage(
            calls=self.calls + other.calls,
            texts=self.texts + other.texts,
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            completion_tokens=self.completion_tokens + other.completion_tokens,
            cache_hits=self.cache_hits + other.cache_hits,
            retries=self.retries + other.retries,
            hedges=self.hedges + other.hedges,
            cost_usd=sum(costs) if costs else None,
        )

    def __str__(self) -> str:
        told = [
            f"{self.calls:,} calls",
            f"{self.prompt_tokens + self.completion_tokens:,} tokens",
            f"{self.cache_hits:,} known already" if self.cache_hits else "",
            f"{self.retries:,} retries" if self.retries else "",
            f"{self.hedges:,} asked twice because they were late" if self.hedges else "",
            "" if self.cost_usd is None else f"{self.cost_usd:.4f} USD",
        ]
        return ", ".join(filter(None, told))


@dataclass(frozen=True, slots=True)
class Span:
    """One stage of a request: when it began and ended, in seconds after its scheduled start."""

    stage: Stage
    began_s: float
    ended_s: float

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.ended_s - self.began_s


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds spent, whole and by stage, from when the question was meant to start.

    `spans` are the stages one by one (the waterfall); stages may run at the same time.
    """

    total_s: float = 0.0
    stages_s: Mapping[str, float] = field(default_factory=dict)
    spans: tuple[Span, ...] = ()

    def own_s(self) -> dict[Stage, float]:
        """Seconds by stage, each moment counted once: for the stage that began last.

        The writing of an answer holds the call for it; that time is the call's.
        """
        seconds: dict[Stage, float] = {}
        moments = sorted({moment for span in self.spans for moment in (span.began_s, span.ended_s)})
        for began, ended in pairwise(moments):
            under_way = [s for s in self.spans if s.began_s <= began and s.ended_s >= ended]
            if under_way:
                inner = max(under_way, key=lambda span: (span.began_s, -span.ended_s))
                seconds[inner.stage] = seconds.get(inner.stage, 0.0) + ended - began
        return seconds


@dataclass(frozen=True, slots=True)
class PartOutcome:
    """What became of one part of a question.

    Attributes:
        part: as it was asked: with the answers of earlier parts filled in.
        outcome: "skipped" if it was not asked, since the parts before it had brought nothing new.
        reason: why it was not answered.
        text: its own answer.
        document_ids: what it alone brought.
    """

    part: Part
    outcome: Outcome
    reason: str = ""
    text: str = ""
    document_ids: tuple[str, ...] = ()
    timing: Timing = Timing()
    usage: Usage = Usage()


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer with its evidence, or a refusal with its reason.

    `degraded` says what it had to do without (a model that was failing); empty if nothing. `notes`
    tell how it came about: how names were understood, what was asked for and does not exist.
    """

    question: str
    text: str
    kind: AnswerKind
    passages: tuple[Passage, ...] = ()
    cited_ids: tuple[str, ...] = ()
    reason: str = ""
    parts: tuple[PartOutcome, ...] = ()
    timing: Timing = Timing()
    usage: Usage = Usage()
    degraded: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def refused(self) -> bool:
        """Whether the corpus was said not to hold an answer."""
        return self.kind == "refused"

    @property
    def answered_parts(self) -> int:
        """How many of its parts were answered."""
        return sum(part.outcome == "answered" for part in self.parts)

    @property
    def ledger(self) -> str:
        """How many parts were answered, and why the others were not; empty without parts."""
        if not self.parts:
            return ""
        others = [
            f"part {number} {part.outcome}: {part.reason}"
            for number, part in enumerate(self.parts, start=1)
            if part.outcome != "answered"
        ]
        told = f"{self.answered_parts} of {len(self.parts)} parts answered"
        return "; ".join([told, *others])

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)
