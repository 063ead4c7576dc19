"""Batches: nothing waits for company, nothing is lost or sent twice, order is kept."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_lab.errors import ModelError, SettingsError
from rag_lab.gateway.batch import Batcher, BatchLimits
from rag_lab.gateway.waiters import Priority
from watched import run, settle

BULK: Priority = "bulk"


@dataclass
class Provider:
    """Calls that end when the test says so, and a limited number of slots for them."""

    slots: int = 1
    sent: list[list[Any]] = field(default_factory=list)
    ends: list[asyncio.Future[Any]] = field(default_factory=list)
    cancelled: list[int] = field(default_factory=list)
    granted: list[str] = field(default_factory=list)
    in_slots: int = 0
    most_in_slots: int = 0
    refuse: Exception | None = None
    _free: asyncio.Semaphore | None = None

    @asynccontextmanager
    async def slot(self, priority: Priority) -> AsyncIterator[None]:
        self._free = self._free or asyncio.Semaphore(self.slots)
        if self.refuse:
            raise self.refuse
        async with self._free:
            self.granted.append(priority)
            self.in_slots += 1
            self.most_in_slots = max(self.most_in_slots, self.in_slots)
            try:
                yield
            finally:
                self.in_slots -= 1

    async def call(self, items: list[Any]) -> Sequence[Any]:
        number = len(self.sent)
        self.sent.append(items)
        self.ends.append(asyncio.get_running_loop().create_future())
        try:
            change = await self.ends[number]
        except asyncio.CancelledError:
            self.cancelled.append(number)
            raise
        return [change(item) for item in items]

    def end(self, number: int, change: Callable[[Any], Any] = str) -> None:
        if number < len(self.ends) and not self.ends[number].done():
            self.ends[number].set_result(change)

    async def end_all(self, change: Callable[[Any], Any] = str) -> None:
        while any(not end.done() for end in self.ends):
            for number in range(len(self.ends)):
                self.end(number, change)
            await settle()


def submit_all(batcher: Batcher[Any, Any], items: Sequence[Any], **more: Any) -> list[Any]:
    return [asyncio.create_task(batcher.submit(item, **more)) for item in items]


def test_a_lone_item_goes_at_once() -> None:
    provider = Provider()
    batcher: Batcher[int, str] = Batcher(provider.call, provider.slot)

    async def main() -> None:
        asked = asyncio.create_task(batcher.submit(7))
        for _ in range(3):  # its own turn, the sender's, and the slot's
            await asyncio.sleep(0)
        assert provider.sent == [[7]]
        provider.end(0)
        assert await asked == "7"
        assert (batcher.queued, provider.in_slots) == (0, 0)

    run(main)


def test_what_queues_up_rides_together_and_is_taken_at_the_latest_moment() -> None:
    provider = Provider()
    batcher: Batcher[int, str] = Batcher(provider.call, provider.slot)

    async def main() -> None:
        first = submit_all(batcher, [1])
        await settle()
        more = submit_all(batcher, [2, 3])
        await settle()
        late = submit_all(batcher, [4])
        await settle()
        assert (provider.sent, batcher.queued) == ([[1]], 3)
        provider.end(0)
        await settle()
        assert provider.sent == [[1], [2, 3, 4]]
        provider.end(1)
        assert await asyncio.gather(*first, *more, *late) == ["1", "2", "3", "4"]
        assert batcher.counts.items_a_batch == 2

    run(main)


def test_free_slots_are_used_by_what_one_batch_cannot_hold() -> None:
    provider = Provider(slots=3)
    batcher: Batcher[int, str] = Batcher(provider.call, provider.slot, BatchLimits(items=4))

    async def main() -> None:
        asked = submit_all(batcher, range(10))
        await settle()
        assert provider.sent == [[0, 1, 2, 3], [4, 5, 6], [7, 8, 9]]  # evenly, not 4 4 2
        await provider.end_all()
        assert await asyncio.gather(*asked) == [*map(str, range(10))]

    run(main)


async def sizes_sent(sizes: str, values: Sequence[int]) -> list[list[int]]:
    provider = Provider(slots=9)
    limits = BatchLimits(**{sizes: 10})
    batcher: Batcher[int, str] = Batcher(provider.call, provider.slot, limits)
    asked = [asyncio.create_task(batcher.submit(size, **{sizes: size})) for size in values]
    await settle()
    await provider.end_all()
    await asyncio.gather(*asked)
    return provider.sent


@pytest.mark.parametrize("sizes", ["tokens", "size_bytes"])
def test_tokens_and_bytes_bound_a_batch_and_a_giant_goes_alone(sizes: str) -> None:
    sent = asyncio.run(sizes_sent(sizes, [5, 5, 1, 99, 2, 6, 4]))
    assert sent == [[5, 5], [1], [99], [2, 6], [4]]


def test_interactive_goes_before_bulk_and_not_with_it() -> None:
    provider = Provider()
    batcher: Batcher[str, str] = Batcher(provider.call, provider.slot, BatchLimits(items=2))

    async def main() -> None:
        busy = submit_all(batcher, ["x"])
        await settle()
        asked = submit_all(batcher, ["q1", "q2", "q3"])
        asked += submit_all(batcher, ["d1", "d2"], priority=BULK)
        await settle()
        await provider.end_all()
        await asyncio.gather(*busy, *asked)
        assert sorted(map(sorted, provider.sent[1:])) == [["d1", "d2"], ["q1", "q2"], ["q3"]]
        # The slots' own order decides between the two; each is spent on what it was given for.
        kinds = [batch[0][0] for batch in provider.sent[1:]]
        assert [{"interactive": "q", "bulk": "d"}[name] for name in provider.granted[1:]] == kinds

    run(main)


def test_one_error_is_one_items() -> None:
    provider = Provider()
    batcher: Batcher[int, str] = Batcher(provider.call, provider.slot)

    async def main() -> None:
        asked = submit_all(batcher, [1, 2, 3])
        await settle()
        error = OSError("two")
        provider.end(0, lambda item: error if item == 2 else str(item))
        assert await asyncio.gather(*asked, return_exceptions=True) == ["1", error, "3"]

    run(main)


def test_a_failed_batch_fails_its_own_items_only() -> None:
    provider = Provider()
    batcher: Batcher[int, str] = Batcher(provider.call, provider.slot, BatchLimits(items=2))

    async def main() -> None:
        asked = submit_all(batcher, [1, 2, 3, 4])
        await settle()
        error = OSError("down")
        provider.ends[0].set_exception(error)
        await settle()
        provider.end(1)
        found = await asyncio.gather(*asked, return_exceptions=True)
        assert found == [error, error, "3", "4"]

    run(main)


def test_a_wrong_number_of_results_is_an_error_of_the_batch() -> None:
    async def short(items: list[int]) -> list[str | Exception]:
        return ["only one"]

    batcher: Batcher[int, str] = Batcher(short, Provider().slot)

    async def main() -> None:
        found = await asyncio.gather(*submit_all(batcher, [1, 2]), return_exceptions=True)
        assert [str(error) for error in found] == [
            "a batch of 2 items came back with 1 results."
        ] * 2
        assert all(isinstance(error, ModelError) for error in found)

    run(main)


def test_a_refused_slot_fails_who_would_have_had_it_and_the_next_may_pass() -> None:
    provider = Provider(refuse=OSError("breaker open"))
    batcher: Batcher[int, str] = Batcher(provider.call, provider.slot)

    async def main() -> None:
        with pytest.raises(OSError, match="breaker open"):
            await batcher.submit(1)
        provider.refuse = None
        asked = asyncio.create_task(batcher.submit(2))
        await settle()
        provider.end(0)
        assert await asked == "2"

    run(main)


def test_a_cancelled_item_is_not_sent() -> None:
    provider = Provider()
    batcher: Batcher[int, str] = Batcher(provider.call, provider.slot)

    async def main() -> None:
        asked = submit_all(batcher, [1])
        await settle()
        asked += submit_all(batcher, [2, 3])
        await settle()
        asked[1].cancel()
        await settle()
        assert batcher.queued == 1
        provider.end(0)
        await settle()
        provider.end(1)
        assert provider.sent == [[1], [3]]
        assert await asked[2] == "3"

    run(main)


def test_when_nobody_is_left_waiting_no_slot_is_asked_for() -> None:
    provider = Provider()
    batcher: Batcher[int, str] = Batcher(provider.call, provider.slot)

    async def main() -> None:
        asked = submit_all(batcher, [1])
        await settle()
        gone = submit_all(batcher, [2, 3])
        await settle()
        for task in gone:
            task.cancel()
        await settle()
        assert len(asyncio.all_tasks()) == 3  # this one, the first submitter, its sender
        provider.end(0)
        await asyncio.gather(*asked)
        assert (provider.sent, provider.granted) == ([[1]], ["interactive"])

    run(main)


def test_a_call_that_nobody_waits_for_is_cancelled_and_its_slot_is_free() -> None:
    provider = Provider()
    batcher: Batcher[int, str] = Batcher(provider.call, provider.slot)

    async def main() -> None:
        asked = submit_all(batcher, [1, 2])
        await settle()
        asked[0].cancel()
        await settle()
        assert provider.cancelled == []
        asked[1].cancel()
        await settle()
        assert (provider.cancelled, provider.in_slots) == ([0], 0)

    run(main)


def test_a_sender_that_is_cancelled_from_outside_leaves_nobody_waiting() -> None:
    provider = Provider()
    batcher: Batcher[int, str] = Batcher(provider.call, provider.slot)

    async def main() -> None:
        sent, own = submit_all(batcher, [1]), asyncio.current_task()
        await settle()
        queued = submit_all(batcher, [2])
        await settle()
        for task in asyncio.all_tasks() - {own, *sent, *queued}:
            task.cancel()  # the sender with the batch, and the one that queues
        await settle()
        assert sent[0].cancelled()
        provider.end(1)
        assert await queued[0] == "2"

    run(main)


def test_a_dead_loop_leaves_nothing_behind() -> None:
    provider = Provider()
    batcher: Batcher[int, str] = Batcher(provider.call, provider.slot)

    async def give_up() -> None:
        submit_all(batcher, [1, 2])
        await settle()
        submit_all(batcher, [3])
        await settle()

    asyncio.run(give_up())
    assert provider.in_slots == 0
    fresh = Provider()
    batcher._call, batcher._slot = fresh.call, fresh.slot

    async def main() -> None:
        asked = asyncio.create_task(batcher.submit(4))
        await settle()
        fresh.end(0)
        assert await asked == "4"
        assert (fresh.sent, batcher.queued) == ([[4]], 0)

    run(main)


def test_limits_must_be_possible() -> None:
    with pytest.raises(SettingsError, match=r"BatchLimits\.items must be at least 1, got 0"):
        BatchLimits(items=0)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("submit"), st.integers(0, 7)),
        st.tuples(st.just("bulk"), st.integers(0, 7)),
        st.tuples(st.just("cancel"), st.integers(0, 25)),
        st.tuples(st.sampled_from(["answer", "some fail", "fail"]), st.integers(0, 9)),
        st.tuples(st.just("turn"), st.integers(1, 4)),
    ),
    max_size=50,
)


@dataclass(frozen=True)
class Item:
    number: int
    tokens: int
    priority: Priority


def fails(item: Item) -> bool:
    return item.number % 3 == 0


@given(STEPS, st.integers(1, 3))
def test_any_interleaving(steps: list[tuple[str, int]], slots: int) -> None:
    """Each item is sent once or never, and everyone who stays gets what belongs to the item."""
    provider = Provider(slots)
    limits = BatchLimits(items=3, tokens=10)
    batcher: Batcher[Item, str] = Batcher(provider.call, provider.slot, limits)
    items: list[Item] = []
    tasks: list[asyncio.Task[str]] = []
    left: set[int] = set()
    unsent_when_cancelled: set[int] = set()
    failed_batches: set[int] = set()

    def sent() -> list[Item]:
        return [item for batch in provider.sent for item in batch]

    def submit(tokens: int, priority: Priority) -> None:
        item = Item(len(items), tokens * 2, priority)
        items.append(item)
        asked = batcher.submit(item, tokens=item.tokens, priority=priority)
        tasks.append(asyncio.create_task(asked))

    def cancel(place: int) -> None:
        if tasks[place].cancel():
            left.add(place)
            if items[place] not in sent():
                unsent_when_cancelled.add(place)

    def finish(number: int, how: str) -> None:
        if number >= len(provider.ends) or provider.ends[number].done():
            return
        if how == "fail":
            failed_batches.add(number)
            provider.ends[number].set_exception(OSError("batch"))
        else:
            some = how == "some fail"
            provider.end(
                number, lambda item: OSError("one") if some and fails(item) else f"r{item.number}"
            )

    async def main() -> None:
        for step, value in steps:
            if step in ("submit", "bulk"):
                submit(value, "interactive" if step == "submit" else "bulk")
            elif step == "turn":
                for _ in range(value):
                    await asyncio.sleep(0)
            elif step == "cancel":
                if value < len(tasks):
                    cancel(value)
            else:
                finish(value, step)
        await settle()
        assert not batcher.queued or provider.in_slots == slots  # never idle with work to do
        await provider.end_all(lambda item: f"r{item.number}")
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        for item, outcome in zip(items, outcomes, strict=True):
            if item.number in left:
                assert isinstance(outcome, asyncio.CancelledError)
            elif isinstance(outcome, OSError):
                assert (
                    fails(item)
                    if str(outcome) == "one"
                    else any(item in provider.sent[number] for number in failed_batches)
                )
            else:
                assert outcome == f"r{item.number}"

    run(main)
    numbers = [item.number for item in sent()]
    assert len(numbers) == len(set(numbers))
    assert set(numbers).isdisjoint(unsent_when_cancelled)
    assert set(numbers) | left == set(range(len(items)))
    for priority in ("interactive", "bulk"):
        order = [item.number for item in sent() if item.priority == priority]
        assert order == sorted(order)
    for batch in provider.sent:
        assert 1 <= len(batch) <= 3
        assert sum(item.tokens for item in batch) <= 10 or len(batch) == 1
        assert len({item.priority for item in batch}) == 1
    assert (provider.in_slots, batcher.queued) == (0, 0)
    assert provider.most_in_slots <= slots
