"""The limit in every weather: a simulated provider, a virtual clock, and the best fixed limit.

Regret is goodput lost against the best fixed limit of 1, 2, 4 … 128 in the same weather. Run this
file as a program for many seeds: `python tests/gateway/test_limiter_weather.py 50`.
"""

from __future__ import annotations

import heapq
import math
import random
import statistics
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import count, pairwise

import pytest

from rag_lab.gateway.concurrency import Concurrency
from rag_lab.gateway.rounds import Call, End, LimiterSettings

FIXED = (1, 2, 4, 8, 16, 32, 64, 128)


Course = Callable[[float], float]
"""A value over time."""


def always(value: float) -> Course:
    return lambda now: value


def between(start: float, end: float, inside: float, outside: float) -> Course:
    return lambda now: inside if start <= now < end else outside


@dataclass(frozen=True)
class Weather:
    """A provider of some capacity behind a closed loop of clients that always want more."""

    capacity: Course = field(default_factory=lambda: always(math.inf))
    rejects: bool = False
    """Above capacity: 429 at once, or a queue."""
    service_s: float = 0.5
    sigma: float = 0.3
    slow_share: float = 0.0
    slow_factor: float = 10.0
    timeout_s: float = 30.0
    hang_share: Course = field(default_factory=lambda: always(0.0))
    error_share: Course = field(default_factory=lambda: always(0.0))
    hang_above: float = math.inf
    """A call that arrives beside so many others hangs, whatever the capacity."""
    random_429: float = 0.0
    retry_after_s: float = 0.0
    """What a 429 asks for: nobody sends before it is over."""
    per_minute: float = math.inf
    clients: int = 256
    think_s: float = 0.0
    backoff_s: float = 1.0
    length_s: float = 90.0
    skip_s: float = 0.0
    """Goodput counts from here on."""


@dataclass
class Run:
    done: int = 0
    ends: dict[str, int] = field(default_factory=dict)
    limits: list[tuple[float, int]] = field(default_factory=list)
    most_in_flight: int = 0

    def goodput(self, weather: Weather) -> float:
        return self.done / (weather.length_s - weather.skip_s)

    def limit_between(self, start: float, end: float) -> float:
        """Mean of the limit over a span of time."""
        points = [*self.limits, (math.inf, 0)]
        total = 0.0
        for (at, limit), (until, _) in pairwise(points):
            total += limit * max(0.0, min(until, end) - max(at, start))
        return total / (end - start)


