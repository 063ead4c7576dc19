"""Ranking measures by hand: nothing found is zero, what failed is counted and not scored."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence

import pytest

from rag_lab.errors import SettingsError
from rag_lab.evaluation import Ranking, in_split, rank_questions, score_ranking
from rag_lab.records import Question

QRELS = {"q1": {"a": 1, "b": 1}, "q2": {"c": 1}, "q3": {"d": 1}}


def run_of(**found: Sequence[str]) -> dict[str, dict[str, float]]:
    """A run with scores that fall from list to list."""
    return {
        key: {document: 1.0 / place for place, document in enumerate(ids, 1)}
        for key, ids in found.items()
    }


@pytest.mark.parametrize(
    ("measure", "by_question"),
    [
        ("RR", {"q1": 1 / 2, "q2": 1 / 3, "q3": 0}),
        ("RR@2", {"q1": 1 / 2, "q2": 0, "q3": 0}),
        ("P@1", {"q1": 0, "q2": 0, "q3": 0}),
        ("P@2", {"q1": 1 / 2, "q2": 0, "q3": 0}),
        ("hit@1", {"q1": 0, "q2": 0, "q3": 0}),
        ("hit@2", {"q1": 1, "q2": 0, "q3": 0}),
        ("hit@3", {"q1": 1, "q2": 1, "q3": 0}),
        ("R@3", {"q1": 1, "q2": 1, "q3": 0}),
        ("R@2", {"q1": 1 / 2, "q2": 0, "q3": 0}),
        ("AP", {"q1": (1 / 2 + 2 / 3) / 2, "q2": 1 / 3, "q3": 0}),
        (
            "nDCG@10",
            {
                "q1": (1 / math.log2(3) + 1 / 2) / (1 + 1 / math.log2(3)),
                "q2": 1 / 2,
                "q3": 0,
            },
        ),
    ],
)
def test_measures_by_hand(measure: str, by_question: Mapping[str, float]) -> None:
    run = run_of(q1=["x", "a", "b"], q2=["x", "y", "c"], q3=["x"])
    table = score_ranking(Ranking(run), QRELS, [measure])
    assert table.scores[measure] == pytest.approx(by_question)
    assert table.mean(measure) == pytest.approx(sum(by_question.values()) / 3)
    assert (table.attempted, table.failed) == (3, 0)


def test_a_grade_of_zero_is_not_relevant() -> None:
    table = score_ranking(Ranking(run_of(q=["a", "b"])), {"q": {"a": 0, "b": 2}}, ["RR", "R@1"])
    assert table.mean("RR") == 1 / 2
    assert table.mean("R@1") == 0


def test_a_question_that_found_nothing_is_zero_and_stays() -> None:
    table = score_ranking(Ranking({**run_of(q1=["a"]), "q2": {}}), QRELS, ["RR"])
    assert table.scores["RR"] == {"q1": 1, "q2": 0}
    assert table.mean("RR") == 1 / 2
    assert table.attempted == 2


def test_a_question_that_failed_is_counted_and_has_no_score() -> None:
    ranking = Ranking(run_of(q1=["a"]), failed={"q2": "ModelError: down", "unjudged": "no"})
    table = score_ranking(ranking, QRELS, ["RR"])
    assert table.scores["RR"] == {"q1": 1}
    assert (table.mean("RR"), table.attempted, table.failed) == (1, 2, 1)


def test_questions_without_a_judgement_are_not_scored() -> None:
    run = run_of(q1=["a"], other=["a"])
    table = score_ranking(Ranking(run), {**QRELS, "other": {}}, ["RR"])
    assert table.scores["RR"] == {"q1": 1}


def test_nothing_to_score_is_nan_not_zero() -> None:
    table = score_ranking(Ranking({}), QRELS, ["RR"])
    assert math.isnan(table.mean("RR"))
    assert (table.attempted, table.failed) == (0, 0)


def test_ties_keep_the_given_order() -> None:
    """trec_eval would order equal scores by document id, highest first."""
    for order in (["a", "z"], ["z", "a"]):
        run = {"q": dict.fromkeys(order, 1.0)}
        table = score_ranking(Ranking(run), {"q": {"a": 1}}, ["RR"])
        assert table.mean("RR") == 1 / (order.index("a") + 1)


@pytest.mark.parametrize("name", ["", "a\x00b", "\x00", "\ud800", "a b"])
def test_any_id_can_be_scored(name: str) -> None:
    run = {name: {name: 2.0, "a": 1.0}, "a": {"x": 2.0, name: 1.0}}
    table = score_ranking(Ranking(run), {name: {name: 1}, "a": {name: 1}}, ["RR", "nDCG@10", "AP"])
    assert table.scores["RR"] == {name: 1, "a": 1 / 2}
    assert table.scores["AP"] == {name: 1, "a": 1 / 2}


def test_two_names_of_one_measure_are_both_scored() -> None:
    table = score_ranking(
        Ranking(run_of(q1=["x", "a"])), QRELS, ["hit@2", "Success@2", "RR", "MRR"]
    )
    assert {name: table.mean(name) for name in table.scores} == {
        "hit@2": 1,
        "Success@2": 1,
        "RR": 1 / 2,
        "MRR": 1 / 2,
    }


@pytest.mark.parametrize(
    "name", ["hit@", "hit@x", "Nonsense", "nDCG@", "", "R@x", "RR@10 and more", "import os"]
)
def test_an_unknown_measure_is_named(name: str) -> None:
    with pytest.raises(SettingsError, match=r"measure .* is unknown.*examples: nDCG@10"):
        score_ranking(Ranking(run_of(q1=["a"])), QRELS, [name])


def test_a_mean_over_some_questions() -> None:
    table = score_ranking(Ranking(run_of(q1=["a"], q2=["x"])), QRELS, ["RR"])
    assert table.mean("RR", {"q1"}.__contains__) == 1
    assert table.mean("RR", {"q2"}.__contains__) == 0
    assert math.isnan(table.mean("RR", lambda key: False))


def test_halves_are_disjoint_and_whole() -> None:
    questions = [Question(f"q{n}", "?") for n in range(50)]
    dev, held_out = in_split(questions, "dev"), in_split(questions, "held_out")
    assert all(dev(q.id) != held_out(q.id) for q in questions)
    assert 10 < sum(dev(q.id) for q in questions) < 40
    assert not dev("not asked")


class Script:
    """Ranks what the question says, in that order, or fails."""

    def __init__(self) -> None:
        self.now = 0
        self.most = 0

    async def rank_documents(self, query: str, k: int | None = None) -> list[tuple[str, float]]:
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(0)
        self.now -= 1
        if query == "fail":
            raise RuntimeError("on purpose")
        return [(document, 1.0 / n) for n, document in enumerate(query.split(), 1)]


async def test_every_question_is_in_the_ranking() -> None:
    asked = [Question("q1", "a b"), Question("q2", ""), Question("q3", "fail")]
    ranking = await rank_questions(Script(), asked)
    assert ranking.run == {"q1": {"a": 1.0, "b": 0.5}, "q2": {}}
    assert ranking.failed == {"q3": "RuntimeError: on purpose"}


async def test_groups_stand_for_their_best_document() -> None:
    asked = [Question("q", "law1#2 law2#1 law1#9 law3#1")]
    ranking = await rank_questions(Script(), asked, group=lambda key: key.split("#")[0])
    assert list(ranking.run["q"].items()) == [("law1", 1.0), ("law2", 0.5), ("law3", 0.25)]


async def test_the_cut_is_made_after_grouping() -> None:
    asked = [Question("q", "law1#1 law1#2 law1#3 law2#1 law3#1")]
    ranking = await rank_questions(Script(), asked, k=2, group=lambda key: key.split("#")[0])
    assert list(ranking.run["q"]) == ["law1", "law2"]


async def test_several_are_asked_at_a_time_but_not_all() -> None:
    system = Script()
    await rank_questions(system, [Question(f"q{n}", "a") for n in range(100)])
    assert 1 < system.most <= 16
