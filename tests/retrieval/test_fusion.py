"""Fusion by hand on three documents, and what must hold for any input."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_lab.retrieval.fusion import fold, fuse_ranks, fuse_scores, normalise_scores

KEYS = st.sampled_from("abcdefgh")
SCORES = st.floats(allow_nan=False, allow_infinity=False)
RANKING = st.lists(KEYS, unique=True)
SCORED = st.dictionaries(KEYS, SCORES).map(lambda scores: list(scores.items()))
WEIGHT = st.floats(min_value=0.01, max_value=100)


def test_reciprocal_rank_by_hand() -> None:
    fused = fuse_ranks([["a", "b", "c"], ["b", "c"]], k=1)
    # a: 1/2; b: 1/3 + 1/2; c: 1/4 + 1/3
    assert [key for key, _ in fused] == ["b", "c", "a"]
    assert [score for _, score in fused] == pytest.approx([5 / 6, 7 / 12, 1 / 2])


def test_reciprocal_rank_weights_by_hand() -> None:
    fused = dict(fuse_ranks([["a", "b"], ["b", "c"]], weights=[3, 1], k=0))
    assert fused == pytest.approx({"a": 3, "b": 3 / 2 + 1, "c": 1 / 2})


def test_reciprocal_rank_uses_sixty_by_default() -> None:
    assert fuse_ranks([["a"]]) == [("a", 1 / 61)]


def test_scores_by_hand_with_max() -> None:
    keyword = [("a", 8.0), ("b", 4.0), ("c", 2.0)]
    dense = [("b", 0.5), ("c", 0.4)]
    fused = fuse_scores([keyword, dense], weights=[0.75, 0.25], normalise="max")
    # a: .75 * 1; b: .75 * .5 + .25 * 1; c: .75 * .25 + .25 * .8
    assert fused == [
        ("a", pytest.approx(0.75)),
        ("b", pytest.approx(0.625)),
        ("c", pytest.approx(0.3875)),
    ]


def test_scores_by_hand_with_minmax() -> None:
    keyword = [("a", 8.0), ("b", 5.0), ("c", 2.0)]
    dense = [("b", 0.5), ("c", 0.3)]
    fused = dict(fuse_scores([keyword, dense], weights=[1, 1], normalise="minmax"))
    assert fused == pytest.approx({"a": 0.5, "b": 0.75, "c": 0.0})


@pytest.mark.parametrize(
    ("scores", "kind", "expected"),
    [
        ([], "max", []),
        ([-1.0, 0.0], "max", [0.0, 0.0]),
        ([4.0, -2.0], "max", [1.0, 0.0]),
        ([3.0, 3.0], "minmax", [1.0, 1.0]),
        ([-1.0, 0.0, 1.0], "minmax", [0.0, 0.5, 1.0]),
    ],
)
def test_normalised_by_hand(scores: list[float], kind: str, expected: list[float]) -> None:
    assert normalise_scores(scores, kind) == expected  # type: ignore[arg-type]


def test_finite_scores_whose_sum_is_not_are_fused() -> None:
    fused = fuse_scores([[("a", 1.5e308), ("b", 1.5e308), ("c", 0.75e308)]], [1])
    assert fused == [("a", 1.0), ("b", 1.0), ("c", 0.5)]


def test_fold_gives_a_whole_its_best_part() -> None:
    ranking = [("p1#2", 3.0), ("p2", 2.0), ("p1", 1.0)]
    assert fold(ranking, key=lambda part: part.split("#")[0]) == [("p1", 3.0), ("p2", 2.0)]


def test_equal_scores_keep_the_order_of_the_lists() -> None:
    assert [key for key, _ in fuse_ranks([["b"], ["a"]])] == ["b", "a"]
    assert [key for key, _ in fuse_scores([[("b", 1)], [("a", 7)]], [1, 1])] == ["b", "a"]
    assert [key for key, _ in fold([("b", 1.0), ("a", 1.0)], key=str)] == ["b", "a"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fuse_ranks([["a", "a"]]), "once, got 'a'"),
        (lambda: fuse_ranks([["a"]], k=-1), "got -1"),
        (lambda: fuse_ranks([["a"]], weights=[1, 2]), r"\(1\), got 2"),
        (lambda: fuse_ranks([["a"]], weights=[-1]), "got -1"),
        (lambda: fuse_scores([[("a", 1.0)]], [0]), r"got \[0\]"),
        (lambda: fuse_scores([[("a", math.nan)]], [1]), "got nan"),
        (lambda: fuse_scores([[("a", 1.0)]], [math.inf]), "got inf"),
        (lambda: normalise_scores([1.0], "sum"), "got 'sum'"),
    ],
)
def test_wrong_input_is_named(call, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=message):
        call()


@given(st.lists(RANKING, max_size=4))
def test_rank_fusion_returns_every_key_once_best_first(rankings: list[list[str]]) -> None:
    fused = fuse_ranks(rankings)
    assert sorted(key for key, _ in fused) == sorted(
        {key for ranking in rankings for key in ranking}
    )
    assert [score for _, score in fused] == sorted((score for _, score in fused), reverse=True)


@given(RANKING, st.integers(min_value=0, max_value=1000))
def test_one_ranking_is_kept(ranking: list[str], k: int) -> None:
    assert [key for key, _ in fuse_ranks([ranking], k=k)] == ranking


@given(
    st.lists(st.tuples(SCORED, WEIGHT), min_size=1, max_size=4), st.sampled_from(["minmax", "max"])
)
def test_fused_scores_stay_between_zero_and_one(lists: list, kind: str) -> None:  # type: ignore[type-arg]
    scored, weights = zip(*lists, strict=True)
    for _, score in fuse_scores(scored, weights, kind):  # type: ignore[arg-type]
        assert -1e-9 <= score <= 1 + 1e-9


@given(SCORED, WEIGHT, st.floats(min_value=0.5, max_value=2))
def test_scale_of_weights_does_not_matter(
    scored: list[tuple[str, float]], weight: float, factor: float
) -> None:
    other = [("a", 1.0), ("z", 0.5)]
    once = dict(fuse_scores([scored, other], [weight, 1]))
    again = dict(fuse_scores([scored, other], [weight * factor, factor]))
    assert again == pytest.approx(once)


@given(SCORED)
def test_folding_to_oneself_only_sorts(scored: list[tuple[str, float]]) -> None:
    assert dict(fold(scored, key=str)) == dict(scored)


@given(SCORED)
def test_folding_twice_is_folding_once(scored: list[tuple[str, float]]) -> None:
    def vowel(key: str) -> bool:
        return key in "aeiou"

    once = fold(scored, key=vowel)
    assert fold(once, key=bool) == once
    if scored:
        assert once[0][1] == max(score for _, score in scored)
