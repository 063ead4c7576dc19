"""Loads on systems whose behaviour is known: whatever is scheduled is counted."""

from __future__ import annotations

import asyncio
import json
import math
from dataclasses import dataclass
from itertools import pairwise

import pytest

from rag_lab.errors import SettingsError
from rag_lab.evaluation.load import Asked, LoadResult, closed_loop, open_loop
from rag_lab.telemetry.trace import clock

STALL_S = 0.4


@dataclass
class Told:
    degraded: tuple[str, ...] = ()


async def instant(question: str, scheduled_at: float) -> Told:
    return Told()


class Counter:
    """Serves one question at a time; the one numbered `stalls_at` holds all that come after."""

    def __init__(self, stalls_at: int = -1) -> None:
        self._stalls_at = stalls_at
        self._turn = asyncio.Lock()
        self.asked: list[str] = []
        self.served_s: list[float] = []

    async def __call__(self, question: str, scheduled_at: float) -> Told:
        self.asked.append(question)
        async with self._turn:
            began = clock()
            if len(self.served_s) == self._stalls_at:
                await asyncio.sleep(STALL_S)
            self.served_s.append(clock() - began)
        return Told()


async def test_a_stall_shows_in_the_latency_of_those_who_waited_behind_it() -> None:
    counter = Counter(stalls_at=20)
    load = await open_loop(counter, ["?"], rate_per_s=200, count=100)
    held = [request for request in load.asked if request.latency_s > STALL_S / 4]
    assert len(held) > 20  # one call was slow, but at 200 a second many were due meanwhile
    assert load.latency_s(0.9) > STALL_S / 4
    assert load.latency_s(0.99) > STALL_S / 2
    # A clock that starts when a question is served would have seen one slow call.
    assert sum(served > STALL_S / 4 for served in counter.served_s) == 1


async def test_latency_counts_from_the_schedule_even_if_the_event_loop_was_held() -> None:
    def hold() -> None:
        until = clock() + 0.2
        while clock() < until:
            pass

    async def ask(question: str, scheduled_at: float) -> Told:
        if question == "first":
            hold()
        return Told()

    load = await open_loop(ask, ["first", *["other"] * 9], rate_per_s=1_000, count=10)
    assert min(request.latency_s for request in load.asked[1:]) > 0.1
    assert all(request.started_s >= request.scheduled_s for request in load.asked)  # type: ignore[operator]


async def test_the_system_is_told_when_it_was_meant_to_start() -> None:
    told: list[float] = []

    async def ask(question: str, scheduled_at: float) -> Told:
        told.append(scheduled_at)
        return Told()

    before = clock()
    load = await open_loop(ask, ["?"], rate_per_s=math.inf, count=5)
    assert len(set(told)) == 1  # all at once
    assert before <= told[0] <= clock()
    assert [request.scheduled_s for request in load.asked] == [0.0] * 5


async def test_arrivals_are_those_of_the_seed() -> None:
    async def moments(seed: int) -> list[float]:
        load = await open_loop(instant, ["?"], rate_per_s=2_000, count=40, seed=seed)
        return [request.scheduled_s for request in load.asked]

    first = await moments(1)
    assert first == await moments(1) != await moments(2)
    assert first == sorted(first)
    gaps = [later - earlier for earlier, later in pairwise(first)]
    assert 1 / 4_000 < sum(gaps) / len(gaps) < 1 / 1_000


async def test_failures_and_degraded_answers_are_kept_and_counted() -> None:
    async def ask(question: str, scheduled_at: float) -> Told:
        if question == "bad":
            raise ValueError("no such thing")
        return Told(("keyword search only",) if question == "poor" else ())

    load = await open_loop(ask, ["good", "bad", "poor"], rate_per_s=math.inf, count=6)
    assert (load.planned, load.attempted, load.answered) == (6, 6, 4)
    assert (load.degraded, load.failed) == (2, 2)
    assert [request.outcome for request in load.asked[:3]] == ["answered", "failed", "degraded"]
    assert load.asked[1].reason == "ValueError: no such thing"
    assert load.asked[2].reason == "keyword search only"


async def test_what_is_not_done_by_the_deadline_is_cut_off_and_counted() -> None:
    cancelled: list[str] = []

    async def ask(question: str, scheduled_at: float) -> Told:
        if question == "hangs":
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.append(question)
                raise
        return Told()

    load = await open_loop(ask, ["quick", "hangs"], rate_per_s=math.inf, count=4, deadline_s=0.1)
    assert (load.attempted, load.answered, load.failed) == (4, 2, 2)
    assert cancelled == ["hangs", "hangs"]
    assert load.asked[1].reason == "not done within 0.1 s"
    assert [request.cut_off for request in load.asked] == [False, True, False, True]
    assert load.latency_s(1.0) >= 0.1


