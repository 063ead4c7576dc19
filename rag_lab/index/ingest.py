"""Corpus to snapshot: documents → nodes → vectors → index, with bounded memory.

Nodes are spooled to disk first, vectors are kept in the cache batch by batch, and the snapshot
appears by a rename: killed at any point, the next run goes on from what was paid for.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from rag_lab.corpora.analysis import Analyzer
from rag_lab.corpora.base import Corpus, ReadCount, write_rejections
from rag_lab.errors import CorpusError, ModelError, RecordError, Rejection
from rag_lab.gateway.cache import VectorCache, cache_key
from rag_lab.index.keyword import KeywordIndex, index_tokens
from rag_lab.index.nodes import Node, NodeStore, NodeWriter, split_document
from rag_lab.index.proof import prove
from rag_lab.index.report import FailedNode, IngestReport, Progress
from rag_lab.index.snapshot import (
    MANIFEST,
    IndexHome,
    damaged_files,
    snapshot_id,
    write_manifest,
    write_pointer,
)
from rag_lab.index.vectors import FaissVectors
from rag_lab.models import Embedder, Models
from rag_lab.models.local import LsaEmbedder, text_hashes
from rag_lab.settings import IndexSettings, Settings, load_settings

CACHE_FILE = "vectors.sqlite"
_IN_FLIGHT = 8
_LOCK_POLL_S = 0.1
_FIT_IS_FRESH = 0.10
_FIT_IS_USELESS = 0.50
_CHARS_PER_TOKEN = 4


def _ignore(progress: Progress) -> None:
    """The default callback."""


async def ingest(
    corpus: Corpus,
    models: Models | None = None,
    settings: Settings | None = None,
    *,
    strict: bool = False,
    dry_run: bool = False,
    refit: bool = False,
    progress: Callable[[Progress], None] = _ignore,
) -> IngestReport:
    """Makes the snapshot of a corpus, or finds that it is there.

    Args:
        corpus: what to index.
        models: whose embedder to use; the local one, fitted here, if it has none.
        settings: paths and index settings; read from the environment by default.
        strict: stop at the first rejected record instead of listing it.
        dry_run: read, check and count only; no model is called and nothing is kept.
        refit: fit the local embedder anew even if the present fit is still good.
        progress: called with how far it is.

    Raises:
        RecordError: a record was rejected and `strict` is set.
        CorpusError: no record is usable.
        ModelError: the embedding model failed; what it had answered is kept for the next run.
    """
    chosen = settings or load_settings()
    run = _Ingestion(corpus, models or Models(), chosen, strict, progress)
    if dry_run:
        return await asyncio.to_thread(run.dry)
    chosen.paths.made_cache_folder()
    run.home.folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(run.home.lock_file)
    await _acquire(lock)
    try:
        return await run.make(refit)
    finally:
        lock.release()


async def _acquire(lock: FileLock) -> None:
    """Waits for another ingestion of the same corpus, in this process or another."""
    while True:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            await asyncio.sleep(_LOCK_POLL_S)
        else:
            return


class _Ingestion:
    """One run of `ingest`: its fixed inputs and what it has counted."""

    def __init__(
        self,
        corpus: Corpus,
        models: Models,
        settings: Settings,
        strict: bool,
        progress: Callable[[Progress], None],
    ) -> None:
        self.corpus = corpus
        self.models = models
        self.settings: IndexSettings = settings.index
        self.cache_folder = settings.paths.cache_folder
        self.home = IndexHome(self.cache_folder, corpus.name)
        self.analyzer = Analyzer(corpus.language)
        self.strict = strict
        self.progress = progress
        self.stages_s: dict[str, float] = {}
        self.notes: list[str] = []
        self.calls = 0
        self.embedded = 0

    async def make(self, refit: bool) -> IngestReport:
        FaissVectors.check(self.settings)
        embedder = self.models.embedder
        if embedder is None and not refit:
            embedder = self.home.current_fit(self.settings)
        if embedder is not None:
            wanted = snapshot_id(self.corpus, self.settings, embedder)
            if await asyncio.to_thread(self._is_there, wanted):
                return self._unchanged(wanted)
        self.home.prune(self.settings.keep_snapshots)
        staging = self.home.folder / f".building-{os.getpid()}"
        staging.mkdir()
        try:
            return await self._build(staging, embedder, refit)
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    async def _build(self, staging: Path, embedder: Embedder | None, refit: bool) -> IngestReport:
        staged = await self._timed("read", asyncio.to_thread(self._stage, staging))
        with closing(NodeStore(staging)) as nodes:
            return await self._build_from(staging, staged, nodes, embedder, refit)

    async def _build_from(
        self,
        staging: Path,
        staged: _Staged,
        nodes: NodeStore,
        embedder: Embedder | None,
        refit: bool,
    ) -> IngestReport:
        if self.models.embedder is None:
            previous = None if refit else embedder
            embedder = await self._timed(
                "fit", asyncio.to_thread(self._fit, nodes, staged.hashes, previous)
            )
        assert embedder is not None  # either configured or just fitted
        wanted = snapshot_id(self.corpus, self.settings, embedder)
        if await asyncio.to_thread(self._is_there, wanted):  # a refit came to the same fit
            return self._unchanged(wanted)
        vectors = await self._timed("embed", self._embed(staging, nodes, embedder))
        report = await self._timed(
            "index", asyncio.to_thread(self._index, staging, nodes, vectors, embedder, staged)
        )
        return self._publish(staging, wanted, report)

    def dry(self) -> IngestReport:
        """Counts only; the nodes pass through without being kept."""
        embedder = self.models.embedder or self.home.current_fit(self.settings)
        count, nodes, characters = ReadCount(), 0, 0
        missing: set[bytes] = set()
        file = self.cache_folder / CACHE_FILE
        cache = VectorCache(file) if file.exists() and embedder is not None else None
        rejected: list[Rejection] = []
        for node in self._nodes(count, rejected):
            nodes += 1
            text = node.embedded_text
            model = (embedder.identity, embedder.dimensions) if embedder else ("", None)
            key = cache_key(*model, "document", text)
            if key not in missing and not (cache and cache.get([key])):
                missing.add(key)
                characters += len(text)
        if cache:
            cache.close()
        batch = embedder.embed_batch_size if embedder else 256
        return IngestReport(
            corpus=self.corpus.name,
            dry_run=True,
            count=count,
            nodes=nodes,
            embedder=embedder.identity if embedder else "local, not fitted yet",
            embedded=len(missing),
            from_cache=nodes - len(missing),
            calls=math.ceil(len(missing) / batch),
            estimated_tokens=characters // _CHARS_PER_TOKEN,
            rejected=tuple(rejected),
        )

    def _nodes(self, count: ReadCount, rejected: list[Rejection]) -> Iterator[Node]:
        """The corpus as nodes; counts records as they pass."""
        for item in self.corpus.checked_records(strict=self.strict):
            if isinstance(item, Rejection):
                count.rejected += 1
                rejected.append(item)
                continue
            count.kept += 1
            if count.kept % 200 == 0:
                self.progress(Progress("read", count.kept))
            yield from split_document(item, self.settings.max_node_chars)
        self.progress(Progress("read", count.kept, count.kept))

    def _stage(self, staging: Path) -> _Staged:
        """Spools the corpus to disk, node by node."""
        count = ReadCount()
        rejected: list[Rejection] = []
        seen: set[str] = set()
        hashes: list[np.ndarray] = []
        with NodeWriter(staging) as spool:
            for node in self._nodes(count, rejected):
                if node.id in seen:
                    raise CorpusError(
                        f"two nodes are called {node.id!r}: a document's id must not look like "
                        "another's part ('!' separates them)."
                    )
                seen.add(node.id)
                hashes.append(text_hashes([node.embedded_text]))
                spool.add(node)
        write_rejections(staging / "rejected.jsonl", rejected)
        if not count.kept:
            first = f" First: {rejected[0]}" if rejected else ""
            raise CorpusError(f"{self.corpus.name} has no usable document ({count}).{first}")
        return _Staged(count, tuple(rejected), np.concatenate(hashes))

    def _fit(self, nodes: NodeStore, hashes: np.ndarray, previous: Embedder | None) -> LsaEmbedder:
        """The present fit while the corpus has changed little, else a new one."""
        if isinstance(previous, LsaEmbedder):
            drift = previous.drift(hashes)
            if drift <= _FIT_IS_USELESS:
                if drift > _FIT_IS_FRESH:
                    self.notes.append(
                        f"{drift:.0%} of the nodes are new to the fitted embedder: a refit is due "
                        "(rag-lab ingest --refit; embeds everything again)."
                    )
                return previous
            self.notes.append(f"{drift:.0%} of the nodes are new: the embedder was fitted anew.")
        self.progress(Progress("fit", 0, 1))
        sample = _sample(hashes, self.settings.lsa_fit_nodes)
        fitted = LsaEmbedder.fit(
            [nodes[int(place)].embedded_text for place in sample],
            self.analyzer,
            dimensions=self.settings.lsa_dimensions,
            max_features=self.settings.lsa_max_features,
            known=hashes,
        )
        self._keep_fit(fitted)
        self.progress(Progress("fit", 1, 1))
        return fitted

    def _keep_fit(self, fitted: LsaEmbedder) -> None:
        folder = self.home.fits(self.settings)
        folder.mkdir(parents=True, exist_ok=True)
        target = folder / fitted.fit_id
        if not target.exists():
            scratch = folder / f".fitting-{os.getpid()}"
            shutil.rmtree(scratch, ignore_errors=True)
            fitted.save(scratch)
            _to_disk(scratch)
            scratch.rename(target)
        write_pointer(folder, fitted.fit_id)

    async def _embed(self, staging: Path, nodes: NodeStore, embedder: Embedder) -> np.ndarray:
        """A vector for every node, in order; a mapped array of shape (nodes, dimensions)."""
        vectors: np.ndarray | None = None
        window = embedder.embed_batch_size * _IN_FLIGHT
        cache = await asyncio.to_thread(VectorCache, self.cache_folder / CACHE_FILE)
        try:
            if cache.set_aside:
                self.notes.append(
                    f"the vector cache was damaged; it was set aside as {cache.set_aside.name}."
                )
            for start in range(0, len(nodes), window):
                stop = min(start + window, len(nodes))
                rows = await self._embed_window(nodes, range(start, stop), embedder, cache)
                if vectors is None:
                    vectors = np.lib.format.open_memmap(
                        staging / "vectors.npy",
                        mode="w+",
                        dtype=np.float32,
                        shape=(len(nodes), rows.shape[1]),
                    )
                _require_one_length({vectors.shape[1], rows.shape[1]}, embedder)
                vectors[start:stop] = rows
                self.progress(Progress("embed", stop, len(nodes), self.calls))
        finally:
            await asyncio.to_thread(cache.close)
        assert vectors is not None  # a staged corpus has at least one node
        return vectors

    async def _embed_window(
        self, nodes: NodeStore, places: range, embedder: Embedder, cache: VectorCache
    ) -> np.ndarray:
        """Vectors of some nodes: from the cache, else from the model, then kept at once."""
        texts = [nodes[place].embedded_text for place in places]
        keys = [cache_key(embedder.identity, embedder.dimensions, "document", t) for t in texts]
        found = await asyncio.to_thread(cache.get, keys)
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in found}

        async def ask(some: Sequence[bytes]) -> None:
            matrix = await embedder.embed_batch([missing[key] for key in some])
            lengths = {len(vector) for vector in found.values()}
            _require_one_length(lengths | {matrix.shape[1]}, embedder)  # before it is kept
            found.update(zip(some, matrix, strict=True))
            await asyncio.to_thread(cache.put, some, matrix)
            self.calls += 1
            self.embedded += len(some)

        size = embedder.embed_batch_size
        wanted = list(missing)
        outcomes = await asyncio.gather(
            *(ask(wanted[start : start + size]) for start in range(0, len(wanted), size)),
            return_exceptions=True,  # the others finish first: what is paid for is kept
        )
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
        return np.stack([found[key] for key in keys])

    def _index(
        self,
        staging: Path,
        nodes: NodeStore,
        vectors: np.ndarray,
        embedder: Embedder,
        staged: _Staged,
    ) -> IngestReport:
        """Builds both indexes from the spool and proves them."""
        self.progress(Progress("index", 0, 2))
        keyword = KeywordIndex.build(
            (index_tokens(self.analyzer, node, self.settings.header_weight) for node in nodes),
            k1=self.settings.bm25_k1,
            b=self.settings.bm25_b,
        )
        keyword.save(staging / "keyword")
        self.progress(Progress("index", 1, 2))
        built = FaissVectors.build(vectors, self.settings)
        built.save(staging / "vectors.faiss")
        problems, failed = prove(nodes, vectors, built, keyword)
        report = IngestReport(
            corpus=self.corpus.name,
            count=staged.count,
            nodes=len(nodes),
            vectors=len(built),
            keyword_entries=len(keyword),
            dimensions=built.dimensions,
            embedder=embedder.identity,
            embedded=self.embedded,
            from_cache=len(nodes) - self.embedded,
            calls=self.calls,
            notes=tuple(self.notes),
            problems=problems,
            failed=failed,
            rejected=staged.rejected,
        )
        (staging / "vectors.npy").unlink()
        write_manifest(staging, self._manifest(report))
        self.progress(Progress("index", 2, 2))
        return report

    def _manifest(self, report: IngestReport) -> dict[str, Any]:
        """What the snapshot is; nothing of when or how fast, so that equal work is equal bytes."""
        return {
            "corpus": self.corpus.name,
            "language": self.corpus.language,
            "corpus_fingerprint": self.corpus.fingerprint,
            "settings": self.settings.public(),
            "analyzer": self.analyzer.identity,
            "embedder": report.embedder,
            "dimensions": report.dimensions,
            "kept": report.count.kept,
            "rejected": report.count.rejected,
            "nodes": report.nodes,
            "vectors": report.vectors,
            "keyword_entries": report.keyword_entries,
            "problems": list(report.problems),
            "failed": [asdict(node) for node in report.failed],
        }

    def _publish(self, staging: Path, wanted: str, report: IngestReport) -> IngestReport:
        _to_disk(staging)
        staging.rename(self.home.snapshot(wanted))
        write_pointer(self.home.folder, wanted)
        self.home.prune(self.settings.keep_snapshots)
        return replace(
            report,
            snapshot=wanted,
            folder=str(self.home.snapshot(wanted)),
            stages_s=dict(self.stages_s),
            peak_mib=_peak_mib(),
        )

    def _is_there(self, wanted: str) -> bool:
        """Whether that snapshot exists and is whole; a damaged one is removed, and that is said."""
        folder = self.home.snapshot(wanted)
        if not folder.exists():
            return False
        damaged = damaged_files(folder)
        if damaged:
            names = ", ".join(damaged)
            self.notes.append(f"the snapshot was damaged ({names}) and has been built anew.")
            shutil.rmtree(folder)
        return not damaged

    def _unchanged(self, wanted: str) -> IngestReport:
        write_pointer(self.home.folder, wanted)
        folder = self.home.snapshot(wanted)
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        rows = (folder / "rejected.jsonl").read_text(encoding="utf-8").splitlines()
        rejected = tuple(Rejection(**json.loads(row)) for row in rows)
        if self.strict and rejected:
            raise RecordError(rejected[0])
        return IngestReport(
            corpus=self.corpus.name,
            snapshot=wanted,
            folder=str(folder),
            up_to_date=True,
            count=ReadCount(manifest["kept"], manifest["rejected"]),
            nodes=manifest["nodes"],
            vectors=manifest["vectors"],
            keyword_entries=manifest["keyword_entries"],
            dimensions=manifest["dimensions"],
            embedder=manifest["embedder"],
            from_cache=manifest["nodes"],
            problems=tuple(manifest["problems"]),
            failed=tuple(FailedNode(**row) for row in manifest["failed"]),
            rejected=rejected,
        )

    async def _timed(self, stage: str, work: Any) -> Any:
        started = time.perf_counter()
        try:
            return await work
        finally:
            self.stages_s[stage] = round(time.perf_counter() - started, 3)


def _require_one_length(lengths: set[int], embedder: Embedder) -> None:
    if len(lengths) > 1:
        raise ModelError(
            f"{embedder.identity} gave vectors of {' and '.join(map(str, sorted(lengths)))} "
            "dimensions: it is not the model that earlier vectors are from. Give it another "
            f"name, or delete {CACHE_FILE} in the cache folder."
        )


@dataclass(frozen=True, slots=True)
class _Staged:
    count: ReadCount
    rejected: tuple[Rejection, ...]
    hashes: np.ndarray


def _sample(hashes: np.ndarray, most: int) -> np.ndarray:
    """Places of at most `most` nodes, chosen by hash: no order or chance decides."""
    if len(hashes) <= most:
        return np.arange(len(hashes))
    return np.sort(np.argsort(hashes, kind="stable")[:most])


def _peak_mib() -> float | None:
    """The most memory this process has held, in MiB; None where the system does not tell.

    Not `getrusage`: after a fork that counts what the parent held too.
    """
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
    except OSError:
        return None
    held = re.search(r"VmHWM:\s*(\d+) kB", status)
    return round(int(held.group(1)) / 1024, 1) if held else None


def _to_disk(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
