"""What is late: a quantile of calls of which some are still under way, and a line through sizes."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_lab.gateway.lateness import Lateness, SizeLine, fit_line, survival_quantile


def test_the_quantile_of_calls_that_have_all_ended_is_the_nearest_rank() -> None:
    ended = [float(number) for number in range(1, 21)]
    assert survival_quantile(ended, [], 0.95) == 19
    assert survival_quantile(ended, [], 0.5) == 10
    assert survival_quantile([], [], 0.5) is None


def test_open_calls_count_for_as_long_as_they_have_been_open() -> None:
    # 1: 3 of 4 are left; 2: one is open since before, so 1 of 2 of those; 4: none.
    assert survival_quantile([1, 2, 4], [1.5], 0.25) == 1
    assert survival_quantile([1, 2, 4], [1.5], 0.5) == 2  # 3/4 · 1/2 = 3/8
    assert survival_quantile([1, 2, 4], [1.5], 0.7) == 4
    assert survival_quantile([1, 2, 4], [9], 0.75) == 4
    assert survival_quantile([1, 2, 4], [9], 0.76) is None


def test_a_line_through_two_sizes() -> None:
    samples = [(1, 0.2)] * 3 + [(92, 1.11)] * 3
    line = fit_line(samples)
    assert line.expected_s(46) == pytest.approx(0.65)
    assert fit_line([*samples, (92, 60.0)]).expected_s(46) == pytest.approx(0.65)
    assert line.expected_s(0.5) == pytest.approx(0.2)  # not extrapolated downwards


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        ([(10, 1.0)] * 4, SizeLine(0, 0.1, 10)),
        ([(10, 1.0)] * 4 + [(90, 0.001)], SizeLine(0, 0.1, 10)),  # one says nothing
        ([(10, 1.0)] * 3 + [(90, 0.9)] * 3, SizeLine(0.9, 0, 10)),  # not quicker for its size
        ([(10, 1.0)] * 3 + [(90, 18.0)] * 3, SizeLine(0, 0.2, 10)),  # at most in proportion
    ],
)
def test_a_line_is_between_constant_and_proportional(
    samples: list[tuple[float, float]], expected: SizeLine
) -> None:
    found = fit_line(samples)
    assert (found.base_s, found.per_size_s, found.smallest) == pytest.approx(
        (expected.base_s, expected.per_size_s, expected.smallest)
    )


POSITIVE = st.floats(1e-3, 1e3)


@given(st.lists(st.tuples(POSITIVE, POSITIVE), min_size=1), POSITIVE, POSITIVE)
def test_more_is_never_expected_sooner(
    samples: list[tuple[float, float]], one: float, other: float
) -> None:
    line = fit_line(samples)
    low, high = sorted((one, other))
    assert 0 < line.expected_s(low) <= line.expected_s(high)


def judged(*ended: float, open_: tuple[float, ...] = ()) -> Lateness:
    """Of calls of one text; the last of those under way is the one that the others judge."""
    lateness = Lateness(0.95, 8)
    for seconds in ended:
        lateness.learn(1.0, seconds)
    lateness.judge([(1.0, age) for age in open_])
    return lateness


def test_nothing_is_late_before_enough_have_ended() -> None:
    assert judged(*[1.0] * 7).late_after_s(1.0) == math.inf
    assert judged(*[1.0] * 8).late_after_s(1.0) == pytest.approx(1.0)


def test_what_hangs_takes_twice_as_long_as_what_is_late() -> None:
    assert judged(*[1.0] * 8).late_after_s(1.0, hangs=True) == pytest.approx(2.0)


def test_what_is_late_depends_on_size() -> None:
    lateness = judged(*[1.0] * 8)
    assert lateness.late_after_s(92.0) == pytest.approx(92)  # not known to take less
    for _ in range(3):
        lateness.learn(92.0, 2.82)
    lateness.judge([])
    assert lateness.late_after_s(92.0) == pytest.approx(2.82)
    assert lateness.late_after_s(46.0) == pytest.approx(1.9)


def test_the_oldest_is_judged_by_the_others() -> None:
    ended = [1 + number / 20 for number in range(15)]
    assert judged(*ended, open_=(60,)).late_after_s(1.0) == pytest.approx(1.7)
    assert judged(*ended, open_=(60, 60)).late_after_s(1.0) == pytest.approx(2 * 1.7)


def test_what_was_sent_a_moment_later_counts_beside_those_that_are_back() -> None:
    ended = [1 + number / 20 for number in range(13)]
    assert judged(*ended, open_=(1.35, 1.55, 1.65)).late_after_s(1.0) == pytest.approx(2 * 1.6)


def test_calls_that_have_only_begun_do_not_count() -> None:
    ended = [1 + number / 20 for number in range(20)]
    young = tuple(number / 100 for number in range(60))
    assert judged(*ended, open_=(*young, 3)).late_after_s(1.0) == pytest.approx(1.9)