class Simulation:
    """Events in a heap; the core under test sees only calls that begin and end."""

    def __init__(self, weather: Weather, seed: int, fixed: int | None = None) -> None:
        self.weather, self.now = weather, 0.0
        self.random = random.Random(seed)
        self.core = Concurrency(LimiterSettings(), lambda: self.now)
        if fixed:
            self.core.fix(fixed)
        self.run = Run()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self._ready = 0  # clients that want a slot
        self._serving = 0
        self._hanging = 0
        self._paused_until = 0.0
        self._queue: deque[tuple[Call, list[bool]]] = deque()
        self._minute: deque[float] = deque()

    def after(self, seconds: float, what: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now + seconds, next(self._order), what))

    def play(self) -> Run:
        for _ in range(self.weather.clients):
            first = self.random.uniform(0, self.weather.think_s)
            self.after(first, self.want)
        while self._events and self._events[0][0] < self.weather.length_s:
            self.now, _, what = heapq.heappop(self._events)
            what()
            self.fill()
        return self.run

    def want(self) -> None:
        self._ready += 1

    def fill(self) -> None:
        while (
            self._ready and self.core.in_flight < self.core.limit and self.now >= self._paused_until
        ):
            self._ready -= 1
            self.send()
        if not self.run.limits or self.run.limits[-1][1] != self.core.limit:
            self.run.limits.append((self.now, self.core.limit))
        self.run.most_in_flight = max(self.run.most_in_flight, self.core.in_flight)

    def send(self) -> None:
        weather, call = self.weather, self.core.begin()
        draw = self.random.random()
        while self._minute and self._minute[0] < self.now - 60:
            self._minute.popleft()
        full = self._serving + len(self._queue) >= weather.capacity(self.now)
        if (
            (weather.rejects and full)
            or len(self._minute) >= weather.per_minute
            or draw < weather.random_429
        ):
            self.after(0.02, lambda: self.refuse(call))
        elif (
            self.random.random() < weather.hang_share(self.now)
            or self._serving + len(self._queue) + self._hanging >= weather.hang_above
        ):
            self._hanging += 1
            self.after(weather.timeout_s, lambda: self.hung(call))
        elif self.random.random() < weather.error_share(self.now):
            self.after(0.05, lambda: self.end(call, "failed"))
        else:
            self._minute.append(self.now)
            open_ = [True]
            self._queue.append((call, open_))
            self.after(weather.timeout_s, lambda: self.give_up(call, open_))
            self.serve()

    def serve(self) -> None:
        while self._queue and self._serving < self.weather.capacity(self.now):
            call, open_ = self._queue.popleft()
            if not open_[0]:
                continue  # the client hung up while it queued
            self._serving += 1
            span = self.weather.service_s * self.random.lognormvariate(0, self.weather.sigma)
            if self.random.random() < self.weather.slow_share:
                span *= self.weather.slow_factor
            self.after(span, lambda call=call, open_=open_: self.served(call, open_))  # type: ignore[misc]

    def served(self, call: Call, open_: list[bool]) -> None:
        self._serving -= 1
        if open_[0]:
            open_[0] = False
            self.end(call, "ok")
        self.serve()

    def give_up(self, call: Call, open_: list[bool]) -> None:
        if open_[0]:
            open_[0] = False
            self.end(call, "timed_out")

    def refuse(self, call: Call) -> None:
        asked_s = self.weather.retry_after_s
        if asked_s:
            self._paused_until = self.now + asked_s
            self.after(asked_s, lambda: None)  # so that it is looked whether calls can go
        self.end(call, "throttled", asked_s)

    def hung(self, call: Call) -> None:
        self._hanging -= 1
        self.end(call, "timed_out")

    def end(self, call: Call, how: str, retry_after_s: float = 0.0) -> None:
        self.core.end(call, how, retry_after_s=retry_after_s)  # type: ignore[arg-type]
        self.run.ends[how] = self.run.ends.get(how, 0) + 1
        if how == "ok":
            self.run.done += self.now >= self.weather.skip_s
            self.after(self.think(), self.want)
        else:
            self.after(self.random.uniform(0, 2 * self.weather.backoff_s), self.want)

    def think(self) -> float:
        return self.random.expovariate(1 / self.weather.think_s) if self.weather.think_s else 0.0


def queueing(capacity: float, **more: object) -> Weather:
    return replace(Weather(capacity=always(capacity)), **more)  # type: ignore[arg-type]


def rejecting(capacity: float, **more: object) -> Weather:
    return replace(queueing(capacity), rejects=True, **more)  # type: ignore[arg-type]


WEATHERS: dict[str, Weather] = {
    "queues above 4": queueing(4),
    "queues above 16": queueing(16),
    "queues above 64": queueing(64, clients=512),
    "no capacity limit, 128 clients": Weather(clients=128, length_s=60),
    "rejects above 4": rejecting(4),
    "rejects above 10": rejecting(10),
    "rejects above 16": rejecting(16),
    "rejects above 64": rejecting(64),
    "rejects above 4, Retry-After": rejecting(4, retry_after_s=1.0),
    "rejects above 24, Retry-After": rejecting(24, retry_after_s=1.0),
    "rejects above 24, a long Retry-After": rejecting(24, retry_after_s=5.0, length_s=240),
    "bimodal, queues above 32": queueing(32, slow_share=0.1),
    "bimodal, rejects above 32": rejecting(32, slow_share=0.1),
    "plateau of timeouts for 20 s": replace(
        queueing(32), hang_share=between(30, 50, 1.0, 0.0), timeout_s=3.0
    ),
    "plateau of timeouts from the start": replace(
        queueing(32), hang_share=between(0, 20, 1.0, 0.0), timeout_s=3.0, length_s=120
    ),
    "above 24 all hang": Weather(hang_above=24, timeout_s=3.0, length_s=120),
    "above 24 all hang for long": Weather(hang_above=24, timeout_s=20.0, length_s=600),
    "a third hangs for ever": replace(
        queueing(64), hang_share=always(0.3), timeout_s=5.0, clients=512, length_s=240, skip_s=60
    ),
    "times out from 12 on (capacity 4)": queueing(4, timeout_s=1.5, length_s=180),
    "queues, capacity 32, 8, 32": replace(Weather(length_s=120), capacity=between(40, 70, 8, 32)),
    "queues, capacity 64, 8, 64": replace(Weather(length_s=150), capacity=between(40, 70, 8, 64)),
    "rejects, capacity 32, 8, 32": replace(
        Weather(rejects=True, length_s=120), capacity=between(40, 70, 8, 32)
    ),
    "rejects, capacity 64, 8, 64": replace(
        Weather(rejects=True, length_s=150), capacity=between(40, 70, 8, 64)
    ),
    "rejects with Retry-After, capacity 32, 8, 32": replace(
        Weather(rejects=True, retry_after_s=1.0, length_s=150), capacity=between(40, 70, 8, 32)
    ),
    "a 6 s outage": replace(queueing(32), error_share=between(30, 36, 1.0, 0.0)),
    "a tenth fails for ever": replace(queueing(64), error_share=always(0.1), clients=512),
    "a twentieth is refused at random": replace(
        queueing(64), random_429=0.05, clients=512, length_s=150
    ),
    "slow provider (22 s a call), queues above 32": queueing(
        32, service_s=22.0, timeout_s=300, length_s=1200
    ),
    "slow provider, rejects above 8": rejecting(
        8, service_s=22.0, timeout_s=300, length_s=1200, clients=32
    ),
}


