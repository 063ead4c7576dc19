"""FAISS behind one small class: three kinds of index, filters, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rag_lab.errors import IndexStateError, SettingsError
from rag_lab.index.vectors import FaissVectors
from rag_lab.settings import IndexSettings, load_settings

KINDS = ["Flat", "HNSW32", "IVF2,Flat"]


def settings(factory: str = "Flat", **more: int) -> IndexSettings:
    return load_settings(index={"index_factory": factory, **more}).index


def unit(rows: list[list[float]]) -> np.ndarray:
    matrix = np.array(rows, np.float32)
    return matrix / np.linalg.norm(matrix, axis=1, keepdims=True)


BY_HAND = unit([[1, 0], [0, 1], [3, 4]])
CROWD = unit(np.random.default_rng(7).standard_normal((120, 8)).tolist())


def test_similarities_are_cosines_by_hand() -> None:
    found = FaissVectors.build(BY_HAND, settings()).search(unit([[1, 0]]), 3)
    assert [place for place, _ in found[0]] == [0, 2, 1]
    assert [score for _, score in found[0]] == pytest.approx([1, 0.6, 0])


@pytest.mark.parametrize("factory", KINDS)
def test_every_kind_finds_a_vector_by_itself(factory: str) -> None:
    built = FaissVectors.build(CROWD, settings(factory))
    assert (len(built), built.dimensions) == (120, 8)
    found = built.search(CROWD, 1)
    assert [hits[0][0] for hits in found] == list(range(120))
    assert [hits[0][1] for hits in found] == pytest.approx([1] * 120, abs=1e-5)


@pytest.mark.parametrize("factory", KINDS)
def test_every_kind_agrees_with_arithmetic(factory: str) -> None:
    built = FaissVectors.build(CROWD, settings(factory, nprobe=2, ef_search=200))
    query = unit([[1, 2, 3, 4, 5, 6, 7, 8]])
    expected = np.argsort(-(CROWD @ query[0]))[:10].tolist()
    assert [place for place, _ in built.search(query, 10)[0]] == expected


def test_a_few_vectors_are_searched_one_by_one_and_many_by_lists(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    crowd = unit(np.random.default_rng(3).standard_normal((2_000, 8)).tolist())
    few = FaissVectors.build(crowd, IndexSettings())
    monkeypatch.setattr("rag_lab.index.vectors._EXACT_UP_TO", 1_999)
    many = FaissVectors.build(crowd, IndexSettings())
    few.save(tmp_path / "few")
    many.save(tmp_path / "many")
    assert (tmp_path / "few").stat().st_size < (tmp_path / "many").stat().st_size
    loaded = FaissVectors.load(tmp_path / "many", IndexSettings())
    assert [hits[0][0] for hits in loaded.search(crowd, 1)] == list(range(2_000))
    exact, near = few.search(crowd[:50], 10), loaded.search(crowd[:50], 10)
    shared = [
        len(dict(one).keys() & dict(other).keys()) for one, other in zip(exact, near, strict=True)
    ]
    assert sum(shared) >= 0.9 * 500


@pytest.mark.parametrize("factory", KINDS)
def test_only_allowed_positions_are_found(factory: str) -> None:
    built = FaissVectors.build(CROWD, settings(factory, nprobe=2))
    allowed = np.array([3, 50, 77], np.int64)
    found = built.search(CROWD[:1], 10, allowed)[0]
    assert {place for place, _ in found} == {3, 50, 77}
    assert built.search(CROWD[:1], 10, np.array([], np.int64)) == [[]]


@pytest.mark.parametrize("factory", KINDS)
def test_asking_for_more_than_there_is_gives_each_once(factory: str) -> None:
    built = FaissVectors.build(CROWD[:60], settings(factory, nprobe=2, ef_search=200))
    found = [place for place, _ in built.search(CROWD[:1], 1_000)[0]]
    assert sorted(found) == list(range(60))


@pytest.mark.parametrize("factory", KINDS)
def test_a_saved_index_answers_the_same(factory: str, tmp_path: Path) -> None:
    built = FaissVectors.build(CROWD, settings(factory))
    built.save(tmp_path / "vectors.faiss")
    loaded = FaissVectors.load(tmp_path / "vectors.faiss", settings(factory))
    assert loaded.search(CROWD[:5], 4) == built.search(CROWD[:5], 4)


def test_several_queries_are_answered_in_order_and_zero_finds_nothing() -> None:
    built = FaissVectors.build(BY_HAND, settings())
    queries = np.array([[0, 1], [0, 0], [1, 0]], np.float32)
    found = built.search(queries, 1)
    assert [[place for place, _ in hits] for hits in found] == [[1], [], [0]]


def test_hits_are_plain_numbers() -> None:
    ((place, score),) = FaissVectors.build(BY_HAND, settings()).search(unit([[1, 0]]), 1)[0]
    assert (type(place), type(score)) == (int, float)


@pytest.mark.parametrize("factory", KINDS)
def test_a_node_without_a_vector_is_never_found(factory: str, tmp_path: Path) -> None:
    rows = CROWD.copy()
    without = [0, 1, 50, 119]
    rows[without] = 0
    built = FaissVectors.build(rows, settings(factory, nprobe=2, ef_search=200))
    built.save(tmp_path / "vectors.faiss")
    loaded = FaissVectors.load(tmp_path / "vectors.faiss", settings(factory, nprobe=2))
    usable = sorted(set(range(120)) - set(without))
    for index in (built, loaded):
        assert len(index) == 116
        assert sorted(place for place, _ in index.search(-CROWD[:1], 1_000)[0]) == usable
        allowed = np.array([0, 3, 50, 77], np.int64)
        assert {place for place, _ in index.search(CROWD[:1], 10, allowed)[0]} == {3, 77}
        assert [hits[0][0] for hits in index.search(rows[usable], 1)] == usable


@pytest.mark.parametrize("dimensions", [0, 8])
def test_an_index_without_any_vector_finds_nothing(dimensions: int, tmp_path: Path) -> None:
    FaissVectors.build(np.zeros((3, dimensions), np.float32), settings()).save(tmp_path / "v.faiss")
    empty = FaissVectors.load(tmp_path / "v.faiss", settings())
    assert len(empty) == 0
    assert empty.search(np.ones((2, 8), np.float32), 5) == [[], []]


def test_a_query_of_another_dimension_says_so() -> None:
    built = FaissVectors.build(BY_HAND, settings())
    with pytest.raises(
        IndexStateError, match=r"3 dimensions, the index 2: .* Run 'rag-lab ingest'"
    ):
        built.search(np.ones((1, 3), np.float32), 1)


@pytest.mark.parametrize("factory", ["Nonsense", "", "IVF500,Flat", "PQ3"])
def test_a_factory_that_does_not_work_is_a_settings_error(factory: str) -> None:
    with pytest.raises(
        SettingsError, match=r"index_factory .* 120 vectors of 8 dimensions: .*Flat"
    ):
        FaissVectors.build(CROWD, settings(factory))


def test_a_missing_or_damaged_file_says_what_to_do(tmp_path: Path) -> None:
    file = tmp_path / "vectors.faiss"
    with pytest.raises(IndexStateError, match=r"vectors\.faiss .* Run 'rag-lab ingest'"):
        FaissVectors.load(file, settings())
    FaissVectors.build(CROWD, settings()).save(file)
    file.write_bytes(file.read_bytes()[:500])
    with pytest.raises(IndexStateError, match=r"vectors\.faiss .* Run 'rag-lab ingest'"):
        FaissVectors.load(file, settings())
