"""A level of load: what came of its requests, whether its objective holds, which is tried next."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np

from rag_lab.evaluation.load import Asked
from rag_lab.evaluation.scores import Fate, Mean, Score, ScoreTable
from rag_lab.records import Timing, Usage

Mode = Literal["open", "closed"]

PRECISION: Final = 0.1
"""The knee is known when the loads that hold and do not hold differ by no more than this share."""
_DELIVERED: Final = 0.95
_FELL_P: Final = 0.01
_DEVIATIONS: Final = 3.0
_FEWEST_EARLY: Final = 10
_FEWEST_SLOWEST: Final = 5
_SLOWEST_SHARE: Final = 0.01


@dataclass(frozen=True, slots=True)
class Objective:
    """What is promised of answers; the defaults are those for law.

    Attributes:
        latency_s: from the scheduled moment; at most.
        share: of the requests that must be answered in that time; failed ones are not.
        threshold: the least score of a good answer.
    """

    latency_s: float = 3.0
    share: float = 0.99
    threshold: float = 0.5


@dataclass(frozen=True, slots=True)
class Request:
    """One request of a level: its moments, what became of it, what it scored, took and used."""

    asked: Asked
    question_id: str
    fate: Fate
    score: Score
    timing: Timing = field(default_factory=Timing)
    usage: Usage = field(default_factory=Usage)


@dataclass(frozen=True)
class Level:
    """What came of one level of load.

    Attributes:
        load: requests a second (open loop), or users (closed loop), as asked for.
        requests: all whose moment came, by number.
        planned: how many there were to be.
        window_s: the time in which requests were made.
        grew: whether it was stopped because the queue was growing.
    """

    load: float
    mode: Mode
    objective: Objective
    requests: tuple[Request, ...]
    planned: int
    window_s: float
    grew: bool = False

    @property
    def delivered(self) -> float:
        """The load that there was: requests begun a second, or requests under way on average."""
        if self.mode == "open":
            begun = [r.asked.started_s for r in self.requests if r.asked.started_s is not None]
            return len(begun) / max(self.window_s, *begun) if begun else 0.0
        until = max((r.asked.scheduled_s for r in self.requests), default=0.0)
        busy = (min(r.asked.ended_s, until) - r.asked.scheduled_s for r in self.requests)
        return math.fsum(busy) / until if until else self.load

    def count(self, fate: Fate) -> int:
        """Requests of that fate."""
        return sum(request.fate == fate for request in self.requests)

    @property
    def cut_off(self) -> int:
        """Requests whose end was not waited for; they count as failed."""
        return sum(request.asked.cut_off for request in self.requests)

    @property
    def degraded(self) -> int:
        """Answers that had to do without something."""
        return sum(request.asked.outcome == "degraded" for request in self.requests)

    @property
    def errors(self) -> Mapping[str, int]:
        """Why requests failed, most frequent first."""
        failed = (r.asked.reason for r in self.requests if r.fate == "failed")
        return dict(Counter(failed).most_common())

    @property
    def quality(self) -> Mean:
        """The mean score over questions; one that was asked repeatedly counts with its mean."""
        given: dict[str, list[Score]] = defaultdict(list)
        for request in self.requests:
            given[request.question_id].append(request.score)
        scores = {name: _mean_score(each) for name, each in given.items()}
        return ScoreTable({}, {"": scores}).mean("")

    @property
    def usage(self) -> Usage:
        """What all answers used."""
        return sum((request.usage for request in self.requests), Usage())

    def latency_s(self, quantile: float) -> float:
        """Over all requests, failed ones too; infinite if so many were cut off."""
        asked = [request.asked for request in self.requests]
        latencies = [math.inf if each.cut_off else each.latency_s for each in asked]
        return float(np.quantile(latencies, quantile, method="higher")) if asked else math.nan

    @property
    def in_time(self) -> float:
        """Share of the requests that were answered in time."""
        return sum(map(self._in_time, self.requests)) / len(self.requests) if self.requests else 0.0

    @property
    def good_per_s(self) -> float:
        """Quality-goodput: good, complete answers in time, for each second requests were made."""
        good = (self.good(request) and self._in_time(request) for request in self.requests)
        return sum(good) / self.window_s if self.window_s else 0.0

    def good(self, request: Request) -> bool:
        """Whether the answer is complete and scores enough; one without a score does not."""
        score = request.score.value
        enough = score is not None and score >= self.objective.threshold
        return enough and request.fate == "answered"

    def _in_time(self, request: Request) -> bool:
        return request.fate != "failed" and request.asked.latency_s <= self.objective.latency_s

    def slowest_shares(self) -> dict[str, float]:
        """Where the time of the slowest answers went: shares by stage, largest first.

        Of the slowest 1 %, at least 5. What no stage covers is "other".
        """
        answered = [request for request in self.requests if request.timing.total_s]
        most = max(_FEWEST_SLOWEST, math.ceil(_SLOWEST_SHARE * len(answered)))
        slowest = sorted(answered, key=lambda request: -request.timing.total_s)[:most]
        seconds: Counter[str] = Counter()
        for request in slowest:
            seconds.update(request.timing.own_s())
        total_s = math.fsum(request.timing.total_s for request in slowest)
        seconds["other"] = max(0.0, total_s - math.fsum(seconds.values()))  # type: ignore[assignment]
        return {stage: each / total_s for stage, each in seconds.most_common() if each}

    def missed(self, lightest: Level) -> tuple[str, ...]:
        """Why the objective does not hold at this level; empty if it does.

        Args:
            lightest: the level whose answers are compared with these, on the same questions.
        """
        reasons = []
        if self.grew:
            reasons.append("the queue grew")
        elif self.delivered < _DELIVERED * self.load:
            reasons.append(f"{self.delivered:.3g} of {self.load:.3g} were delivered")
        if self.in_time < self.objective.share:
            reasons.append(f"{100 * self.in_time:.1f} % in {self.objective.latency_s:g} s")
        lost, won = changed(lightest, self)
        if worse(lost, won):
            reasons.append(f"answers got worse: {lost} questions lost, {won} won")
        return tuple(reasons)


def _mean_score(scores: Sequence[Score]) -> Score:
    values = [score.value for score in scores if score.value is not None]
    return Score(math.fsum(values) / len(values)) if values else scores[0]


def changed(before: Level, after: Level) -> tuple[int, int]:
    """Questions answered well before and not after, and the other way round.

    Of each the first answer counts; those that failed are left out, they are counted elsewhere.
    """
    was, now = (_first_good(level) for level in (before, after))
    pairs = [(was[name], now[name]) for name in was.keys() & now.keys()]
    return pairs.count((True, False)), pairs.count((False, True))


def _first_good(level: Level) -> dict[str, bool]:
    good: dict[str, bool] = {}
    for request in level.requests:
        if request.fate != "failed":
            good.setdefault(request.question_id, level.good(request))
    return good


def worse(lost: int, won: int) -> bool:
    """McNemar's test, exact and one-sided: more lost than won, beyond what chance explains."""
    from scipy.stats import binomtest

    changes = lost + won
    return bool(changes and binomtest(lost, changes, alternative="greater").pvalue < _FELL_P)