HARDER = {
    # A minute is spent in its first seconds and nothing says so: the budget's work, not ours.
    "300 a minute, no header": queueing(64, per_minute=300, length_s=300, skip_s=60),
}
LIGHT = {
    "one client": Weather(clients=1),
    "six clients": Weather(clients=6),
    "forty clients that mostly think": Weather(clients=40, think_s=4.0),
}


def best_fixed(weather: Weather, seed: int) -> tuple[float, int]:
    """The goodput of the best fixed limit, and the smallest that comes within 2 % of it."""
    grid = {fixed: Simulation(weather, seed, fixed).play().goodput(weather) for fixed in FIXED}
    best = max(grid.values())
    return best, min(fixed for fixed, goodput in grid.items() if goodput >= 0.98 * best)


@pytest.mark.parametrize("name", [*WEATHERS, *HARDER])
def test_little_is_lost_against_the_best_fixed_limit(name: str) -> None:
    weather, bar = (WEATHERS | HARDER)[name], 0.15 if name in WEATHERS else 0.2
    best, fixed = best_fixed(weather, seed=1_000)
    runs = [Simulation(weather, seed) for seed in range(2)]
    lost = [1 - run.play().goodput(weather) / best for run in runs]
    assert statistics.mean(lost) <= bar, lost
    for run in runs:
        assert run.run.most_in_flight <= max(limit for _, limit in run.run.limits)
        end = run.run.limit_between(0.75 * weather.length_s, weather.length_s)
        floor, ceiling = run.core.settings.minimum, run.core.settings.maximum
        assert max(floor, fixed / 3) <= end < ceiling * 0.9
        assert end > floor or fixed <= 2


@pytest.mark.parametrize("name", LIGHT)
def test_light_load_does_not_grow_the_limit(name: str) -> None:
    run = Simulation(LIGHT[name], seed=1)
    run.play()
    assert {change.limit for change in run.core.history} == {16}


def test_a_total_plateau_neither_climbs_nor_freezes() -> None:
    weather = Weather(hang_share=between(0, 60, 1.0, 0.0), timeout_s=2.0, clients=512)
    run = Simulation(weather, seed=1)
    run.play()
    assert max(limit for at, limit in run.run.limits if at < 60) == 16
    assert min(limit for at, limit in run.run.limits if at < 60) < 8
    assert max(limit for _, limit in run.run.limits) >= 64


def test_an_episode_of_refusals_cuts_once() -> None:
    now = 0.0
    core = Concurrency(LimiterSettings(), lambda: now)
    calls = [core.begin() for _ in range(16)]
    core.end(calls.pop(), "ok", 1.0)
    for call in calls[:2]:
        core.end(call, "throttled", retry_after_s=2.0)
    assert core.limit == 12
    now = 1.9
    core.end(core.begin(), "throttled")  # inside Retry-After
    assert core.limit == 12
    now = 4.0
    for _ in range(4):
        core.begin()
    core.end(core.begin(), "throttled")
    assert core.limit < 12
    assert [change.reason for change in core.history][1:] == ["too many requests (429)"] * 2


def test_an_episode_with_a_pause_finds_at_once_what_was_accepted() -> None:
    core = Concurrency(LimiterSettings(), lambda: 0.0)
    calls = [core.begin() for _ in range(5)]
    core.end(calls.pop(), "throttled", retry_after_s=1.0)
    assert core.limit == 4
    calls += [core.begin() for _ in range(2)]
    core.end(calls.pop(), "throttled", retry_after_s=1.0)
    core.end(calls.pop(), "throttled", retry_after_s=1.0)
    assert core.limit == 4


