"""BM25 by hand on three documents, and what an index does at its edges."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import bm25s
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from rag_lab.corpora.analysis import Analyzer
from rag_lab.index.keyword import KeywordIndex, best, index_tokens
from rag_lab.index.nodes import Node

DOCUMENTS = [["cat", "sat", "mat", "cat"], ["dog", "sat"], ["cat", "dog", "bird"]]
K1, B = 1.2, 0.75


def bm25(document: list[str], query: list[str], documents: list[list[str]]) -> float:
    """The formula of the docstring, with Lucene's idf: ln(1 + (n - df + .5) / (df + .5))."""
    average = sum(map(len, documents)) / len(documents)
    counts, score = Counter(document), 0.0
    for token in query:
        df = sum(token in other for other in documents)
        tf = counts[token]
        idf = math.log(1 + (len(documents) - df + 0.5) / (df + 0.5))
        score += idf * tf / (tf + K1 * (1 - B + B * len(document) / average))
    return score


@pytest.fixture
def index() -> KeywordIndex:
    return KeywordIndex.build(DOCUMENTS, k1=K1, b=B)


def test_one_score_worked_out_in_full(index: KeywordIndex) -> None:
    # 'cat' is in 2 of 3: idf = ln(1 + 1.5/2.5) = ln 1.6. Document 0 is 4 long of 3 on average,
    # says it twice: 2 / (2 + 1.2 * (.25 + .75 * 4/3)) = 2 / 3.5.
    assert index.scores(["cat"])[0] == pytest.approx(math.log(1.6) * 2 / 3.5)
    # Document 2 is of average length: 1 / (1 + 1.2).
    assert index.scores(["cat"])[2] == pytest.approx(math.log(1.6) / 2.2)
    assert index.scores(["cat"])[1] == 0


@pytest.mark.parametrize(
    "query", [["cat"], ["dog", "sat"], ["bird", "cat", "mat"], ["cat", "cat"], ["bird", "unknown"]]
)
def test_scores_are_the_formula(index: KeywordIndex, query: list[str]) -> None:
    by_hand = [bm25(document, query, DOCUMENTS) for document in DOCUMENTS]
    assert index.scores(query).tolist() == pytest.approx(by_hand, rel=1e-5)


@given(
    st.lists(st.lists(st.sampled_from("abcdefg"), max_size=9), max_size=9),
    st.floats(0.1, 3),
    st.floats(0, 1),
)
def test_weights_are_those_of_bm25s_to_the_bit(
    documents: list[list[str]], k1: float, b: float
) -> None:
    assume(any(documents))
    theirs = bm25s.BM25(method="lucene", k1=k1, b=b)
    ours = KeywordIndex.build(documents, k1=k1, b=b)
    numbers = {token: ours._vocabulary[token] for tokens in documents for token in tokens}
    ids = [[numbers[token] for token in tokens] for tokens in documents]
    theirs.index((ids, numbers), create_empty_token=False, show_progress=False)
    for name in ("data", "indices", "indptr"):
        array = ours._engine.scores[name]
        assert array.dtype == theirs.scores[name].dtype
        np.testing.assert_array_equal(array, theirs.scores[name])


def test_search_is_best_first_and_only_what_matches(index: KeywordIndex) -> None:
    assert [place for place, _ in index.search(["cat"], 10)] == [0, 2]
    assert [place for place, _ in index.search(["cat"], 1)] == [0]
    assert index.search(["cat"], 0) == []


def test_a_mask_decides_what_may_be_found(index: KeywordIndex) -> None:
    allowed = np.array([False, True, True])
    assert [place for place, _ in index.search(["cat", "dog"], 10, allowed)] == [2, 1]
    assert index.search(["cat"], 10, np.zeros(3, bool)) == []


def test_ties_are_broken_by_position() -> None:
    same = KeywordIndex.build([["x"], ["y"], ["x"], ["x"], ["x"]], k1=K1, b=B)
    assert [place for place, _ in same.search(["x"], 3)] == [0, 2, 3]


