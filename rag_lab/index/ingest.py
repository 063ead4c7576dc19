"""Corpus to snapshot: documents → nodes → vectors → index, with bounded memory.

Nodes are spooled to disk first, vectors are kept in the cache batch by batch, and the snapshot
appears by a rename: killed at any point, the next run goes on from what was paid for. Whatever
takes more than a few milliseconds runs in a thread.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock, Timeout

from rag_lab.corpora.analysis import Analyzer
from rag_lab.corpora.base import Corpus, ReadCount
from rag_lab.errors import RecordError, Rejection
from rag_lab.gateway.cache import VECTORS_FILE, VectorCache
from rag_lab.index.embed import NodeVectors, embed_nodes
from rag_lab.index.failed import FailedTexts
from rag_lab.index.fitting import Fitting, to_disk
from rag_lab.index.keyword import KeywordIndex, Words, index_tokens
from rag_lab.index.nodes import Node, NodeStore
from rag_lab.index.proof import prove
from rag_lab.index.reading import Reading
from rag_lab.index.report import FailedNode, IngestReport, Progress
from rag_lab.index.snapshot import (
    MANIFEST,
    ROWS,
    IndexHome,
    damaged_files,
    keep_vectors,
    snapshot_id,
    write_manifest,
    write_pointer,
)
from rag_lab.index.threads import in_thread, side_by_side
from rag_lab.index.vectors import FaissVectors
from rag_lab.models import Embedder, Models
from rag_lab.settings import IndexSettings, Settings, load_settings
from rag_lab.telemetry import tracing

T = TypeVar("T")

FAILED_FILE = "failed_texts.json"
_LOCK_POLL_S = 0.1
_MOMENT_S = 0.001
_HEAD_START_S = 0.05
"""For the first requests: while they are encoded and sent, nothing else should want the CPU."""


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
    retry_failed: bool = False,
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
        retry_failed: send texts again that got no vector in earlier runs; else they stay failed.
        progress: called with how far it is.

    Raises:
        RecordError: a record was rejected and `strict` is set.
        CorpusError: no record is usable.
        ModelError: the embedding model failed; what it had answered is kept for the next run.
    """
    chosen = settings or load_settings()
    options = _Options(strict, refit, retry_failed)
    run = _Ingestion(corpus, models or Models(), chosen, options, progress)
    if dry_run:
        return await in_thread(run.dry)
    chosen.paths.made_cache_folder()
    run.home.folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(run.home.lock_file)
    await _acquire(lock)
    try:
        with tracing() as trace:
            report = await run.make()
        return replace(report, usage=trace.usage)
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


@dataclass(frozen=True, slots=True)
class _Options:
    strict: bool
    refit: bool
    retry_failed: bool


