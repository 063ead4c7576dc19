"""Snapshots: immutable, named by what they are made of, and honest about damage."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import re
import shutil
import warnings
from collections.abc import Awaitable
from pathlib import Path

import numpy as np
import pytest

from provider import Provider
from rag_lab.corpora import Corpus
from rag_lab.errors import IndexStateError, ModelConfigError, RagLabError
from rag_lab.index import ingest, open_index
from rag_lab.index.report import IngestReport
from rag_lab.index.vectors import FaissVectors
from rag_lab.models import build_models
from rag_lab.retrieval import HybridRetriever
from rag_lab.settings import IndexSettings, PathSettings, Settings, load_settings
from small import FRUITS, corpus_of, files_of, food, indexed


async def run(corpus: Corpus, settings: Settings | None = None) -> IngestReport:
    chosen = settings or load_settings()
    return await ingest(corpus, build_models(chosen), chosen)


def grown(count: int) -> Corpus:
    """The food corpus with some more documents."""
    more = {f"more{n}": (f"More {n}", f"Another fruit of kind {n}.") for n in range(count)}
    return corpus_of({**FRUITS, **more})


async def test_equal_work_is_equal_bytes(paths: PathSettings) -> None:
    first = await run(food())
    kept = files_of(Path(first.folder))
    shutil.rmtree(paths.cache_folder)
    again = await run(food())
    assert again.snapshot == first.snapshot
    assert files_of(Path(again.folder)) == kept


async def test_nothing_in_a_snapshot_is_pickled() -> None:
    report = await run(food())
    names = set(files_of(Path(report.folder)))
    assert {Path(name).suffix for name in names} <= {".json", ".jsonl", ".npy", ".faiss"}
    for name in names:
        if name.endswith(".npy"):
            np.load(Path(report.folder) / name, allow_pickle=False)


async def test_a_snapshot_stays_as_it_is_when_the_corpus_changes() -> None:
    first = await run(food())
    before = files_of(Path(first.folder))
    await run(grown(1))
    assert files_of(Path(first.folder)) == before


async def test_a_reader_outlives_reingestions_that_prune_its_snapshot() -> None:
    index = await indexed()
    for count in (1, 2, 3):
        await run(grown(count))
    assert not index.folder.exists()
    with contextlib.closing(index):
        found = await HybridRetriever(index).aretrieve("yellow banana from warm valleys")
    assert found[0].node.metadata["document_id"] == "banana"


async def test_only_the_newest_snapshots_are_kept() -> None:
    folders = [Path((await run(grown(count))).folder) for count in range(4)]
    assert [folder.exists() for folder in folders] == [False, False, True, True]


@pytest.mark.parametrize("section", [{"max_node_chars": 300}, {"bm25_b": 0.5}])
async def test_settings_are_part_of_the_name(section: dict[str, float]) -> None:
    first, other = await run(food()), await run(food(), load_settings(index=section))
    assert first.snapshot != other.snapshot
    assert (await run(food(), load_settings(index={"keep_snapshots": 5}))).up_to_date


def test_an_index_that_was_never_made_says_so() -> None:
    with pytest.raises(
        IndexStateError, match=r"'food' has not been ingested\. Run: rag-lab ingest"
    ):
        open_index(food())


async def test_an_index_of_other_content_is_not_opened() -> None:
    await run(food())
    with pytest.raises(IndexStateError, match="of other content, settings or models"):
        open_index(grown(1))


DAMAGE = {
    "manifest.json": lambda data: data[: len(data) // 2],
    "vectors.npy": lambda data: data[: len(data) // 2],
    "nodes.jsonl": None,
    "nodes.offsets.npy": lambda data: data[:40],
    "keyword/params.index.json": lambda data: b"{",
}


def spoil(folder: Path, name: str) -> None:
    file = next(folder.glob(name))
    change = DAMAGE[name]
    if change is None:
        file.unlink()
    else:
        file.write_bytes(change(file.read_bytes()))


async def failure_of(work: Awaitable[object]) -> tuple[Exception, list[str]]:
    """The error that some work ends in, and the warnings of what it left open."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        try:
            await work
        except Exception as caught:
            error = caught.with_traceback(None)
        gc.collect()
    return error, [str(warning.message) for warning in seen]


