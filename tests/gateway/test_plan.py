"""Batches for known work: everything once, within the limits, and all slots done together."""

from __future__ import annotations

import heapq
from itertools import combinations, pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rag_lab.errors import SettingsError
from rag_lab.gateway.plan import FIXED_TOKENS, BatchLimits, plan_batches


def makespan(batches: list[range], tokens: list[int], slots: int, fixed: float) -> float:
    """The time until all is done when a free slot takes the next batch."""
    free = [0.0] * slots
    for batch in batches:
        took = fixed + sum(max(1, tokens[place]) for place in batch)
        heapq.heappush(free, heapq.heappop(free) + took)
    return max(free)


def sizes(count: int, slots: int = 16, limits: BatchLimits | None = None) -> list[int]:
    return [len(batch) for batch in plan_batches([100] * count, slots=slots, limits=limits)]


def test_the_anime_corpus_goes_out_in_one_wave() -> None:
    assert sorted(sizes(1_458)) == [91] * 14 + [92] * 2


@pytest.mark.parametrize(("count", "calls"), [(1, 1), (2, 1), (20, 7), (500, 15), (1_000, 16)])
def test_little_work_takes_few_calls(count: int, calls: int) -> None:
    # 500 texts: 16 calls take 10,000 + 50,000 ÷ 16 = 13,125, 15 take 13,333: 1.6 % more.
    assert len(sizes(count)) == calls


def test_more_than_one_wave_is_a_whole_number_of_waves_where_that_pays() -> None:
    limits = BatchLimits(items=10)
    assert len(sizes(165, slots=8, limits=limits)) == 19  # three waves; 24 would save 1.7 %
    long = plan_batches([5_000] * 165, slots=8, limits=limits)
    assert len(long) == 24
    assert {len(batch) for batch in long} == {6, 7}


def test_a_giant_goes_alone_and_nothing_is_nothing() -> None:
    tokens = [10, 10, 500, 10]
    plan = plan_batches(tokens, slots=1, limits=BatchLimits(tokens=100))
    assert plan == [range(2), range(2, 3), range(3, 4)]
    assert plan_batches([], slots=4) == []


def test_bytes_bound_a_batch_if_they_are_given() -> None:
    limits = BatchLimits(size_bytes=10)
    plan = plan_batches([1] * 6, slots=1, limits=limits, size_bytes=[5, 5, 1, 99, 1, 1])
    assert [sum([5, 5, 1, 99, 1, 1][p] for p in batch) for batch in plan if len(batch) > 1] <= [10]
    assert range(3, 4) in plan
    assert len(plan) == 4


def test_what_cannot_be_planned_is_said() -> None:
    with pytest.raises(SettingsError, match="slots must be at least 1, got 0"):
        plan_batches([1], slots=0)
    with pytest.raises(SettingsError, match="2 items, but 1 sizes"):
        plan_batches([1, 2], slots=1, size_bytes=[1])


LIMITS = st.builds(BatchLimits, items=st.integers(1, 40), tokens=st.integers(1, 3_000))


def test_an_even_share_gives_way_to_what_must_still_fit() -> None:
    tokens = [500, 500, 1, 1, 1, 1, 1, 1]  # a third of it is one text, but three texts a call
    plan = plan_batches(tokens, slots=3, limits=BatchLimits(items=3), fixed_tokens=0)
    assert [len(batch) for batch in plan] == [2, 3, 3]


@given(st.lists(st.integers(1, 50), min_size=1, max_size=9), st.integers(1, 6))
@example([1, 9, 1, 9, 1, 9, 1], 3)
def test_the_largest_batch_is_as_small_as_can_be(tokens: list[int], slots: int) -> None:
    plan = plan_batches(tokens, slots=slots, fixed_tokens=0)
    inner = combinations(range(1, len(tokens)), len(plan) - 1)
    best = min(
        max(sum(tokens[start:end]) for start, end in pairwise([0, *cuts, len(tokens)]))
        for cuts in inner
    )
    assert max(sum(tokens[place] for place in batch) for batch in plan) == best


@given(st.lists(st.integers(0, 2_000), max_size=150), st.integers(1, 20), LIMITS, st.data())
def test_covers_everything_once_in_order_within_the_limits(
    tokens: list[int], slots: int, limits: BatchLimits, data: st.DataObject
) -> None:
    size = st.integers(0, 1_200_000)
    bounded = data.draw(st.booleans())
    size_bytes = [data.draw(size) for _ in tokens] if bounded else None
    plan = plan_batches(tokens, slots=slots, limits=limits, size_bytes=size_bytes)
    assert [place for batch in plan for place in batch] == [*range(len(tokens))]
    for batch in plan:
        assert 1 <= len(batch) <= limits.items
        if len(batch) > 1:
            assert sum(max(1, tokens[place]) for place in batch) <= limits.tokens
            assert not size_bytes or sum(size_bytes[p] for p in batch) <= limits.size_bytes


@given(
    st.lists(st.integers(20, 400), min_size=1, max_size=600),
    st.integers(1, 24),
    st.sampled_from([0.0, 500.0, FIXED_TOKENS, 200_000.0]),
    st.integers(1, 100),
)
def test_the_makespan_is_near_the_lower_bound(
    tokens: list[int], slots: int, fixed: float, items: int
) -> None:
    limits = BatchLimits(items=items)
    plan = plan_batches(tokens, slots=slots, limits=limits, fixed_tokens=fixed)
    fewest = max(-(-len(tokens) // items), -(-sum(tokens) // limits.tokens))
    waves = -(-fewest // slots)
    # Some slot must make `waves` calls, some slot must carry its share, some call the largest.
    bound = max(waves * fixed, fixed + max(tokens), sum(tokens) / slots + fewest * fixed / slots)
    took = makespan(plan, tokens, slots, fixed)
    # Exact but for whole items: each batch may miss its share by one, and 2 % buy fewer calls.
    whole = sum(tokens) / slots
    assert took <= 1.02 * (waves * fixed + max(whole, max(tokens))) + (waves + 1) * max(tokens)
    assert len(plan) <= waves * slots
    if waves == 1 and len(tokens) >= 10 * slots:
        assert took <= 1.02 * max(bound, fixed + whole) + max(tokens)


@given(st.lists(st.integers(20, 400), min_size=40, max_size=120), st.integers(2, 8))
def test_batches_are_even(tokens: list[int], slots: int) -> None:
    plan = plan_batches(tokens, slots=slots, limits=BatchLimits(items=600))
    loads = [sum(tokens[place] for place in batch) for batch in plan]
    assert max(loads) - min(loads) <= 2 * max(tokens)
