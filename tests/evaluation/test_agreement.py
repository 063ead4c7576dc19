"""Agreement of judges, against published examples and sums by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_lab.errors import SettingsError
from rag_lab.evaluation.agreement import (
    agreement,
    agreement_frame,
    agreement_markdown,
    krippendorff_alpha,
    quadratic_weighted_kappa,
)
from rag_lab.evaluation.scores import Score, ScoreTable

_ = None
# Krippendorff (2011), section C: four observers, twelve units, ratings missing.
FOUR = [
    [1, 2, 3, 3, 2, 1, 4, 1, 2, _, _, _],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, _, 3],
    [_, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, _],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, _],
]
grades = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=2, max_size=30)


def test_alpha_of_the_published_example() -> None:
    assert krippendorff_alpha(FOUR, "nominal") == pytest.approx(0.743, abs=5e-4)
    assert krippendorff_alpha(FOUR, "interval") == pytest.approx(0.849, abs=5e-4)


def test_alpha_of_two_observers_and_two_values() -> None:
    # Krippendorff (2011), section A: o_01 = 4, n_0 = 14, n_1 = 6, n = 20;
    # alpha = 1 - 19 * 4 / (14 * 6) = 0.095.
    meg = [0, 1, 0, 0, 0, 0, 0, 0, 1, 0]
    owen = [1, 1, 1, 0, 0, 1, 0, 0, 0, 0]
    assert krippendorff_alpha([meg, owen], "nominal") == pytest.approx(1 - 76 / 84)
    assert krippendorff_alpha([meg, owen], "interval") == pytest.approx(1 - 76 / 84)


def test_alpha_by_hand() -> None:
    # Pairs (0, 0), (1, .5): coincidences o_00 = 2, o_1.5 = o_.51 = 1; margins 2, 1, 1; n = 4.
    # Interval: D_o = 2 * .25 / 4 = .125; D_e = 2 (2 * .25 + 2 * 1 + 1 * .25) / 12 = 5.5 / 12.
    assert krippendorff_alpha([[0, 1], [0, 0.5]], "interval") == pytest.approx(1 - 1.5 / 5.5)
    # Nominal: D_o = 2 / 4; D_e = 2 (2 + 2 + 1) / 12.
    assert krippendorff_alpha([[0, 1], [0, 0.5]], "nominal") == pytest.approx(1 - 0.5 / (10 / 12))


def test_alpha_where_nothing_can_be_said() -> None:
    assert math.isnan(krippendorff_alpha([[1, 1], [1, 1]], "interval"))
    assert math.isnan(krippendorff_alpha([[1, _], [_, 1]], "interval"))
    assert math.isnan(krippendorff_alpha([[], []], "nominal"))
    with pytest.raises(SettingsError, match="two judges or more"):
        krippendorff_alpha([[1, 2]], "nominal")
    with pytest.raises(SettingsError, match="as many ratings each"):
        krippendorff_alpha([[1, 2], [1]], "nominal")


@given(grades)
def test_alpha_is_1_for_one_opinion_and_the_same_whoever_comes_first(
    pairs: list[tuple[int, int]],
) -> None:
    a, b = ([pair[place] for pair in pairs] for place in (0, 1))
    if len(set(a)) > 1:
        assert krippendorff_alpha([a, a], "interval") == pytest.approx(1)
    there, back = (krippendorff_alpha(both, "nominal") for both in ([a, b], [b, a]))
    assert there == pytest.approx(back, nan_ok=True)


def test_kappa_of_two_values_is_cohens() -> None:
    # 20 times both yes, 15 both no, 5 and 10 apart: p_o = .7, p_e = .5, kappa = .4.
    pairs = [(1, 1)] * 20 + [(1, 0)] * 5 + [(0, 1)] * 10 + [(0, 0)] * 15
    first, second = zip(*pairs, strict=True)
    assert quadratic_weighted_kappa(first, second) == pytest.approx(0.4)


def test_kappa_by_hand() -> None:
    # Mean square difference of the pairs 1/3; of all nine combinations (2 + 1 + 6) / 9 = 1.
    assert quadratic_weighted_kappa([1, 2, 3], [1, 2, 2]) == pytest.approx(2 / 3)
    assert math.isnan(quadratic_weighted_kappa([1, 1], [1, 1]))
    assert math.isnan(quadratic_weighted_kappa([], []))
    with pytest.raises(SettingsError, match="got 2 and 1"):
        quadratic_weighted_kappa([1, 2], [1])


@given(grades)
def test_kappa_is_what_its_matrices_say(pairs: list[tuple[int, int]]) -> None:
    observed = np.zeros((5, 5))
    for pair in pairs:
        observed[pair] += 1 / len(pairs)
    expected = np.outer(observed.sum(axis=1), observed.sum(axis=0))
    weights = (np.arange(5)[:, None] - np.arange(5)) ** 2
    first, second = zip(*pairs, strict=True)
    found = quadratic_weighted_kappa(first, second)
    if (by_chance := (weights * expected).sum()) < 1e-12:
        assert math.isnan(found)
    else:
        assert found == pytest.approx(1 - (weights * observed).sum() / by_chance)


def table(**scores: float | None) -> ScoreTable:
    """A table of one measure."""
    given = {key: Score(value, "" if value is not None else "cut") for key, value in scores.items()}
    return ScoreTable(dict.fromkeys(scores, "answered"), {"faithfulness": given})


def test_a_table_of_two_judges() -> None:
    strict = {"hybrid": table(a=0.0, b=1.0, c=0.5, d=None)}
    mild = {"hybrid": table(a=0.0, b=0.5, c=None, d=1.0), "dense": table(a=1.0)}
    (row,) = agreement(strict, mild)
    assert (row.system, row.measure) == ("hybrid", "faithfulness")
    assert (row.rows, row.only_first, row.only_second) == (2, 1, 1)
    assert (row.equal, row.difference) == (0.5, 0.25)
    assert row.alpha_interval == pytest.approx(1 - 1.5 / 5.5)
    # Grades (0, 0) and (4, 2): 2 of the pairs; of all combinations (0 + 4 + 16 + 4) / 4 = 6.
    assert row.weighted_kappa == pytest.approx(1 - 2 / 6)
    assert "| hybrid | faithfulness | 2 | 2 | 0.500 | +0.250 | 0.727 |" in agreement_markdown([row])
    assert agreement_frame([row]).loc[0, "rows"] == 2


def test_judges_with_nothing_in_common_are_said() -> None:
    with pytest.raises(SettingsError, match="systems hybrid and dense"):
        agreement({"hybrid": table(a=1.0)}, {"dense": table(a=1.0)})