@pytest.mark.parametrize(
    "name",
    DAMAGE,
)
async def test_a_damaged_snapshot_says_what_to_do(name: str) -> None:
    spoil(Path((await run(food())).folder), name)
    error, left_open = await failure_of(asyncio.to_thread(open_index, food()))
    assert isinstance(error, IndexStateError)
    assert "Run 'rag-lab ingest" in str(error)
    assert left_open == []


@pytest.mark.parametrize("name", DAMAGE)
async def test_ingest_mends_a_damaged_snapshot(name: str) -> None:
    first = await run(food())
    kept = files_of(Path(first.folder))
    spoil(Path(first.folder), name)
    again = await run(food())
    assert again.complete
    assert files_of(Path(again.folder)) == kept


async def test_a_damaged_vector_cache_is_set_aside(remote: Provider, paths: PathSettings) -> None:
    (paths.cache_folder / "vectors.sqlite").write_bytes(b"not a database, but long enough" * 100)
    report = await run(food())
    assert report.complete
    assert any("vector cache was damaged" in note for note in report.notes)
    assert len(list(paths.cache_folder.glob("vectors.sqlite.damaged-*"))) == 1
    assert (await run(grown(1))).embedded == 1


async def test_a_node_without_a_known_word_is_listed_as_failed() -> None:
    report = await run(corpus_of({**FRUITS, "none": ("…", "?!")}))
    assert [node.node_id for node in report.failed] == ["none"]
    assert "zero vector" in report.failed[0].reason
    assert not report.complete
    assert "INCOMPLETE" in str(report)
    again = await run(corpus_of({**FRUITS, "none": ("…", "?!")}))
    assert (again.up_to_date, again.failed) == (True, report.failed)


TAMPERED = {
    "other order": (lambda rows: rows[::-1], "found"),
    "one missing": (lambda rows: rows[:-1], "4 nodes, 3 vectors, 4 keyword entries: not equal"),
    "all alike": (lambda rows: np.repeat(rows[:1], len(rows), axis=0), "found"),
    "scaled": (lambda rows: rows * 0.5, "found"),
}


@pytest.mark.parametrize(
    "kind",
    TAMPERED,
)
async def test_the_proof_catches_a_tampered_index(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    change, reason = TAMPERED[kind]
    real = FaissVectors.build

    def build(vectors: np.ndarray, settings: IndexSettings) -> FaissVectors:
        return real(np.ascontiguousarray(change(np.asarray(vectors))), settings)

    monkeypatch.setattr(FaissVectors, "build", build)
    report = await run(food())
    assert not report.complete
    assert any(re.search(reason, problem) for problem in report.problems)


async def test_a_provider_that_changes_its_dimensions_says_so(remote: Provider) -> None:
    await run(food())
    remote.dimensions = 40
    error, left_open = await failure_of(run(grown(1)))
    assert isinstance(error, RagLabError)
    assert "40" in str(error)
    assert left_open == []


async def test_one_reply_of_odd_dimensions_does_not_spoil_the_cache(remote: Provider) -> None:
    remote.faults.extend(["", "dimensions"])
    error, _ = await failure_of(run(food()))
    assert isinstance(error, RagLabError)
    report = await run(food())  # the provider is well again
    assert report.complete
    assert report.embedded == 2


async def test_an_embedder_that_is_none_of_llama_index_says_so() -> None:
    with contextlib.closing(await indexed()) as index:
        assert index.llama_embedding() is index.embedder
        index.embedder = object()  # type: ignore[assignment]
        with pytest.raises(ModelConfigError, match="needs a BaseEmbedding, got object"):
            index.llama_embedding()
