"""Statistics against closed forms, SciPy, and simulations of what they promise."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, permutation_test

from rag_lab.evaluation import statistics as stats

SCORES = st.lists(st.floats(0, 1), min_size=1, max_size=40).map(np.array)
GAPS = st.lists(st.floats(-1, 1), min_size=1, max_size=40).map(np.array)
FEW_GAPS = st.lists(st.integers(-4, 4), min_size=2, max_size=8).map(lambda n: np.array(n) / 4)
P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=12)


@settings(deadline=None, max_examples=60)
@given(SCORES)
def test_an_interval_holds_the_mean_and_is_never_empty(scores: stats.Values) -> None:
    low, high = stats.score_interval(scores)
    assert 0 <= low <= scores.mean() + 1e-12
    assert scores.mean() - 1e-12 <= high <= 1
    assert high - low > 1e-9 or np.ptp(scores) > 0


@settings(deadline=None, max_examples=60)
@given(GAPS)
def test_an_interval_of_differences_holds_their_mean(gaps: stats.Values) -> None:
    low, high = stats.difference_interval(gaps)
    assert -1 <= low <= gaps.mean() + 1e-12
    assert gaps.mean() - 1e-12 <= high <= 1


def test_wilson_as_published() -> None:
    """Newcombe, Stat. Med. 17, 1998, table I, method 3."""
    ones = np.r_[np.ones(81), np.zeros(182)]
    assert stats.score_interval(ones) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert stats.score_interval(np.zeros(20)) == pytest.approx((0.0, 0.1611), abs=1e-4)


def test_constant_scores_have_the_exact_interval() -> None:
    low, high = stats.constant_interval(1.0, 20, 0.0, 1.0)
    assert (low, high) == pytest.approx((0.025 ** (1 / 20), 1.0))  # Clopper & Pearson
    half = stats.score_interval(np.full(20, 0.5))
    assert half == pytest.approx((0.5 * low, 1 - 0.5 * low))


def test_paired_shares_as_worked_out() -> None:
    """Of 10 questions 3 won and 1 lost: 4/12 and 2/12 with one added to each."""
    gaps = np.array([1.0] * 3 + [-1.0] + [0.0] * 6)
    reach = 1.959964 * math.sqrt((4 / 12 + 2 / 12 - (2 / 12) ** 2) / 12)
    assert stats.difference_interval(gaps) == pytest.approx((2 / 12 - reach, 2 / 12 + reach))


def test_a_rare_difference_has_an_interval_no_narrower_than_none() -> None:
    """Resampling eleven ties and one win would never draw a loss."""
    none, rare = np.zeros(12), np.r_[np.zeros(11), 0.5]
    low, high = stats.difference_interval(rare)
    reach = 1.959964 * math.sqrt((2.25 / 14 - (0.5 / 14) ** 2) / 14)
    assert (low, high) == pytest.approx((0.5 / 14 - reach, 0.5 / 14 + reach))
    assert high - low >= np.diff(stats.difference_interval(none))[0]


def test_few_scores_have_students_interval() -> None:
    """Mean .5, s .1, n 4: t = 3.1824."""
    scores = np.array([0.4, 0.5, 0.5, 0.6])
    reach = 3.182446 * math.sqrt(0.02 / 3) / 2
    assert stats.score_interval(scores) == pytest.approx((0.5 - reach, 0.5 + reach), abs=1e-6)


def test_no_score_has_no_interval() -> None:
    assert all(math.isnan(end) for end in stats.score_interval(np.array([])))
    assert all(math.isnan(end) for end in stats.difference_interval(np.array([])))


@settings(deadline=None, max_examples=50)
@given(FEW_GAPS)
def test_few_sign_flips_are_exact(gaps: stats.Values) -> None:
    theirs = permutation_test((gaps,), np.sum, permutation_type="samples", n_resamples=math.inf)
    assert stats.sign_flip_p(gaps) == pytest.approx(theirs.pvalue)
    assert stats.sign_flip_p(gaps) >= stats.smallest_p(int((gaps != 0).sum()))


def test_sign_flips_by_hand() -> None:
    """Of the 8 sums of ±1 ±2 ±3 only ±6 are as far from 0 as 6; four as far as 4."""
    assert stats.sign_flip_p(np.array([0.1, 0.2, 0.3])) == 2 / 8
    assert stats.sign_flip_p(np.array([-0.1, 0.2, 0.3])) == 4 / 8
    assert stats.sign_flip_p(np.zeros(5)) == 1.0
    assert stats.smallest_p(5) == 2 / 2**5


def test_many_sign_flips_are_drawn_and_never_zero() -> None:
    gaps = np.linspace(0.1, 0.5, 30)
    assert stats.sign_flip_p(gaps) == stats.sign_flip_p(gaps) == stats.smallest_p(30) > 0
    mixed = np.random.default_rng(5).normal(0.03, 0.1, 40)
    normal = math.erfc(abs(mixed.mean()) / math.sqrt((mixed**2).mean() / 40) / math.sqrt(2))
    assert stats.sign_flip_p(mixed) == pytest.approx(normal, abs=0.02)


def test_holm_by_hand() -> None:
    """.01 × 4, then .02 × 3, then .03 × 2 (no less than the one before), then .5."""
    assert stats.holm([0.03, 0.01, 0.5, 0.02]) == pytest.approx([0.06, 0.04, 0.5, 0.06])


@given(P_VALUES)
def test_holm_lies_between_none_and_bonferroni(p_values: list[float]) -> None:
    adjusted = stats.holm(p_values)
    assert all(
        p <= q <= min(1.0, len(p_values) * p) + 1e-12
        for p, q in zip(p_values, adjusted, strict=True)
    )
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    assert [adjusted[n] for n in order] == sorted(adjusted)


def test_effect_size_by_hand() -> None:
    assert stats.effect_size(np.array([0.1, 0.2, 0.3])) == pytest.approx(2.0)
    assert stats.effect_size(np.zeros(4)) == 0.0
    assert stats.effect_size(np.full(4, -0.25)) == -math.inf
    assert math.isnan(stats.effect_size(np.array([0.5])))


def test_questions_needed_as_in_textbooks() -> None:
    """A paired t test at d = .5 needs 34 pairs, at d = .2 199 (Cohen, 1988; G*Power)."""
    assert stats.questions_needed(0.5, 1.0) == 34
    assert stats.questions_needed(0.2, 1.0) == 199


@given(st.integers(3, 5_000), st.floats(0.01, 1), st.sampled_from([0.05, 0.01]))
def test_what_can_be_detected_needs_that_many_questions(
    n: int, spread: float, level: float
) -> None:
    difference = stats.detectable_difference(n, spread, level)
    if math.isfinite(difference):
        assert stats.questions_needed(difference, spread, level) in (n, n + 1)  # rounded up


def test_what_cannot_be_detected() -> None:
    assert stats.detectable_difference(1, 0.2) == math.inf
    assert math.isnan(stats.detectable_difference(100, 0.0))


def test_variance_components_by_hand() -> None:
    """Means .3 and .7; within (.02 + .02) / 2, between .16, so (.16 - .02) / 2 of questions."""
    found = stats.variance_components(np.array([[0.2, 0.4], [0.6, 0.8]]))
    assert found is not None
    assert found.generation == pytest.approx(0.02)
    assert found.question == pytest.approx(0.07)
    assert found.generation_share == pytest.approx(2 / 9)
    assert found.standard_error == pytest.approx(0.2)  # of two means: |.3 - .7| / 2


def test_variance_components_find_what_was_drawn_with_scores_missing() -> None:
    rng = np.random.default_rng(0)
    scores = rng.normal(0, 0.3, (4_000, 1)) + rng.normal(0, 0.1, (4_000, 4))
    scores[rng.random(scores.shape) < 0.2] = np.nan
    found = stats.variance_components(scores)
    assert found is not None
    assert found.question == pytest.approx(0.09, rel=0.06)
    assert found.generation == pytest.approx(0.01, rel=0.06)


def test_variance_components_need_repeats() -> None:
    assert stats.variance_components(np.array([[0.2], [0.4]])) is None
    assert stats.variance_components(np.array([[0.2, 0.4]])) is None
    assert stats.variance_components(np.array([[0.2, np.nan], [0.4, np.nan]])) is None


@pytest.mark.parametrize(("n", "flips"), [(10, 1), (40, 1_000)])
def test_without_a_difference_one_test_in_twenty_rejects(n: int, flips: int) -> None:
    rng = np.random.default_rng(n)
    pairs = rng.beta(0.7, 0.4, (2, 2_000, n))
    rejected = np.mean([stats.sign_flip_p(gaps, flips) <= 0.05 for gaps in pairs[0] - pairs[1]])
    assert 0.03 <= rejected <= 0.07


@pytest.mark.parametrize("n", [20, 50, 200])
def test_bootstrap_intervals_cover_the_mean(n: int) -> None:
    rng = np.random.default_rng(n)
    scores = rng.beta(0.7, 0.4, (2_000, n))
    assert 0.93 <= covered(scores, 0.7 / 1.1) <= 0.97
    gaps = scores - rng.beta(0.7, 0.4, (2_000, n)) ** 1.5
    truth = 0.7 / 1.1 - math.exp(log_moment(1.5))
    assert 0.93 <= covered(gaps, truth) <= 0.97


def covered(rows: stats.Values, truth: float) -> float:
    holds = []
    for block in np.array_split(rows, 40):  # all at once would take a gigabyte
        low, high = stats.bootstrap_interval(block, resamples=500)
        holds.append((low <= truth) & (truth <= high))
    return float(np.concatenate(holds).mean())


def log_moment(power: float) -> float:
    """Of E[Xᵖ] for X from Beta(.7, .4)."""
    gamma = math.lgamma
    return gamma(0.7 + power) + gamma(1.1) - gamma(0.7) - gamma(1.1 + power)


@pytest.mark.parametrize("n", [20, 50, 200])
def test_intervals_of_shares_cover_them(n: int) -> None:
    """Exactly, by the binomial distribution, on average over shares from .02 to .98."""
    ends = [stats.score_interval(np.repeat([1.0, 0.0], [k, n - k])) for k in range(n + 1)]
    low, high = np.array(ends).T
    shares = np.linspace(0.02, 0.98, 97)
    holds = (low[:, None] <= shares) & (shares <= high[:, None])
    coverage = (binom.pmf(np.arange(n + 1)[:, None], n, shares) * holds).sum(axis=0)
    assert 0.93 <= coverage.mean() <= 0.97


def test_a_detectable_difference_is_found_four_times_in_five() -> None:
    rng = np.random.default_rng(1)
    difference = stats.detectable_difference(50, 0.2)
    gaps = rng.normal(difference, 0.2, (1_000, 50))
    found = np.mean([stats.sign_flip_p(row, 1_000) <= 0.05 for row in gaps])
    assert found == pytest.approx(0.8, abs=0.04)
