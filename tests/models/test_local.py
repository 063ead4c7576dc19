"""The offline embedder: unit vectors, the same in every process, that know what they know."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from rag_lab.corpora.analysis import Analyzer
from rag_lab.errors import IndexStateError
from rag_lab.models.local import LsaEmbedder, text_hashes
from small import failure_of

TEXTS = [
    "Apple\nA red fruit of cool orchards.",
    "Banana\nA yellow fruit of warm valleys.",
    "Carrot\nAn orange root under the ground.",
    "Durian\nA spiny fruit with a strong smell.",
    "Endive\nA bitter leaf of cool gardens.",
]


def fitted(texts: list[str] = TEXTS, dimensions: int = 64, features: int = 1_000) -> LsaEmbedder:
    return LsaEmbedder.fit(
        texts,
        Analyzer("en"),
        dimensions=dimensions,
        max_features=features,
        known=text_hashes(texts),
    )


def test_vectors_are_float32_of_unit_length() -> None:
    vectors = fitted().vectors(TEXTS)
    assert (vectors.dtype, vectors.shape) == (np.float32, (5, 4))
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(5), abs=1e-6)


def test_the_rank_is_no_larger_than_the_corpus_allows() -> None:
    assert fitted(dimensions=2).dimensions == 2
    assert fitted(dimensions=512).dimensions == 4
    assert fitted(TEXTS[:1]).dimensions == 1


def test_a_question_is_nearest_to_the_text_that_answers_it() -> None:
    embedder = fitted()
    query = embedder.vectors(["which fruit is yellow?"])[0]
    assert int(np.argmax(embedder.vectors(TEXTS) @ query)) == 1


@pytest.mark.parametrize("text", ["", " \n ", "zzz qqq", "…!?"])
def test_a_text_without_a_known_word_is_the_zero_vector(text: str) -> None:
    vector = fitted().vectors([text])[0]
    assert vector.tolist() == [0] * 4


def test_no_texts_are_no_rows() -> None:
    assert fitted().vectors([]).shape == (0, 4)


WORDS = ["anchor", "bucket", "candle", "dragon", "engine", "feather", "garden", "hammer"]


def test_the_heading_has_its_share_however_long_the_body() -> None:
    """Each word names one text and fills the body of another."""
    pairs = list(zip(WORDS, [*WORDS[1:], WORDS[0]], strict=True))
    embedder = fitted([f"{name}\n{body}" for name, body in pairs])
    for name, body in pairs:
        short, long = embedder.vectors([f"{name}\n{body}", f"{name}\n" + f"{body} " * 500])
        called, filled = embedder.vectors([name, body])
        assert short @ called > short @ filled
        assert long == pytest.approx(short, abs=1e-5)


def test_names_in_a_heading_are_analysed_one_by_one() -> None:
    """A name of function words alone keeps its words, as it would by itself."""
    texts = ["Banana | Who Are You\nA show.", "Apple\nAnother show.", "Carrot\nA third show."]
    embedder = fitted(texts)
    assert embedder.vectors(["who are you"])[0].any()


def test_two_processes_make_the_same_vectors() -> None:
    code = (
        "import sys, json, hashlib; sys.path[:0] = sys.argv[1:]; import test_local as t\n"
        "e = t.fitted(); v = e.vectors(t.TEXTS)\n"
        "print(json.dumps([e.identity, hashlib.sha256(v.tobytes()).hexdigest()]))"
    )
    command = [sys.executable, "-c", code, *map(str, Path(__file__).parents[:2])]
    runs = [
        subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": seed, "PATH": ""},
        ).stdout
        for seed in ("1", "2")
    ]
    assert runs[0] == runs[1]
    assert json.loads(runs[0])[0] == fitted().identity


def test_the_identity_names_texts_and_parameters() -> None:
    identities = {
        fitted().identity,
        fitted(TEXTS[:4]).identity,
        fitted(dimensions=3).identity,
        fitted(features=10).identity,
    }
    assert len(identities) == 4
    assert fitted(TEXTS[::-1]).identity == fitted().identity


def test_a_saved_fit_is_the_same_fit(tmp_path: Path) -> None:
    embedder = fitted()
    embedder.save(tmp_path / "fit")
    loaded = LsaEmbedder.load(tmp_path / "fit")
    assert loaded.vectors(TEXTS).tobytes() == embedder.vectors(TEXTS).tobytes()
    assert (loaded.identity, loaded.dimensions) == (embedder.identity, 4)
    assert loaded.drift(text_hashes(TEXTS)) == 0
    assert {path.suffix for path in (tmp_path / "fit").iterdir()} == {".npz", ".json"}
    np.load(tmp_path / "fit" / "lsa.npz", allow_pickle=False).close()


@pytest.mark.parametrize(
    "damage",
    [
        "missing",
        "not json",
        "other rules",
        "cut",
        "without a key",
    ],
)
def test_a_fit_that_cannot_be_read_says_what_to_do(damage: str, tmp_path: Path) -> None:
    folder = tmp_path / "fit"
    fitted().save(folder)
    about = json.loads((folder / "lsa.json").read_text("utf-8"))
    if damage == "missing":
        (folder / "lsa.npz").unlink()
    elif damage == "cut":
        (folder / "lsa.npz").write_bytes((folder / "lsa.npz").read_bytes()[:100])
    elif damage == "not json":
        (folder / "lsa.json").write_text("{")
    elif damage == "without a key":
        (folder / "lsa.json").write_text("{}")
    else:
        (folder / "lsa.json").write_text(json.dumps({**about, "analyzer": "of yesterday"}))
    error, left_open = failure_of(lambda: LsaEmbedder.load(folder))
    assert isinstance(error, IndexStateError)
    assert "Run 'rag-lab ingest" in str(error)
    assert left_open == []


def test_drift_is_the_share_of_texts_the_fit_is_not_for() -> None:
    embedder = fitted()
    assert embedder.drift(text_hashes(TEXTS)) == 0
    assert embedder.drift(text_hashes([*TEXTS[:3], "new"])) == pytest.approx(0.25)
    assert embedder.drift(text_hashes(["new", "newer"])) == 1
    assert embedder.drift(text_hashes([])) == 0


async def test_llama_index_sees_the_same_vectors() -> None:
    embedder = fitted()
    rows = embedder.vectors(TEXTS).tolist()
    assert embedder.get_text_embedding(TEXTS[0]) == rows[0]
    assert await embedder.aget_text_embedding_batch(TEXTS) == rows
    assert (await embedder.embed_documents(TEXTS)).matrix.tolist() == rows
    query = "which fruit is yellow?"
    assert (await embedder.embed_query(query)).tolist() == embedder.get_query_embedding(query)


async def test_a_question_of_two_lines_is_one_question() -> None:
    embedder, query = fitted(), "which fruit\nis yellow?"
    assert (await embedder.embed_query(query)).tolist() == embedder.get_query_embedding(query)


async def test_a_text_without_a_known_word_has_failed_and_the_others_have_not() -> None:
    embedded = await fitted().embed_documents([TEXTS[0], "zzz qqq", TEXTS[1]])
    assert list(embedded.failed) == [1]
    assert "knows none of its words" in embedded.failed[1]
    assert embedded.matrix.any(axis=1).tolist() == [True, False, True]


@pytest.mark.parametrize("texts", [TEXTS, TEXTS[::-1], [TEXTS[3]], [*TEXTS[:2], "a new apple"]])
def test_a_fit_knows_its_own_texts_and_makes_of_them_what_it_makes_of_others(
    texts: list[str], tmp_path: Path
) -> None:
    embedder = fitted()
    embedder.save(tmp_path / "fit")
    anew = LsaEmbedder.load(tmp_path / "fit")  # has to analyse every text
    assert embedder.vectors(texts).tobytes() == anew.vectors(texts).tobytes()


@pytest.mark.parametrize("texts", [["…"], ["!", "?"]])
def test_a_corpus_without_words_still_fits(texts: list[str]) -> None:
    embedder = fitted(texts)
    assert not embedder.vectors(texts).any()
