"""Slots: never more than the limit, none lost, in order, whatever is cancelled, in any loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_lab.errors import SettingsError
from rag_lab.gateway.limiter import AdaptiveLimiter, LimiterSettings, Slot
from rag_lab.gateway.rounds import Level, Round
from rag_lab.gateway.waiters import BULK_SHARE, Priority


def of(limit: int) -> AdaptiveLimiter:
    limiter = AdaptiveLimiter()
    limiter.fix(limit)
    return limiter


async def turns(times: int = 5) -> None:
    for _ in range(times):
        await asyncio.sleep(0)


ENDS: list[Callable[[Slot], None]] = [
    lambda slot: slot.succeeded(0.1, items=3),
    lambda slot: slot.throttled(),
    lambda slot: slot.timed_out(),
    lambda slot: slot.failed(),
    lambda slot: None,
]
Step = tuple[str, int]
STEPS = st.lists(
    st.tuples(st.sampled_from(["ask", "ask bulk", "end", "cancel", "turn", "fix"]), st.integers(0)),
    max_size=60,
)


@given(limit=st.integers(1, 4), adaptive=st.booleans(), steps=STEPS)
def test_accounting(limit: int, adaptive: bool, steps: list[Step]) -> None:
    asyncio.run(play(limit, adaptive, steps))


async def play(limit: int, adaptive: bool, steps: list[Step]) -> None:
    limiter = AdaptiveLimiter(LimiterSettings(start=limit, maximum=8))
    if not adaptive:
        limiter.fix(limit)
    inside: list[int] = []
    doors: list[asyncio.Event] = []
    tasks: list[asyncio.Task[None]] = []
    most = limit

    async def caller(number: int, priority: Priority, end: Callable[[Slot], None]) -> None:
        async with limiter.slot(priority=priority) as slot:
            inside.append(number)
            try:
                await doors[number].wait()
                end(slot)
            finally:
                inside.remove(number)

    for what, number in steps:
        if what.startswith("ask"):
            doors.append(asyncio.Event())
            priority: Priority = "bulk" if what.endswith("bulk") else "interactive"
            end = ENDS[number % len(ENDS)]
            tasks.append(asyncio.create_task(caller(len(doors) - 1, priority, end)))
        elif what == "fix" and not adaptive:
            limiter.fix(1 + number % 4)
        elif what == "end" and inside:
            doors[inside[number % len(inside)]].set()
        elif what == "cancel" and tasks:
            tasks[number % len(tasks)].cancel()
        elif what == "turn":
            await turns(number % 3 + 1)
        most = max(most, limiter.limit)
        assert limiter.in_flight >= len(inside)
        assert max(limiter.in_flight, len(inside)) <= most
    for door in doors:
        door.set()
    for _ in range(20):
        await turns()
        most = max(most, limiter.limit)
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(r is None or isinstance(r, asyncio.CancelledError) for r in results)
    assert (limiter.in_flight, limiter.waiting) == (0, 0)


async def order(limiter: AdaptiveLimiter, asked: list[Priority]) -> list[int]:
    """Who is served when, if all ask while the only slot is taken."""
    served: list[int] = []

    async def caller(number: int) -> None:
        async with limiter.slot(priority=asked[number]):
            served.append(number)

    async with limiter.slot():
        tasks = [asyncio.create_task(caller(number)) for number in range(len(asked))]
        await turns()
        assert limiter.waiting == len(asked)
    await asyncio.gather(*tasks)
    return served


@given(st.lists(st.sampled_from(["interactive", "bulk"]), max_size=BULK_SHARE - 1))
def test_interactive_goes_first_and_each_in_order(asked: list[Priority]) -> None:
    served = asyncio.run(order(of(1), asked))
    assert served == sorted(range(len(asked)), key=lambda n: (asked[n] == "bulk", n))


async def test_every_eighth_turn_is_for_bulk() -> None:
    limiter = of(1)
    asked: list[Priority] = ["bulk", *["interactive"] * 20]  # type: ignore[list-item]
    assert (await order(limiter, asked)).index(0) == BULK_SHARE - 1


async def test_a_slot_is_free_once_the_outcome_is_told() -> None:
    limiter = of(1)
    async with limiter.slot() as first:
        first.succeeded()
        first.failed()  # told already: says nothing
        assert limiter.in_flight == 0
        async with limiter.slot(priority="interactive") as second:
            assert second.waited_s >= 0
            assert limiter.in_flight == 1
    assert limiter.in_flight == 0


async def test_a_failing_block_gives_its_slot_back() -> None:
    limiter = of(1)
    with pytest.raises(ValueError, match="ours"):
        async with limiter.slot():
            raise ValueError("ours")
    assert limiter.in_flight == 0


async def test_a_waiter_cancelled_as_it_is_served_passes_the_slot_on() -> None:
    limiter = of(1)
    got: list[str] = []

    async def caller(name: str) -> None:
        async with limiter.slot():
            got.append(name)

    async with limiter.slot() as slot:
        unlucky, next_one = (asyncio.create_task(caller(name)) for name in ("unlucky", "next"))
        await turns()
        slot.succeeded()  # serves the first…
        unlucky.cancel()  # …which is cancelled before it runs
    await asyncio.gather(unlucky, next_one, return_exceptions=True)
    assert (got, limiter.in_flight) == (["next"], 0)


async def test_raising_the_limit_lets_the_waiting_in() -> None:
    limiter = of(1)
    async with limiter.slot():
        task = asyncio.create_task(hold(limiter, asyncio.Event()))
        await turns()
        assert limiter.waiting == 1
        limiter.fix(2)
        await turns()
        assert (limiter.waiting, limiter.in_flight) == (0, 2)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def hold(limiter: AdaptiveLimiter, door: asyncio.Event) -> None:
    async with limiter.slot():
        await door.wait()


def abandon(work: Callable[[], Coroutine[Any, Any, None]]) -> list[asyncio.Task[None]]:
    """Runs a loop for a moment and closes it with its tasks unfinished."""
    loop = asyncio.new_event_loop()
    tasks = [loop.create_task(work()) for _ in range(3)]
    loop.run_until_complete(turns())
    loop.close()
    return tasks


def silence(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        task.get_coro().close()  # type: ignore[union-attr]


@pytest.mark.parametrize("closed", ["before", "after"])
def test_slots_and_waiters_of_a_dead_loop_are_dropped(closed: str) -> None:
    limiter = of(2)
    tasks = abandon(lambda: hold(limiter, asyncio.Event()))
    assert (limiter.in_flight, limiter.waiting) == (2, 0)  # the third died waiting
    if closed == "before":
        silence(tasks)
    assert asyncio.run(order(of(1), ["bulk"])) == [0]

    async def use() -> None:
        async with limiter.slot(), limiter.slot():
            assert limiter.in_flight == 2

    asyncio.run(use())
    if closed == "after":
        silence(tasks)  # late clean-up frees nothing twice
    assert limiter.in_flight == 0


def test_a_loop_that_stands_still_keeps_its_place() -> None:
    limiter = of(1)
    loop, door = asyncio.new_event_loop(), asyncio.Event()
    first, second = (loop.create_task(hold(limiter, door)) for _ in range(2))
    loop.run_until_complete(turns())
    assert (limiter.in_flight, limiter.waiting) == (1, 1)
    door.set()
    loop.run_until_complete(asyncio.wait_for(asyncio.gather(first, second), 1))
    loop.close()
    assert (limiter.in_flight, limiter.waiting) == (0, 0)


def test_fix_and_adapt() -> None:
    limiter = AdaptiveLimiter(clock=lambda: 7.0)
    assert (limiter.limit, limiter.snapshot().phase) == (16, "doubling")
    limiter.fix(5)
    limiter.fix(3)
    assert (limiter.limit, limiter.snapshot().phase) == (3, "fixed")
    limiter.adapt()
    shot = limiter.snapshot()
    assert (shot.limit, shot.phase, shot.reason) == (3, "steady", "adapts again")
    assert [(c.at, c.limit) for c in limiter.history] == [(7, 16), (7, 5), (7, 3), (7, 3)]
    with pytest.raises(SettingsError, match="between 1 and 512, got 0"):
        limiter.fix(0)


def test_settings_in_the_wrong_order() -> None:
    with pytest.raises(SettingsError, match="minimum 1, start 16, maximum 8"):
        LimiterSettings(maximum=8)


def test_goodput_and_yield_by_hand() -> None:
    done = Round(limit=4, wanted=4)
    for _ in range(4):
        done.admit(4)
    for span in (1.0, 1.0, 1.0, 9.0):  # the straggler counts 3 s: 6 slot seconds for 8 items
        done.count("ok", span, 2)
    assert done.goodput == pytest.approx(4 * 8 / 6)
    assert Level(32, 20.0).growth_from(Level(16, 10.0)) == pytest.approx(1.0)
    assert Level(32, 10.0).growth_from(Level(16, 10.0)) == pytest.approx(0.0)
    assert Level(8, 5.0).growth_from(Level(16, 10.0)) == pytest.approx(1.0)