def queue_grows(
    arrived_s: Sequence[float], done_s: Sequence[tuple[float, float]], now_s: float
) -> bool:
    """Whether more requests come than are done, and wait ever longer, beyond what chance explains.

    The backlog of a system that just keeps up is at most a random walk without drift: what it gains
    in a while has a variance of no more than the arrivals and the ends in that while, if both are
    Poisson processes. A gain over the second half of the time above three deviations is a drift.

    A system that fills up gains too (Little: rate × latency), but those who come later wait no
    longer. So the latencies of the requests of the third quarter must be longer on average than
    those of the first, by three standard errors; all are cut at a quarter of the time, which is how
    long the last of them have been seen. Ten of the first must be done by then: without a pace
    nothing is proved.

    Args:
        arrived_s: when requests were due, since the start of the load.
        done_s: when those that have ended were due, and when they ended.
        now_s: the end of what was seen.
    """
    quarter = now_s / 4
    arrived, done = np.asarray(arrived_s), np.asarray(done_s).reshape(-1, 2)
    came = np.count_nonzero((arrived > 2 * quarter) & (arrived <= now_s))
    went = np.count_nonzero((done[:, 1] > 2 * quarter) & (done[:, 1] <= now_s))
    if came - went <= _DEVIATIONS * math.sqrt(came + went):
        return False
    early, late = (_cut_latencies(arrived, done, since, quarter) for since in (0.0, 2 * quarter))
    if not late.size or np.count_nonzero(early < quarter) < _FEWEST_EARLY:
        return False
    error = math.sqrt(early.var() / early.size + late.var() / late.size)
    return bool(late.mean() - early.mean() > _DEVIATIONS * error)


def _cut_latencies(
    arrived: np.ndarray, done: np.ndarray, since_s: float, length_s: float
) -> np.ndarray:
    """Latencies of those due in a while, none longer than that while."""
    until_s = since_s + length_s
    count = np.count_nonzero((arrived >= since_s) & (arrived < until_s))
    ended = done[(done[:, 0] >= since_s) & (done[:, 0] < until_s)]
    known = np.minimum(ended[:, 1] - ended[:, 0], length_s)
    return np.pad(known, (0, count - known.size), constant_values=length_s)


def bracket(holds: Mapping[float, bool]) -> tuple[float | None, float | None]:
    """The highest load that holds below the lowest that does not, and that one."""
    missed = min((load for load, held in holds.items() if not held), default=None)
    below = [load for load, held in holds.items() if held and (missed is None or load < missed)]
    return max(below, default=None), missed


def next_load(holds: Mapping[float, bool], *, whole: bool) -> float | None:
    """The load to try next: doubling or halving until the knee is bracketed, then bisection.

    Args:
        holds: what was tried, at least one load, and whether its objective held.
        whole: loads are whole numbers (users).

    Returns:
        None when the bracket is within `PRECISION`, or there is nothing left between.
    """
    held, missed = bracket(holds)
    if missed is None:
        return 2 * max(holds)
    if held is None:
        lower = missed // 2 if whole else missed / 2
        return lower or None
    if missed <= held * (1 + PRECISION):
        return None
    middle = math.sqrt(held * missed)
    if not whole:
        return middle
    inner = max(held + 1, float(round(middle)))
    return inner if inner < missed else None
