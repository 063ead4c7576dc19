"""What the limiter looks at: rounds of calls, and what a limit was seen to earn."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from rag_lab.errors import SettingsError

Phase = Literal["doubling", "steady", "climbing", "lowering", "recovering", "fixed"]
"""What the limit is doing:

doubling    ×2 a round while the yield is at least a half, then back to the knee
steady      stays, a growing number of rounds
climbing    +8 % a round; at +25 % the yield decides: stay there, or back
lowering    −20 %, then −40 % a time while nothing is lost: what goes was only a queue
recovering  after a cut: doubling up to what is safe, gently to just under the ceiling
fixed       held by the user
"""
End = Literal["ok", "throttled", "timed_out", "failed"]


@dataclass(frozen=True, slots=True)
class LimiterSettings:
    """The defaults hold for every provider that we know of; none needs tuning."""

    start: int = 16
    minimum: int = 1
    maximum: int = 512
    cut: float = 0.8
    """What a 429 episode leaves of the limit."""
    plateau_cut: float = 0.7
    """What two rounds of timeouts in a row leave of it."""
    step: float = 1.08
    probe: float = 1.25
    worth: float = 0.5
    """The yield from which on a step up is kept."""
    idle: float = 0.3
    """The yield below which a step down is kept."""
    hold_rounds: int = 3
    max_hold_rounds: int = 12
    rest: float = 10.0
    """An experiment that cost seconds is followed by this many times as long without one …"""
    max_rest_s: float = 60.0
    """… up to this."""
    history: int = 1_000

    def __post_init__(self) -> None:
        if not 1 <= self.minimum <= self.start <= self.maximum:
            raise SettingsError(
                "the limiter needs 1 ≤ minimum ≤ start ≤ maximum, got "
                f"minimum {self.minimum}, start {self.start}, maximum {self.maximum}."
            )


@dataclass(frozen=True, slots=True)
class LimitChange:
    """One change of the limit or of what it is doing, for plotting."""

    at: float
    limit: int
    phase: Phase
    reason: str


@dataclass(slots=True, eq=False)
class Call:
    """One call in flight."""

    began: float
    round: Round | None


@dataclass(slots=True, eq=False)
class Round:
    """The first `wanted` calls begun at one limit, and how they ended."""

    limit: int
    wanted: int
    began: int = 0
    ended: dict[End, int] = field(default_factory=dict)
    spans: list[float] = field(default_factory=list)
    items: int = 0
    in_flight: int = 0
    at_limit: int = 0

    @classmethod
    def of(cls, limit: int, *, quick: bool, failing: float) -> Round:
        """About one round trip; more calls where the comparison is fine or the calls scatter."""
        wanted = max(16, limit // 2) if quick else max(16, int(1.5 * limit)) * (1 + 3 * failing)
        return cls(limit, min(int(wanted), max(8, 4 * limit)))

    def admit(self, in_flight: int) -> bool:
        """Whether the call that begins now belongs to the round."""
        if self.began >= self.wanted:
            return False
        self.began += 1
        self.in_flight += in_flight
        self.at_limit += in_flight >= 0.9 * self.limit
        return True

    def count(self, end: End, span_s: float, items: int) -> None:
        """A call of the round has ended. A refused call took no slot worth counting."""
        self.ended[end] = self.ended.get(end, 0) + 1
        if end != "throttled":
            self.spans.append(span_s)
        if end == "ok":
            self.items += items

    def share(self, *ends: End) -> float:
        """Share of the finished calls that ended so."""
        total = sum(self.ended.values())
        return sum(self.ended.get(end, 0) for end in ends) / total if total else 0.0

    @property
    def over(self) -> bool:
        """Three quarters are back: the slowest need not be waited for."""
        return sum(self.ended.values()) >= math.ceil(0.75 * self.wanted)

    @property
    def used_up(self) -> bool:
        """Whether the limit was what held calls back; else it says nothing about growth."""
        return self.in_flight >= self.began * self.limit / 2 and self.at_limit >= 0.1 * self.began

    @property
    def goodput(self) -> float:
        """Items a second that this limit earns when it is used up; stragglers count thrice."""
        spans = sorted(self.spans)
        cap = 3 * spans[len(spans) // 2] if spans else 0.0
        seconds = sum(min(span, cap) for span in spans)
        return self.limit * self.items / seconds if seconds > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Level:
    """A limit and the goodput it was seen to earn."""

    limit: int
    goodput: float

    def growth_from(self, other: Level) -> float:
        """The yield of the step between two limits: 1 in proportion, 0 nothing."""
        if self.limit == other.limit:
            return 0.0
        ratio = max(self.goodput, 1e-9) / max(other.goodput, 1e-9)
        return math.log(ratio) / math.log(self.limit / other.limit)


@dataclass(slots=True)
class Refusals:
    """How many calls were answered 429: lately, and since the last cut."""

    lately: float = 0.0
    calls: int = 0
    refused: int = 0
    mild_cuts: int = 0
    tolerated: float = 0.0
    quiet_rounds: int = 0

    def count(self, refused: bool) -> None:
        """A call has ended."""
        self.lately += (refused - self.lately) / 100
        self.calls += 1
        self.refused += refused

    def before_cut(self, *, lower: bool, lowest: bool) -> bool:
        """Notes a cut; True if refusals have shown that they do not depend on the limit.

        Three lower cuts did not end a *small* share of refusals (or any share, at the
        lowest limit). Above a capacity one would have: then somebody else uses the quota.
        """
        share = self.refused / self.calls if self.calls else 1.0
        if lower or lowest:
            if self.calls < 16:
                return False
            self.mild_cuts = self.mild_cuts + 1 if share <= (0.6 if lowest else 0.25) else 0
        self.calls = self.refused = 0
        if self.mild_cuts < 3:
            return False
        self.mild_cuts, self.quiet_rounds = 0, 0
        self.tolerated = 2 * max(share, self.lately) + 0.1
        return True

    def after_round(self, share: float) -> None:
        """Twenty rounds without a refusal end the tolerance."""
        self.quiet_rounds = 0 if share else self.quiet_rounds + 1
        if self.quiet_rounds >= 20:
            self.tolerated = 0.0


@dataclass(slots=True)
class Failures:
    """Timeouts and errors: what share has become usual, and how long all has timed out."""

    usual: float = 0.0
    plateau: int = 0
    """Rounds in a row in which most calls timed out."""
    answered: bool = False

    def bar(self, calls: int) -> float:
        """The share of so many calls that is more than has become usual."""
        return self.usual + max(0.15, 2 * math.sqrt(self.usual * (1 - self.usual) / calls))

    def too_late(self, running: Round) -> bool:
        """Whether a round that is not over has timed out more than is usual, whatever follows."""
        return running.ended.get("timed_out", 0) > self.bar(running.wanted) * running.wanted

    def judge(self, done: Round) -> tuple[bool, bool]:
        """Whether the round failed, and timed out, more than is usual by now."""
        usual, bar = self.usual, self.bar(max(1, len(done.spans)))
        failing, late = done.share("timed_out", "failed"), done.share("timed_out")
        self.usual = min(0.5, usual + 0.3 * (failing - usual))
        self.plateau = self.plateau + 1 if late >= 0.5 else 0
        self.answered = self.plateau > 0 and (self.answered or done.items > 0)
        return failing > bar, late > bar

    def end_plateau(self) -> bool:
        """Forgets the plateau; whether any of its calls came back."""
        answered, self.answered, self.plateau = self.answered, False, 0
        return answered


@dataclass(slots=True)
class Patience:
    """How many steady rounds before the next experiment."""

    settings: LimiterSettings
    rounds: int
    was: float
    """The limit that there once was, before it had to be cut."""

    def fallen(self, limit: int) -> bool:
        """Far below what there once was: worth looking again soon, with larger steps."""
        return limit < self.was / 2

    def hold(self, limit: int) -> int:
        """Steady rounds at this limit."""
        return 1 if self.fallen(limit) else self.rounds

    def reset(self) -> None:
        """Nothing has been learned that speaks against looking again."""
        self.rounds = self.settings.hold_rounds

    def grow(self, limit: int) -> None:
        """An experiment brought nothing: twice as long until the next."""
        most = self.settings.hold_rounds if self.fallen(limit) else self.settings.max_hold_rounds
        self.rounds = min(2 * self.rounds, most)

    def remember(self, limit: int) -> None:
        """The limit before a cut; old heights fade."""
        self.was = max(limit, 0.97 * self.was)

    def step(self, limit: int) -> int:
        """The next limit upwards."""
        factor = self.settings.probe if self.fallen(limit) else self.settings.step
        return max(limit + 1, int(limit * factor))