async def test_exact_arrivals_are_all_within_their_time() -> None:
    async def moments(seed: int) -> list[float]:
        load = await open_loop(instant, ["?"], rate_per_s=2_000, count=100, seed=seed, exact=True)
        return [request.scheduled_s for request in load.asked]

    first = await moments(1)
    assert first == await moments(1) != await moments(2)
    assert first == sorted(first)
    assert first[0] >= 0
    assert 0.04 < first[-1] <= 0.05


async def test_what_is_under_way_is_dropped_when_there_is_a_reason() -> None:
    seen: list[int] = []

    async def hang(question: str, scheduled_at: float) -> Told:
        if question == "quick":
            return Told()
        await asyncio.Event().wait()
        return Told()

    def drop(number: int, at_s: float) -> str:
        seen.append(number)
        return "enough" if number == 6 else ""

    load = await open_loop(hang, ["quick", "hangs"], rate_per_s=500, count=50, drop=drop)
    assert seen == list(range(7))
    assert (load.planned, load.attempted, load.answered, load.failed) == (50, 6, 3, 3)
    assert [(r.reason, r.cut_off) for r in load.asked[:2]] == [("", False), ("enough", True)]


async def test_ends_are_told_with_their_answers() -> None:
    ended: list[tuple[Asked, Told | None]] = []

    async def ask(question: str, scheduled_at: float) -> Told:
        if question == "bad":
            raise ValueError("no such thing")
        return Told((question,))

    load = await closed_loop(
        ask, ["a", "bad"], users=1, count=3, ended=lambda *each: ended.append(each)
    )
    assert tuple(asked for asked, _ in ended) == load.asked
    assert [answer for _, answer in ended] == [Told(("a",)), None, Told(("a",))]


async def test_users_go_on_until_their_time_is_over() -> None:
    async def ask(question: str, scheduled_at: float) -> Told:
        await asyncio.sleep(0.01)
        return Told()

    load = await closed_loop(ask, ["?"], users=3, count=2, at_least_s=0.1)
    assert load.planned == load.attempted == load.answered > 3
    assert max(request.scheduled_s for request in load.asked) < 0.1 <= load.wall_s


async def test_requests_whose_moment_never_came_were_not_attempted() -> None:
    load = await open_loop(instant, ["?"], rate_per_s=20, count=1_000, deadline_s=0.2)
    assert load.planned == 1_000
    assert 1 <= load.attempted == load.answered < 1_000


async def test_users_of_a_closed_loop_wait_for_their_answers() -> None:
    running, most = 0, 0

    async def ask(question: str, scheduled_at: float) -> Told:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.001)
        running -= 1
        return Told()

    load = await closed_loop(ask, ["a", "b"], users=3, count=10)
    assert (load.attempted, load.answered, most) == (10, 10, 3)
    assert [request.id for request in load.asked] == list(range(10))


async def test_questions_are_asked_in_turn() -> None:
    counter = Counter()
    await closed_loop(counter, ["a", "b", "c"], users=1, count=5)
    assert counter.asked == ["a", "b", "c", "a", "b"]


def test_quantiles_are_over_all_requests() -> None:
    asked = tuple(Asked(n, 1.0, 1.0, 1.0 + n, "failed" if n == 4 else "answered") for n in range(5))
    load = LoadResult(asked, planned=5, wall_s=5.0)
    assert load.latency_s(0.5) == 2.0
    assert load.latency_s(1.0) == 4.0
    assert load.per_s == pytest.approx(4 / 5)
    assert math.isnan(LoadResult((), 0, 0.0).latency_s(0.5))


async def test_the_result_is_data() -> None:
    load = await open_loop(instant, ["?"], rate_per_s=math.inf, count=2)
    whole = load.to_dict(requests=True)
    assert json.loads(json.dumps(whole)) == whole
    assert {"p50_s", "p95_s", "p99_s", "per_s", "answered", "failed"} <= set(whole)
    assert whole["requests"][1]["outcome"] == "answered"
    assert "requests" not in load.to_dict()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"questions": []}, "needs questions"),
        ({"count": 0}, "count must be above 0, got 0"),
        ({"rate_per_s": 0.0}, "rate_per_s must be above 0"),
        ({"deadline_s": -1.0}, "deadline_s must be above 0"),
    ],
)
async def test_a_load_that_cannot_be_is_refused(wrong: dict[str, object], said: str) -> None:
    given = {"questions": ["?"], "rate_per_s": 1.0, "count": 1, **wrong}
    with pytest.raises(SettingsError, match=said):
        await open_loop(instant, **given)  # type: ignore[arg-type]
    if "rate_per_s" not in wrong:
        given["users"] = 1
        given.pop("rate_per_s")
        with pytest.raises(SettingsError, match=said):
            await closed_loop(instant, **given)  # type: ignore[arg-type]
