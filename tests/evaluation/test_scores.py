"""Scores with their reasons, and means with what they stand on."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_lab.evaluation.scores import Mean, Sample, Score, ScoreTable, decisive
from rag_lab.records import Answer, Part, PartOutcome, Question

QUESTION = Question("q", "What?")


def table(*values: float | None) -> ScoreTable:
    scores = {
        str(place): Score.none("the judge's reply was cut off") if value is None else Score(value)
        for place, value in enumerate(values)
    }
    return ScoreTable(dict.fromkeys(scores, "answered"), {"faithfulness": scores})


def test_a_mean_is_over_what_has_a_score_and_tells_its_bounds() -> None:
    mean = table(1.0, 0.5, None, None).mean("faithfulness")
    assert mean == Mean(0.75, scored=2, of=4, low=0.375, high=0.875)
    assert mean.coverage == 0.5


def test_with_all_scores_the_bounds_are_the_mean() -> None:
    mean = table(0.2, 0.4).mean("faithfulness")
    assert mean.low == mean.high == pytest.approx(mean.value) == pytest.approx(0.3)


def test_without_scores_there_is_no_mean_and_any_is_possible() -> None:
    mean = table(None, None).mean("faithfulness")
    assert math.isnan(mean.value)
    assert (mean.low, mean.high, mean.coverage) == (0, 1, 0)
    assert math.isnan(table().mean("faithfulness").low)


def test_a_mean_over_some_questions() -> None:
    assert table(1.0, 0.0, None).mean("faithfulness", {"0", "2"}.__contains__).of == 2


def test_reasons_are_kept() -> None:
    assert table(1.0, None).unscored("faithfulness") == {"1": "the judge's reply was cut off"}


def test_what_became_of_asking() -> None:
    answer = Answer("What?", "This.", "extractive")
    parts = (PartOutcome(Part("a"), "answered"), PartOutcome(Part("b"), "failed", "late"))
    in_parts = Answer("What?", "This.", "extractive", parts=parts)
    assert Sample(QUESTION, None, "refused (401)").fate == "failed"
    assert Sample(QUESTION, answer).fate == "answered"
    assert Sample(QUESTION, in_parts).fate == "partial"


def test_fates_are_counted() -> None:
    made = ScoreTable({"a": "answered", "b": "failed", "c": "answered"}, {})
    assert (made.attempted, made.count("answered"), made.count("failed")) == (3, 2, 1)


def test_an_order_is_decisive_unless_what_is_missing_could_change_it() -> None:
    clear = [Mean(0.8, 10, 10, 0.8, 0.8), Mean(0.5, 9, 10, 0.45, 0.55)]
    crossing = [Mean(0.8, 5, 10, 0.4, 0.9), Mean(0.5, 10, 10, 0.5, 0.5)]
    assert decisive(clear)
    assert not decisive(crossing)


@given(st.lists(st.none() | st.floats(0, 1), min_size=1))
def test_the_mean_lies_between_its_bounds(values: list[float | None]) -> None:
    mean = table(*values).mean("faithfulness")
    assert 0 <= mean.low <= mean.high <= 1
    if mean.scored:
        assert mean.low - 1e-12 <= mean.value * mean.coverage <= mean.high + 1e-12
