"""What is in flight is asked once, by whoever, and ends with its last waiter."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_lab.gateway.flight import SingleFlight
from watched import run, settle


class Work:
    """Factories that end when the test says so, all counted."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.ends: list[asyncio.Future[Any]] = []
        self.cancelled: list[int] = []

    def __call__(self, key: str) -> Callable[[], Awaitable[Any]]:
        async def work() -> Any:
            number = len(self.asked)
            self.asked.append(key)
            self.ends.append(asyncio.get_running_loop().create_future())
            try:
                return await self.ends[number]
            except asyncio.CancelledError:
                self.cancelled.append(number)
                raise

        return work


def test_the_same_key_is_asked_once_and_all_get_the_result() -> None:
    flight: SingleFlight[str, Any] = SingleFlight()
    work = Work()

    async def main() -> None:
        waiting = [asyncio.create_task(flight.run("a", work("a"))) for _ in range(3)]
        other = asyncio.create_task(flight.run("b", work("b")))
        await settle()
        assert (work.asked, flight.in_flight) == (["a", "b"], 2)
        answer = object()
        work.ends[0].set_result(answer)
        work.ends[1].set_result(2)
        assert all(found is answer for found in await asyncio.gather(*waiting))
        assert await other == 2
        assert (flight.started, flight.shared, flight.in_flight) == (2, 2, 0)

    run(main)


def test_what_is_done_is_forgotten() -> None:
    flight: SingleFlight[str, int] = SingleFlight()

    async def main() -> None:
        async def one() -> int:
            return 1

        async def two() -> int:
            return 2

        assert await flight.run("a", one) == 1
        assert await flight.run("a", two) == 2

    run(main)


def test_a_key_is_free_in_the_very_turn_its_work_ends() -> None:
    flight: SingleFlight[str, Any] = SingleFlight()
    work = Work()

    async def main() -> None:
        first = asyncio.create_task(flight.run("a", work("a")))
        await settle()
        work.ends[0].set_exception(OSError("old"))
        second = asyncio.create_task(flight.run("a", work("a")))
        await settle()
        work.ends[1].set_result("new")
        assert await second == "new"
        with pytest.raises(OSError, match="old"):
            await first

    run(main)


def test_work_that_fails_once_nobody_waits_is_no_complaint() -> None:
    flight: SingleFlight[str, Any] = SingleFlight()

    async def stubborn() -> None:
        try:
            await asyncio.sleep(30)
        finally:
            raise OSError("in the middle of leaving")

    async def main() -> None:
        task = asyncio.create_task(flight.run("a", stubborn))
        await settle()
        task.cancel()
        await settle()
        assert task.cancelled()

    run(main)


def test_all_get_the_error_and_the_next_asks_again() -> None:
    flight: SingleFlight[str, Any] = SingleFlight()
    work = Work()

    async def main() -> None:
        waiting = [asyncio.create_task(flight.run("a", work("a"))) for _ in range(3)]
        await settle()
        error = OSError("gone")
        work.ends[0].set_exception(error)
        assert await asyncio.gather(*waiting, return_exceptions=True) == [error] * 3
        again = asyncio.create_task(flight.run("a", work("a")))
        await settle()
        work.ends[1].set_result(1)
        assert await again == 1

    run(main)


def test_a_shared_error_does_not_collect_the_traces_of_its_waiters() -> None:
    flight: SingleFlight[str, Any] = SingleFlight()

    async def main() -> None:
        async def fail() -> None:
            await asyncio.sleep(0)
            raise OSError("gone")

        asked = (flight.run("a", fail) for _ in range(50))
        error, *_ = await asyncio.gather(*asked, return_exceptions=True)
        assert isinstance(error, OSError)
        depth, trace = 0, error.__traceback__
        while trace is not None:
            depth, trace = depth + 1, trace.tb_next
        assert depth < 8

    run(main)


def test_a_factory_that_fails_before_it_starts_is_an_error_too() -> None:
    flight: SingleFlight[str, Any] = SingleFlight()

    async def main() -> None:
        def broken() -> Awaitable[Any]:
            raise OSError("no factory")

        with pytest.raises(OSError, match="no factory"):
            await flight.run("a", broken)

    run(main)


