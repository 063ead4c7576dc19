"""The parts of a question: asked at the same time, each with an outcome of its own.

A part that fails or is late does not sink the others. One whose text holds "#1" waits for what
part 1 gives and is asked with that filled in.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Generic, Protocol, TypeVar, runtime_checkable

from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.schema import NodeWithScore, QueryBundle

from rag_lab.asking.decompose import Decomposer, Decomposition, filled, references, waves
from rag_lab.asking.merge import interleave, merge_nodes
from rag_lab.asking.passages import document_id_of, document_ids_of
from rag_lab.errors import RagLabError, SettingsError
from rag_lab.records import Outcome, Timing, Usage
from rag_lab.retrieval import SnapshotRetriever
from rag_lab.retrieval.fusion import fold
from rag_lab.sync import run_sync
from rag_lab.telemetry import degrade, stage, tracing_within

T = TypeVar("T")

_NEWS = 10
"""Documents of a part that are looked at for something new."""


@dataclass(frozen=True, slots=True)
class PartLimits:
    """How the parts of a question are asked.

    Attributes:
        at_once: how many at the same time.
        deadline_s: for each part, from when it could be asked: the wait for its turn counts.
        stop_when_no_news: ask one after the other, and no more after one whose documents were all
            known from the parts before it.

    Raises:
        SettingsError: a number is not above 0.
    """

    at_once: int = 4
    deadline_s: float = 30.0
    stop_when_no_news: bool = False

    def __post_init__(self) -> None:
        for name, value in (("at_once", self.at_once), ("deadline_s", self.deadline_s)):
            if not value > 0:
                raise SettingsError(f"{name} must be above 0, got {value}.")


@dataclass(frozen=True, slots=True)
class Found(Generic[T]):
    """What a part gave.

    Attributes:
        value: the thing itself.
        document_ids: its documents, best first.
        words: what stands for it where a later part refers to it; empty if nothing can.
        refused: why there is no answer in it; empty if there is one.
    """

    value: T
    document_ids: tuple[str, ...] = ()
    words: str = ""
    refused: str = ""


@dataclass(frozen=True, slots=True)
class PartRun(Generic[T]):
    """What became of asking one part: what it gave, or why it gave nothing."""

    text: str
    outcome: Outcome
    reason: str = ""
    found: Found[T] | None = None
    error: Exception | None = None
    timing: Timing = field(default_factory=Timing)
    usage: Usage = field(default_factory=Usage)


AskPart = Callable[[int, str], Awaitable[Found[T]]]
"""Asks a part, by its number from 1 and its text."""


async def ask_parts(
    decomposition: Decomposition, ask: AskPart[T], limits: PartLimits
) -> list[PartRun[T]]:
    """Asks every part and tells of each what became of it, in the order of the parts.

    Parts that failed are noted in the current trace as what the answer does without. If this is
    cancelled, so is every part; none is left running.

    Raises:
        ValueError: parts refer to each other in a circle, or to one that is not there.
    """
    asking = _Asking(decomposition, ask, limits)
    await asking.run()
    for number, run in sorted(asking.runs.items()):
        if run.outcome == "failed":
            degrade(f"part {number} failed: {run.reason}")
    return [
        asking.runs.get(number) or PartRun(text, "skipped", asking.stopped)
        for number, text in enumerate(decomposition.parts, start=1)
    ]


class _Asking(Generic[T]):
    """The parts of one question under way.

    Attributes:
        runs: what became of the parts so far, by their numbers.
        stopped: why no more parts are asked; empty if all are.
    """

    def __init__(self, decomposition: Decomposition, ask: AskPart[T], limits: PartLimits) -> None:
        self.runs: dict[int, PartRun[T]] = {}
        self.stopped = ""
        self._decomposition = decomposition
        self._needs = needs_of(decomposition)
        self._ask = ask
        self._limits = limits
        self._turns = asyncio.Semaphore(limits.at_once)

    async def run(self) -> None:
        if not self._limits.stop_when_no_news:
            for wave in self._waves():
                await self._run_wave(wave)
            return
        known: set[str] = set()
        for number in chain.from_iterable(self._waves()):
            await self._run_wave([number])
            found = self.runs[number].found
            brought = found.document_ids[:_NEWS] if found else ()
            if brought and known.issuperset(brought):
                self.stopped = f"part {number} had brought no new document"
                return
            known.update(brought)

    def _waves(self) -> list[list[int]]:
        if not any(self._needs.values()):
            return [list(self._needs)]
        return waves(self._decomposition.parts)

    async def _run_wave(self, numbers: Sequence[int]) -> None:
        async with asyncio.TaskGroup() as group:
            asked = {number: group.create_task(self._run(number)) for number in numbers}
        self.runs |= {number: task.result() for number, task in asked.items()}

    async def _run(self, number: int) -> PartRun[T]:
        text = self._decomposition.parts[number - 1]
        words: dict[int, str] = {}
        for other in self._needs[number]:
            run = self.runs[other]
            if run.found is None or not run.found.words:
                outcome: Outcome = "failed" if run.outcome == "failed" else "refused"
                reason = f"it needs the answer of part {other}, which has none: {run.reason}"
                return PartRun(text, outcome, reason)
            words[other] = run.found.words
        return await self._run_asked(number, filled(text, words) if words else text)

    async def _run_asked(self, number: int, text: str) -> PartRun[T]:
        with tracing_within() as trace:
            try:
                found = await self._in_time(number, text)
            except Exception as error:  # any failure of a part is its outcome
                run: PartRun[T] = PartRun(text, "failed", told(error), error=error)
            else:
                outcome: Outcome = "refused" if found.refused else "answered"
                run = PartRun(text, outcome, found.refused, found)
        return replace(run, timing=trace.timing(), usage=trace.usage)

    async def _in_time(self, number: int, text: str) -> Found[T]:
        """Asks in its turn.

        Raises:
            TimeoutError: it took too long.
        """
        limit = asyncio.timeout(self._limits.deadline_s)
        try:
            async with limit, self._turns:
                return await self._ask(number, text)
        except TimeoutError:
            if limit.expired():
                raise TimeoutError(f"not done within {self._limits.deadline_s:g} s") from None
            raise
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise RuntimeError("what it waited for was cancelled") from None


def needs_of(decomposition: Decomposition) -> dict[int, tuple[int, ...]]:
    """By the number of a part, the parts whose answers it needs."""
    refers = decomposition.by == "llm"  # "#1" in what rules made stood in the question
    return {
        number: references(text) if refers else ()
        for number, text in enumerate(decomposition.parts, start=1)
    }


def told(error: Exception) -> str:
    """An error in a few words."""
    if isinstance(error, RagLabError | TimeoutError) and str(error):
        return str(error).partition(". ")[0]
    return f"{type(error).__name__}: {error}"


async def decomposed(decomposer: Decomposer, question: str) -> Decomposition:
    """The parts of a question; the trace says if it was not taken apart as it should have been."""
    with stage("decompose"):
        decomposition = await decomposer.decompose(question)
    if decomposition.note:
        degrade(decomposition.note)
    return decomposition


def error_of_all(runs: Sequence[PartRun[T]]) -> Exception | None:
    """The first error of parts none of which came through; None if one did."""
    if any(run.outcome != "failed" for run in runs):
        return None
    return next((run.error for run in runs if run.error is not None), None)


@runtime_checkable
class _RanksDocuments(Protocol):
    async def rank_documents(self, query: str, k: int | None = None) -> list[tuple[str, float]]: ...


class PartsRetriever(BaseRetriever):
    """Retrieves the parts of a question at the same time, and merges what they find.

    A question that stays whole goes to the inner retriever as it is. A part that refers to an
    earlier one ("#1") is asked with the words of that one: here is nobody to answer it. A part that
    fails is left out, and the trace says so.

    Args:
        retriever: asked for every part.
        decomposer: finds the parts.
        limits: how many at once, how long.
    """

    def __init__(
        self, retriever: BaseRetriever, decomposer: Decomposer, limits: PartLimits | None = None
    ) -> None:
        super().__init__()
        self.retriever = retriever
        self.decomposer = decomposer
        self.limits = limits or PartLimits()

    async def rank_documents(self, query: str, k: int | None = None) -> list[tuple[str, float]]:
        """The k best (document id, score), best first; scores of a merged list are 1 / place.

        Raises:
            Exception: that of the first part, if every part failed.
        """
        decomposition = await decomposed(self.decomposer, query)
        if decomposition.whole:
            return await self._rank(query, k)

        async def ask(_: int, text: str) -> Found[Sequence[str]]:
            ranked = [document_id for document_id, _ in await self._rank(text)]
            return Found(ranked, tuple(ranked[:_NEWS]), text)

        merged = interleave(await self._lists(decomposition, ask))
        return [(document_id, 1 / place) for place, (document_id, _) in enumerate(merged[:k], 1)]

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        decomposition = await decomposed(self.decomposer, query_bundle.query_str)
        if decomposition.whole:
            return await self._nodes(query_bundle.query_str)

        async def ask(_: int, text: str) -> Found[Sequence[NodeWithScore]]:
            nodes = await self._nodes(text)
            return Found(nodes, document_ids_of(nodes), text)

        found = await self._lists(decomposition, ask)
        # As many as one question would have, and the best of each part in any case.
        return merge_nodes(found)[: max(map(len, [found, *found]))]

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return run_sync(self._aretrieve(query_bundle))

    async def _lists(
        self, decomposition: Decomposition, ask: AskPart[Sequence[T]]
    ) -> list[Sequence[T]]:
        """What each part found, an empty list if it failed."""
        runs = await ask_parts(decomposition, ask, self.limits)
        if error := error_of_all(runs):
            raise error
        return [run.found.value if run.found else () for run in runs]

    async def _nodes(self, text: str) -> list[NodeWithScore]:
        if isinstance(self.retriever, SnapshotRetriever):
            return await self.retriever.nodes(text)
        return await self.retriever.aretrieve(text)

    async def _rank(self, text: str, k: int | None = None) -> list[tuple[str, float]]:
        if isinstance(self.retriever, _RanksDocuments):
            return await self.retriever.rank_documents(text, k)
        nodes = await self.retriever.aretrieve(text)
        scored = [(document_id_of(hit), hit.score or 0.0) for hit in nodes]
        return fold(scored, key=lambda document_id: document_id)[:k]
