"""Load on anything that answers questions; every latency counts from the scheduled moment.

A request that had to wait for the event loop, or for its turn, waited: a clock that starts only
when it is sent hides that (Tene, "How NOT to measure latency": coordinated omission).
"""

from __future__ import annotations

import asyncio
import itertools
import math
import random
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from rag_lab.errors import SettingsError
from rag_lab.telemetry.trace import clock

Outcome = Literal["answered", "degraded", "failed"]
Ask = Callable[[str, float], Awaitable[Any]]
"""Asks a question that was scheduled at a moment of `clock`; an answer whose `degraded` is not
empty counts as degraded."""
Drop = Callable[[int, float], str]
"""Told the number and the moment of a request that is due; gives the reason why neither it nor any
other is to be waited for, or nothing to go on."""

_REASON_CHARS = 200


@dataclass(frozen=True, slots=True)
class Asked:
    """One request: its number and its moments, in seconds after the start of the load.

    Attributes:
        started_s: when the work on it began; None if it never did.
        ended_s: when it was answered, failed or was cut off.
        reason: why it failed, or what the answer had to do without.
        cut_off: whether its end was not waited for.
    """

    id: int
    scheduled_s: float
    started_s: float | None
    ended_s: float
    outcome: Outcome
    reason: str = ""
    cut_off: bool = False

    @property
    def latency_s(self) -> float:
        """From the scheduled moment to the end."""
        return self.ended_s - self.scheduled_s


Ended = Callable[[Asked, Any], None]
"""Given every request when it has ended, with its answer; None if it failed."""


@dataclass(frozen=True, slots=True)
class LoadResult:
    """What came of a load.

    Attributes:
        asked: every request whose moment came, by number.
        planned: how many there were to be.
        wall_s: from the start to the last end.
    """

    asked: tuple[Asked, ...]
    planned: int
    wall_s: float

    @property
    def attempted(self) -> int:
        """Requests whose moment came."""
        return len(self.asked)

    @property
    def answered(self) -> int:
        """Requests with an answer, degraded ones too."""
        return self.attempted - self.failed

    @property
    def degraded(self) -> int:
        """Answers that had to do without something."""
        return self._count("degraded")

    @property
    def failed(self) -> int:
        """Requests without an answer, those cut off at the deadline too."""
        return self._count("failed")

    @property
    def per_s(self) -> float:
        """Answers a second."""
        return self.answered / self.wall_s if self.wall_s else 0.0

    def latency_s(self, quantile: float) -> float:
        """A quantile over all requests; a failed one counts with the time it took to fail.

        Of one that was cut off only a lower bound is known, so with some the quantile is one too.
        NaN without requests.
        """
        if not self.asked:
            return math.nan
        return float(np.quantile([request.latency_s for request in self.asked], quantile))

    def to_dict(self, *, requests: bool = False) -> dict[str, Any]:
        """Plain data, with every request if asked for."""
        data = {
            "planned": self.planned,
            "attempted": self.attempted,
            "answered": self.answered,
            "degraded": self.degraded,
            "failed": self.failed,
            "wall_s": self.wall_s,
            "per_s": self.per_s,
            "p50_s": self.latency_s(0.5),
            "p95_s": self.latency_s(0.95),
            "p99_s": self.latency_s(0.99),
        }
        return (
            data | {"requests": [asdict(request) for request in self.asked]} if requests else data
        )

    def _count(self, outcome: Outcome) -> int:
        return sum(request.outcome == outcome for request in self.asked)


async def open_loop(
    ask: Ask,
    questions: Sequence[str],
    *,
    rate_per_s: float,
    count: int,
    seed: int = 0,
    deadline_s: float = 60.0,
    exact: bool = False,
    drop: Drop | None = None,
    ended: Ended | None = None,
) -> LoadResult:
    """Requests at random moments (a Poisson process), whether or not earlier ones are answered.

    Args:
        questions: asked in turn, from the first again when they run out.
        rate_per_s: mean arrivals a second; infinite: all at once.
        deadline_s: when the rest is cut off, and counted as failed if its moment had come.
        exact: all moments are within count / rate seconds, as a Poisson process has them of which
            that is known: the load is then the one asked for, whatever the seed.
        drop: asked at every moment; what is under way when it gives a reason is cut off.

    Raises:
        SettingsError: no question, or a number that is not above 0.
    """
    _check(questions, rate_per_s=rate_per_s, count=count, deadline_s=deadline_s)
    load = _Load(ask, questions, count, ended)
    moments = (_exact_arrivals if exact else _arrivals)(rate_per_s, count, seed)

    async def arrive() -> None:
        async with asyncio.TaskGroup() as requests:
            tasks: set[asyncio.Task[None]] = set()
            for number, moment_s in enumerate(moments):
                if (wait_s := load.origin + moment_s - clock()) > 0:
                    await asyncio.sleep(wait_s)
                if drop is not None and (reason := drop(number, moment_s)):
                    load.cut_off_because = reason
                    for task in tasks:
                        task.cancel()
                    return
                load.schedule(number, moment_s)
                tasks.add(task := requests.create_task(load.request(number)))
                task.add_done_callback(tasks.discard)

    return await load.run(arrive(), deadline_s)


