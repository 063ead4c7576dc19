from __future__ import annotations

import asyncio
import json
from pathlib import Path

import numpy as np
import pytest

from rag_lab.corpora.analysis import Analyzer
from rag_lab.errors import IndexStateError
from rag_lab.models.local import LsaEmbedder
from rag_lab.simulate import expected_vector, vectors
from rag_lab.simulate.vectors import Vectors, language_of, load_embedder

TEXTS = [
    "red apples grow in orchards",
    "yellow bananas grow in valleys",
    "orange carrots grow under ground",
    "whales sing in deep oceans",
]


@pytest.fixture(scope="module")
def fitted() -> LsaEmbedder:
    known = np.zeros(0, np.uint64)
    return LsaEmbedder.fit(TEXTS, Analyzer("en"), dimensions=8, max_features=100, known=known)


def test_a_vector_is_told_by_its_text() -> None:
    vector = expected_vector("text", 64)
    assert vector.dtype == np.float32
    assert np.linalg.norm(vector) == pytest.approx(1)
    np.testing.assert_array_equal(vector, expected_vector("text", 64))
    assert abs(vector @ expected_vector("texts", 64)) < 0.5
    # The same in every version and process: others check vectors against it.
    assert [round(float(x), 4) for x in expected_vector("text", 3)] == [0.5255, -0.4683, -0.7103]
    assert expected_vector("\ud800 lone surrogate", 4).shape == (4,)


async def test_rows_without_a_model() -> None:
    served = Vectors(None, 16)
    rows = await served.rows(["a", "b", "a"])
    np.testing.assert_array_equal(rows[0], expected_vector("a", 16))
    assert rows[2] is rows[0]
    assert len((await served.rows(["a"], 4))[0]) == 4
    assert served.most_dimensions() is None


async def test_rows_beyond_what_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vectors, "_CACHE_BYTES", 200)
    served = Vectors(None, 8)
    texts = [str(number) for number in range(50)]
    for _ in range(2):
        for text, row in zip(texts, await served.rows(texts), strict=True):
            np.testing.assert_array_equal(row, expected_vector(text, 8))
    assert len(served._kept) <= 7


async def test_the_real_model_is_served(fitted: LsaEmbedder) -> None:
    served = Vectors(fitted, 256)
    calls = [served.rows([text, TEXTS[0]]) for text in TEXTS for _ in range(3)]
    for number, rows in enumerate(await asyncio.gather(*calls)):
        expected = fitted.vectors([TEXTS[number // 3], TEXTS[0]])
        np.testing.assert_allclose(rows, expected, atol=1e-6)
    assert served.most_dimensions() == fitted.dimensions


async def test_a_shortened_vector_has_unit_length(fitted: LsaEmbedder) -> None:
    (row,) = await Vectors(fitted, 256).rows([TEXTS[1]], 2)
    full = fitted.vectors([TEXTS[1]])[0]
    np.testing.assert_allclose(row, full[:2] / np.linalg.norm(full[:2]), atol=1e-6)


async def test_a_text_without_a_known_word_gets_a_vector_too(fitted: LsaEmbedder) -> None:
    (row,) = await Vectors(fitted, 256).rows(["zzz"])
    np.testing.assert_array_equal(row, expected_vector("zzz", fitted.dimensions))


async def test_a_call_that_is_cancelled_leaves_the_work_to_the_others(fitted: LsaEmbedder) -> None:
    served = Vectors(fitted, 256)
    first, second = (asyncio.create_task(served.rows([TEXTS[0]])) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    assert len(await second) == 1


async def test_a_model_that_fails_is_told_to_each_call(
    fitted: LsaEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: LsaEmbedder, texts: list[str]) -> np.ndarray:
        raise ValueError("broken")

    monkeypatch.setattr(LsaEmbedder, "vectors", fail)
    served = Vectors(fitted, 256)
    done = await asyncio.gather(*(served.rows(["a"]) for _ in range(2)), return_exceptions=True)
    assert [str(error) for error in done] == ["broken", "broken"]


def test_saved_fits(fitted: LsaEmbedder, tmp_path: Path) -> None:
    folder = tmp_path / "fit"
    fitted.save(folder)
    assert load_embedder(folder).fit_id == fitted.fit_id
    assert language_of(folder) == json.loads((folder / "lsa.json").read_text())["language"] == "en"
    with pytest.raises(IndexStateError, match="cannot be read"):
        load_embedder(tmp_path / "nothing")