class _Ingestion:
    """One run of `ingest`: its fixed inputs and what it has counted."""

    def __init__(
        self,
        corpus: Corpus,
        models: Models,
        settings: Settings,
        options: _Options,
        progress: Callable[[Progress], None],
    ) -> None:
        self.corpus = corpus
        self.models = models
        self.settings: IndexSettings = settings.index
        self.cache_folder = settings.paths.cache_folder
        self.home = IndexHome(self.cache_folder, corpus.name)
        self.analyzer = Analyzer(corpus.language)
        self.reading = Reading(
            corpus, self.settings.max_node_chars, progress, strict=options.strict
        )
        self.options = options
        self.progress = progress
        self.stages_s: dict[str, float] = {}
        self.notes: list[str] = []

    async def make(self) -> IngestReport:
        embedder = await in_thread(self._ready_embedder)
        if embedder is not None:
            unchanged = await in_thread(self._unchanged, embedder)
            if unchanged is not None:
                return unchanged
        staging = self.home.folder / f".building-{os.getpid()}"
        await in_thread(self._make_room, staging)
        try:
            return await self._build(staging, embedder)
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    def _ready_embedder(self) -> Embedder | None:
        """The configured embedder, or the local one if its fit may be used."""
        FaissVectors.check(self.settings)
        if self.models.embedder is not None:
            return self.models.embedder
        return None if self.options.refit else self.home.current_fit(self.settings)

    def _make_room(self, staging: Path) -> None:
        self.home.prune(self.settings.keep_snapshots)
        staging.mkdir()

    async def _build(self, staging: Path, embedder: Embedder | None) -> IngestReport:
        opened = asyncio.create_task(in_thread(VectorCache, self.cache_folder / VECTORS_FILE))
        try:
            await self._timed("read", in_thread(self.reading.spool, staging))
            with closing(await in_thread(NodeStore, staging)) as nodes:
                return await self._build_from(staging, nodes, await opened, embedder)
        finally:
            await in_thread((await opened).close)

    async def _build_from(
        self, staging: Path, nodes: NodeStore, cache: VectorCache, embedder: Embedder | None
    ) -> IngestReport:
        if self.models.embedder is None:
            fitting = Fitting(nodes, self.analyzer, self.settings, self.home)
            embedder = await self._timed(
                "fit", in_thread(fitting.run, embedder, self.notes, self.progress)
            )
        assert embedder is not None  # either configured or just fitted
        unchanged = await in_thread(self._unchanged, embedder)
        if unchanged is not None:  # a refit came to the same fit
            return unchanged
        under_way = asyncio.Event()
        vectors, keyword = await self._timed(
            "embed",
            side_by_side(
                self._embed(staging, nodes, cache, embedder, under_way),
                self._index_words(staging, nodes, under_way),
            ),
        )
        report, _ = await self._timed(
            "index",
            side_by_side(
                self._index(staging, nodes, vectors, keyword, embedder),
                in_thread(cache.close),  # which takes as long as building the index
            ),
        )
        return await in_thread(self._publish, staging, embedder, report)

    def dry(self) -> IngestReport:
        """Counts only."""
        embedder = self.models.embedder or self.home.current_fit(self.settings)
        file = self.cache_folder / VECTORS_FILE
        failed = None if self.options.retry_failed else FailedTexts(self.home.folder / FAILED_FILE)
        with ExitStack() as closed_after:
            cache = closed_after.enter_context(VectorCache(file)) if file.exists() else None
            return self.reading.count_only(embedder, cache, failed)

    async def _embed(
        self,
        staging: Path,
        nodes: NodeStore,
        cache: VectorCache,
        embedder: Embedder,
        under_way: asyncio.Event,
    ) -> NodeVectors:
        failed_texts = await in_thread(FailedTexts, self.home.folder / FAILED_FILE)
        if self.options.retry_failed:
            await in_thread(failed_texts.forget)
        file = staging / ROWS
        try:
            return await embed_nodes(
                nodes, embedder, cache, file, failed_texts, self.progress, under_way
            )
        finally:
            if cache.set_aside:
                self.notes.append(
                    f"the vector cache was damaged; it was set aside as {cache.set_aside.name}."
                )

    async def _index_words(
        self, staging: Path, nodes: NodeStore, under_way: asyncio.Event
    ) -> KeywordIndex:
        await under_way.wait()
        await asyncio.sleep(_HEAD_START_S)
        words, rest = Words(), iter(nodes)
        while await in_thread(self._analyse_some, rest, words):
            pass
        settings = self.settings
        keyword = await in_thread(KeywordIndex.of, words, k1=settings.bm25_k1, b=settings.bm25_b)
        await in_thread(keyword.save, staging / "keyword")
        await in_thread(self._settle, staging)
        return keyword

    def _settle(self, staging: Path) -> None:
        """What is finished goes to the disk while the provider is waited for, not at the end."""
        to_disk(staging / "keyword", *staging.glob("nodes.*"))

    def _analyse_some(self, nodes: Iterator[Node], words: Words) -> bool:
        """Takes nodes for a moment, then lets others have the interpreter; whether any are left."""
        until = time.monotonic() + _MOMENT_S
        for node in nodes:
            words.add(index_tokens(self.analyzer, node, self.settings.header_weight))
            if time.monotonic() > until:
                return True
        return False

    async def _index(
        self,
        staging: Path,
        nodes: NodeStore,
        vectors: NodeVectors,
        keyword: KeywordIndex,
        embedder: Embedder,
    ) -> IngestReport:
        """Builds the index of the vectors, and proves both."""
        self.progress(Progress("index", 0, 2))
        built = await in_thread(FaissVectors.build, vectors.rows, self.settings)
        self.progress(Progress("index", 1, 2))
        problems, _ = await side_by_side(
            in_thread(prove, vectors.rows, vectors.failed, built, keyword),
            in_thread(keep_vectors, staging, built),
        )
        failed = tuple(
            FailedNode(nodes[place].id, reason) for place, reason in sorted(vectors.failed.items())
        )
        self._explain(failed)
        report = IngestReport(
            corpus=self.corpus.name,
            count=self.reading.count,
            nodes=len(nodes),
            vectors=len(built),
            keyword_entries=len(keyword),
            dimensions=built.dimensions,
            embedder=embedder.identity,
            embedded=vectors.embedded,
            from_cache=len(nodes) - vectors.embedded - len(failed),
            calls=vectors.calls,
            notes=tuple(self.notes),
            problems=problems,
            failed=failed,
            rejected=tuple(self.reading.rejected),
        )
        await side_by_side(
            in_thread(write_manifest, staging, self._manifest(report)),
            in_thread(to_disk, staging),
        )
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

    def _publish(self, staging: Path, embedder: Embedder, report: IngestReport) -> IngestReport:
        to_disk(staging / MANIFEST)
        wanted = snapshot_id(self.corpus, self.settings, embedder)
        target = self.home.snapshot(wanted)
        if target.exists():  # it lacked vectors that were asked for again
            target.rename(staging.with_name(f"{staging.name}-replaced"))
        staging.rename(target)
        write_pointer(self.home.folder, wanted)
        self.home.prune(self.settings.keep_snapshots)
        return replace(
            report,
            snapshot=wanted,
            folder=str(target),
            stages_s=dict(self.stages_s),
            peak_mib=_peak_mib(),
        )

    def _is_there(self, folder: Path) -> bool:
        """Whether that snapshot exists and is whole; a damaged one is removed, and that is said."""
        if not folder.exists():
            return False
        damaged = damaged_files(folder)
        if damaged:
            names = ", ".join(damaged)
            self.notes.append(f"the snapshot was damaged ({names}) and has been built anew.")
            shutil.rmtree(folder)
        return not damaged

    def _unchanged(self, embedder: Embedder) -> IngestReport | None:
        """The report on a snapshot that is there already; None if there is something to do."""
        wanted = snapshot_id(self.corpus, self.settings, embedder)
        folder = self.home.snapshot(wanted)
        if not self._is_there(folder):
            return None
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        failed = tuple(FailedNode(**row) for row in manifest["failed"])
        if failed and self.options.retry_failed:
            return None
        write_pointer(self.home.folder, wanted)
        rows = (folder / "rejected.jsonl").read_text(encoding="utf-8").splitlines()
        rejected = tuple(Rejection(**json.loads(row)) for row in rows)
        if self.options.strict and rejected:
            raise RecordError(rejected[0])
        self._explain(failed)
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
            from_cache=manifest["nodes"] - len(failed),
            notes=tuple(self.notes),
            problems=tuple(manifest["problems"]),
            failed=failed,
            rejected=rejected,
        )

    def _explain(self, failed: tuple[FailedNode, ...]) -> None:
        """Says what becomes of texts that a remote model would not embed."""
        if failed and self.models.embedder is not None:
            self.notes.append(
                f"{len(failed):,} nodes have no vector: keyword search finds them, dense search "
                "does not. Their texts are sent again only on demand: rag-lab ingest "
                "--retry-failed."
            )

    async def _timed(self, stage: str, work: Awaitable[T]) -> T:
        started = time.perf_counter()
        try:
            return await work
        finally:
            self.stages_s[stage] = round(time.perf_counter() - started, 3)


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
