"""How waiting texts are cut: full batches far from the end, even ones for the last waves."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from rag_lab.gateway import BatchLimits
from rag_lab.index.backlog import Backlog, Sizes

TEN = BatchLimits(items=10, tokens=1_000_000, size_bytes=10_000_000)


def texts(count: int, length: int = 40, start: int = 0) -> Sizes:
    sizes = Sizes()
    for place in range(start, start + count):
        sizes.add(place, "x" * length)
    return sizes


def closed(sizes: Sizes) -> Backlog:
    backlog = Backlog()
    backlog.add(sizes)
    backlog.closed = True
    return backlog


async def lengths(backlog: Backlog, slots: int, limits: BatchLimits) -> list[int]:
    found: list[int] = []
    while batch := await backlog.take(slots, limits):
        found.append(len(batch))
    return found


async def test_a_few_texts_are_shared_among_the_slots() -> None:
    backlog = closed(texts(20, length=40_000))
    assert await lengths(backlog, 4, TEN) == [5, 5, 5, 5]


async def test_many_texts_go_in_full_batches_until_four_waves_are_left() -> None:
    backlog = closed(texts(1_000, length=40_000))
    found = await lengths(backlog, 2, TEN)
    assert found[:92] == [10] * 92
    assert sum(found) == 1_000
    assert max(found[92:]) - min(found[92:]) <= 1


async def test_while_more_may_come_only_full_batches_far_from_the_end_are_given() -> None:
    backlog = Backlog()
    backlog.add(texts(80))
    assert not await backlog.take(2, TEN)  # exactly four waves
    backlog.add(texts(1, start=80))
    assert list(await backlog.take(2, TEN)) == list(range(10))
    assert not await backlog.take(2, TEN)
    backlog.closed = True
    assert sum(await lengths(backlog, 2, TEN)) == 71


async def test_the_end_is_planned_again_when_there_are_more_slots() -> None:
    backlog = closed(texts(16, length=40_000))
    assert len(await backlog.take(2, TEN)) == 8
    assert await lengths(backlog, 8, TEN) == [1] * 8


async def test_the_end_is_planned_again_when_there_are_fewer_slots() -> None:
    backlog = closed(texts(40))
    large = BatchLimits(items=40)
    assert len(await backlog.take(8, BatchLimits(items=5))) == 5
    assert await lengths(backlog, 1, large) == [35]


async def test_bounds_of_tokens_and_bytes_hold_and_a_giant_goes_alone() -> None:
    backlog = closed(texts(100, length=400))  # 100 tokens each
    backlog.add(texts(1, length=40_000, start=100))
    bounds = BatchLimits(items=50, tokens=300, size_bytes=10**6)
    found = await lengths(backlog, 1, bounds)
    assert max(found) == 3
    assert found[-1] == 1
    by_bytes = closed(texts(100, length=400))
    assert max(await lengths(by_bytes, 1, BatchLimits(items=50, size_bytes=900))) == 2


@given(
    sizes=st.lists(st.integers(0, 4_000), max_size=120),
    slots=st.lists(st.integers(1, 40), min_size=1, max_size=20),
    items=st.integers(1, 12),
)
async def test_every_text_is_given_once_in_order(
    sizes: Sequence[int], slots: Sequence[int], items: int
) -> None:
    waiting = Sizes()
    for place, length in enumerate(sizes):
        waiting.add(place, "x" * length)
    backlog, limits = closed(waiting), BatchLimits(items=items, tokens=1_500)
    given_out: list[int] = []
    turn = 0
    while batch := await backlog.take(slots[turn % len(slots)], limits):
        assert len(batch) <= items
        given_out += batch
        turn += 1
    assert given_out == list(range(len(sizes)))
    assert len(backlog) == 0