class Backlog:
    """As many calls in flight as the limit allows; each ends as told, after the same time."""

    def __init__(self) -> None:
        self.now = 0.0
        self.core = Concurrency(LimiterSettings(), lambda: self.now)
        self._calls: deque[Call] = deque()

    def play(self, how: End, span_s: float, length_s: float) -> None:
        end = self.now + length_s
        while self.now < end:
            while self.core.in_flight < self.core.limit:
                self._calls.append(self.core.begin())
            self.now += span_s / len(self._calls)
            self.core.end(self._calls.popleft(), how, span_s)


def test_a_step_up_that_ends_in_timeouts_is_undone_before_its_round_is_over() -> None:
    backlog = Backlog()
    core = backlog.core
    for call in [core.begin() for _ in range(16)]:
        core.end(call, "ok", 0.1)
    assert (core.limit, core.phase) == (32, "doubling")
    calls = [core.begin() for _ in range(32)]
    backlog.now += 2.0
    for call in calls[:5]:
        core.end(call, "timed_out", 2.0)
    assert (core.limit, core.phase) == (16, "steady")
    assert core.history[-1].reason == "calls time out at 32"
    for call in calls[5:]:
        core.end(call, "timed_out", 2.0)
    backlog.play("ok", 0.1, 19.0)  # it cost 2 s: it may not be repeated for ten times as long
    assert core.limit == 16
    backlog.play("ok", 0.1, 5.0)
    assert core.limit > 16


def test_timeouts_at_the_old_limit_too_were_not_the_steps_fault() -> None:
    backlog = Backlog()
    backlog.play("ok", 0.1, 0.12)
    backlog.play("timed_out", 5.0, 20.0)
    assert backlog.core.limit < 16
    backlog.play("ok", 0.1, 10.0)
    assert backlog.core.limit > 16  # where 50 s of rest would have been due


def test_a_provider_that_has_become_faster_is_tried_with_twice_as_many() -> None:
    backlog = Backlog()
    core = backlog.core
    while core.phase != "steady":
        backlog.play("ok", core.limit / 16, 1.0)  # 16 a second, however many at once
    backlog.play("ok", core.limit / 16, 4.0)
    known = core.limit
    backlog.play("ok", known / 64, 2.0)
    assert core.limit >= 2 * known
    assert "the provider has become faster" in [change.reason for change in core.history]


def test_failures_stop_growth_and_never_cut() -> None:
    core = Concurrency(LimiterSettings(), lambda: 0.0)
    for _ in range(10):
        calls = [core.begin() for _ in range(core.limit)]
        for call in calls:
            core.end(call, "failed", 0.1)
    assert [change.limit for change in core.history] == [16]


def report(seeds: int, only: str = "") -> None:
    """Prints the regret table over many seeds."""
    sys.stdout.write(
        f"{'weather':46} best   mean    p95  worst | limit p5..p95 of the last half, 429s\n"
    )
    for name, weather in (WEATHERS | HARDER).items():
        if only not in name:
            continue
        grid = {
            fixed: statistics.mean(
                Simulation(weather, 1000 + s, fixed).play().goodput(weather) for s in range(2)
            )
            for fixed in FIXED
        }
        fixed, best = max(grid.items(), key=lambda pair: (round(pair[1], 1), -pair[0]))
        runs = [Simulation(weather, seed) for seed in range(seeds)]
        lost = sorted(1 - run.play().goodput(weather) / best for run in runs)
        ends = sorted(run.run.limit_between(weather.length_s / 2, weather.length_s) for run in runs)
        refused = statistics.mean(
            run.run.ends.get("throttled", 0) / sum(run.run.ends.values()) for run in runs
        )
        sys.stdout.write(
            f"{name:46} {fixed:4} {statistics.mean(lost):6.1%} {lost[int(0.95 * (seeds - 1))]:6.1%}"
            f" {lost[-1]:6.1%} | {ends[int(0.05 * seeds)]:.0f}..{ends[int(0.95 * (seeds - 1))]:.0f}"
            f"  {refused:.1%}\n"
        )


if __name__ == "__main__":
    report(int(sys.argv[1]) if len(sys.argv) > 1 else 10, sys.argv[2] if len(sys.argv) > 2 else "")