@given(st.lists(st.sampled_from([0.0, 1.0, 2.0, 3.0]), max_size=12), st.integers(0, 14))
def test_the_best_are_a_stable_sort(values: list[float], k: int) -> None:
    order = sorted(range(len(values)), key=lambda place: -values[place])
    expected = [(place, values[place]) for place in order if values[place] > 0][:k]
    assert best(np.array(values, np.float32), k) == expected


@pytest.mark.parametrize("size", [1, 39, 40, 41, 500, 5_000])
@pytest.mark.parametrize("known", [0.01, 0.5, 1.0])
def test_the_best_of_many_are_those_of_sorting_them_all(size: int, known: float) -> None:
    drawn = np.random.default_rng(size)
    ties = drawn.integers(1, 30, size) * (drawn.random(size) < known)
    scores = ties.astype(np.float32)
    order = sorted(np.flatnonzero(scores).tolist(), key=lambda place: (-scores[place], place))
    for k in (1, 5, 200):
        assert best(scores, k) == [(place, float(scores[place])) for place in order[:k]]


@pytest.mark.parametrize("documents", [[], [[]], [[], []]])
def test_nothing_to_find(documents: list[list[str]], tmp_path: Path) -> None:
    made = KeywordIndex.build(documents, k1=K1, b=B)
    made.save(tmp_path / "keyword")
    for empty in (made, KeywordIndex.load(tmp_path / "keyword", len(documents))):
        assert len(empty) == len(documents)
        assert empty.search(["cat"], 5) == []
        assert empty.scores(["cat"]).shape == (len(documents),)
        assert not empty.knows("cat")


def test_empty_documents_among_others_keep_their_places() -> None:
    made = KeywordIndex.build([[], ["cat"], []], k1=K1, b=B)
    assert [place for place, _ in made.search(["cat"], 5)] == [1]


@pytest.mark.parametrize("query", [[], ["unknown"], ["unknown", "other"]])
def test_unknown_words_score_nothing(index: KeywordIndex, query: list[str]) -> None:
    assert index.scores(query).tolist() == [0, 0, 0]
    assert index.search(query, 5) == []


def test_weights_by_hand(index: KeywordIndex) -> None:
    # ln(1 + n / (1 + df)), n = 3
    expected = {"cat": math.log(2), "bird": math.log(2.5), "unknown": math.log(4)}
    assert index.weights(["cat", "bird", "cat", "unknown"]) == pytest.approx(expected)
    assert index.knows("cat")
    assert not index.knows("unknown")


def test_a_saved_index_scores_the_same_without_pickle(index: KeywordIndex, tmp_path: Path) -> None:
    index.save(tmp_path / "keyword")
    loaded = KeywordIndex.load(tmp_path / "keyword", len(DOCUMENTS))
    for query in (["cat"], ["dog", "sat", "bird"], ["unknown"]):
        assert loaded.scores(query).tolist() == index.scores(query).tolist()
        assert loaded.weights(query) == index.weights(query)
    endings = {path.suffix for path in (tmp_path / "keyword").iterdir()}
    assert endings <= {".npy", ".json"}
    for path in (tmp_path / "keyword").glob("*.npy"):
        np.load(path, allow_pickle=False)


def test_tokens_are_stored_as_they_are(tmp_path: Path) -> None:
    words = ["40/2007", "進撃", '"quoted"', "new\nline", ""]
    KeywordIndex.build([words], k1=K1, b=B).save(tmp_path / "keyword")
    loaded = KeywordIndex.load(tmp_path / "keyword", 1)
    assert all(loaded.knows(word) for word in words)


def test_names_count_as_often_as_the_header_weight_says() -> None:
    node = Node("n", "d", ("Red Cats", "Birds"), "context", "Text of cats.")
    tokens = Counter(index_tokens(Analyzer("en"), node, 3))
    assert tokens == {"red": 3, "cat": 4, "bird": 3, "context": 1, "text": 1}