@pytest.mark.parametrize("first", [0, 1])
def test_cancelling_one_leaves_the_others(first: int) -> None:
    flight: SingleFlight[str, Any] = SingleFlight()
    work = Work()

    async def main() -> None:
        waiting = [asyncio.create_task(flight.run("a", work("a"))) for _ in range(2)]
        await settle()
        waiting.pop(first).cancel()
        await settle()
        work.ends[0].set_result(1)
        assert await waiting[0] == 1
        assert work.cancelled == []

    run(main)


def test_the_last_to_be_cancelled_cancels_the_work_and_frees_the_key() -> None:
    flight: SingleFlight[str, Any] = SingleFlight()
    work = Work()

    async def main() -> None:
        waiting = [asyncio.create_task(flight.run("a", work("a"))) for _ in range(2)]
        await settle()
        for task in waiting:
            task.cancel()
        await asyncio.sleep(0)
        assert flight.in_flight == 0
        later = asyncio.create_task(flight.run("a", work("a")))  # while the first is ending
        await settle()
        assert work.cancelled == [0]
        joined = asyncio.create_task(flight.run("a", work("a")))
        await settle()
        work.ends[1].set_result(2)
        assert await asyncio.gather(later, joined) == [2, 2]
        assert len(work.asked) == 2

    run(main)


def test_a_loop_that_died_in_mid_flight_does_not_matter_to_the_next() -> None:
    flight: SingleFlight[str, Any] = SingleFlight()
    work = Work()

    async def give_up() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(flight.run("a", work("a")), 0.001)
        asyncio.create_task(flight.run("a", work("a")))  # noqa: RUF006 (left to the loop's end)
        await settle()

    asyncio.run(give_up())

    async def main() -> None:
        asked = asyncio.create_task(flight.run("a", work("a")))
        await settle()
        work.ends[-1].set_result(3)
        assert await asked == 3

    run(main)
    assert flight.in_flight == 0


def test_loops_in_two_threads_do_not_share() -> None:
    flight: SingleFlight[str, int] = SingleFlight()

    async def ask() -> list[int]:
        async def slow() -> int:
            await asyncio.sleep(0.01)
            return 1

        return await asyncio.gather(*(flight.run("a", slow) for _ in range(5)))

    async def main() -> None:
        both = await asyncio.gather(*(asyncio.to_thread(asyncio.run, ask()) for _ in range(2)))
        assert both == [[1] * 5] * 2

    asyncio.run(main())
    assert (flight.started, flight.shared) == (2, 8)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.sampled_from("ab")),
        st.tuples(st.just("cancel"), st.integers(0, 9)),
        st.tuples(st.sampled_from(["answer", "fail"]), st.integers(0, 9)),
        st.tuples(st.just("turn"), st.integers(1, 3)),
    ),
    max_size=40,
)


@given(STEPS)
def test_any_interleaving(steps: list[tuple[str, Any]]) -> None:
    """Never two at once for a key that is wanted; all who stay get an answer to their key."""
    flight: SingleFlight[str, Any] = SingleFlight()
    work = Work()

    async def main() -> None:
        waiting: list[tuple[str, asyncio.Task[Any]]] = []
        left: set[int] = set()
        for step, value in steps:
            if step == "ask":
                waiting.append((value, asyncio.create_task(flight.run(value, work(value)))))
            elif step == "turn":
                for _ in range(value):
                    await asyncio.sleep(0)
            elif step == "cancel" and value < len(waiting):
                if waiting[value][1].cancel():
                    left.add(value)
            elif value < len(work.ends) and not work.ends[value].done():
                if step == "answer":
                    work.ends[value].set_result((work.asked[value], value))
                else:
                    work.ends[value].set_exception(OSError(work.asked[value]))
            # The first turn of a step that ends work may still hold it: count what is undecided.
            open_work = [k for k, end in zip(work.asked, work.ends, strict=True) if not end.done()]
            assert len(open_work) - len(set(open_work)) <= len(left)
        await settle()
        for end, key in zip(work.ends, work.asked, strict=True):
            if not end.done():
                end.set_result((key, "late"))
        await settle()
        for end, key in zip(work.ends, work.asked, strict=True):  # begun in the last turns
            if not end.done():
                end.set_result((key, "last"))
        for place, (key, task) in enumerate(waiting):
            if place in left:
                with pytest.raises(asyncio.CancelledError):
                    await task
            else:
                (outcome,) = await asyncio.gather(task, return_exceptions=True)
                assert outcome[0] == key if isinstance(outcome, tuple) else str(outcome) == key
        assert flight.in_flight == 0
        assert flight.started + flight.shared <= len(waiting)
        assert len(work.asked) <= flight.started

    run(main)