async def closed_loop(
    ask: Ask,
    questions: Sequence[str],
    *,
    users: int,
    count: int,
    deadline_s: float = 60.0,
    at_least_s: float = 0.0,
    ended: Ended | None = None,
) -> LoadResult:
    """Users who each ask their next question as soon as the one before is answered.

    A request is scheduled when its user is free, so a system that stalls is asked less often: use
    `open_loop` to see what a stall does to people who do not wait for each other.

    Args:
        at_least_s: they go on past `count` until that time is over.

    Raises:
        SettingsError: no question, or a number that is not above 0.
    """
    _check(questions, users=users, count=count, deadline_s=deadline_s)
    load = _Load(ask, questions, count, ended)
    numbers = itertools.takewhile(
        lambda number: number < count or clock() - load.origin < at_least_s, itertools.count()
    )

    async def use() -> None:
        for number in numbers:
            load.schedule(number, clock() - load.origin)
            await load.request(number)

    async def all_users() -> None:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(users):
                tasks.create_task(use())

    return await load.run(all_users(), deadline_s)


class _Load:
    """Requests under way, in seconds after `origin`."""

    def __init__(self, ask: Ask, questions: Sequence[str], count: int, ended: Ended | None) -> None:
        self.origin = clock()
        self.cut_off_because = ""
        self._ask = ask
        self._questions = questions
        self._count = count
        self._ended = ended
        self._scheduled: dict[int, float] = {}
        self._started: dict[int, float] = {}
        self._done: dict[int, Asked] = {}

    def schedule(self, number: int, at_s: float) -> None:
        """The moment of a request has come."""
        self._scheduled[number] = at_s

    async def request(self, number: int) -> None:
        """Asks, and notes what comes of it; an error is noted too."""
        self._started[number] = clock() - self.origin
        question = self._questions[number % len(self._questions)]
        try:
            answer = await self._ask(question, self.origin + self._scheduled[number])
        except Exception as error:  # any failure of the system under test is a result
            self._end(number, "failed", f"{type(error).__name__}: {error}")
            return
        missing = getattr(answer, "degraded", ())
        self._end(number, "degraded" if missing else "answered", "; ".join(missing), answer)

    async def run(self, work: Awaitable[None], deadline_s: float) -> LoadResult:
        """Waits for the work, at most until the deadline."""
        try:
            async with asyncio.timeout(deadline_s):
                await work
        except TimeoutError:
            self.cut_off_because = f"not done within {deadline_s:g} s"
        for number in sorted(self._scheduled.keys() - self._done.keys()):
            self._end(number, "failed", self.cut_off_because)
        asked = tuple(request for _, request in sorted(self._done.items()))
        wall_s = max((request.ended_s for request in asked), default=0.0)
        return LoadResult(asked, max(self._count, len(asked)), wall_s)

    def _end(self, number: int, outcome: Outcome, reason: str, answer: Any = None) -> None:
        self._done[number] = done = Asked(
            number,
            self._scheduled[number],
            self._started.get(number),
            clock() - self.origin,
            outcome,
            reason[:_REASON_CHARS],
            bool(self.cut_off_because),
        )
        if self._ended is not None:
            self._ended(done, answer)


def _arrivals(rate_per_s: float, count: int, seed: int) -> Iterator[float]:
    rng, moment_s = random.Random(seed), 0.0
    for _ in range(count):
        yield moment_s
        moment_s += rng.expovariate(rate_per_s) if math.isfinite(rate_per_s) else 0.0


def _exact_arrivals(rate_per_s: float, count: int, seed: int) -> Iterator[float]:
    """Given their number, the moments of a Poisson process are uniform, in order."""
    rng = random.Random(seed)
    yield from sorted(rng.uniform(0.0, count / rate_per_s) for _ in range(count))


def _check(questions: Sequence[str], **numbers: float) -> None:
    if not questions:
        raise SettingsError("a load needs questions, got none.")
    for name, value in numbers.items():
        if not value > 0:
            raise SettingsError(f"{name} must be above 0, got {value}.")
