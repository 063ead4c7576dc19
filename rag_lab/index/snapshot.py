"""Immutable snapshots of an index: where they live, how one is opened.

    <cache>/indexes/<corpus>/<snapshot id>/   manifest, nodes, vectors, keywords, rejections
    <cache>/indexes/<corpus>/CURRENT          id of the one made last
    <cache>/fits/<corpus>/<parameters>/<fit id>/   fitted local embedders, CURRENT beside them
    <cache>/vectors.sqlite                    every vector ever paid for

A snapshot is built in a folder of its own and renamed, so a reader sees all of one or none.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from rag_lab.corpora.analysis import Analyzer
from rag_lab.corpora.base import Corpus
from rag_lab.errors import IndexStateError, ModelConfigError
from rag_lab.index.filters import mask_of
from rag_lab.index.keyword import KeywordIndex
from rag_lab.index.nodes import NODES_VERSION, NodeStore
from rag_lab.index.search import Hits, Searcher
from rag_lab.index.vectors import FaissVectors
from rag_lab.models import Embedder, Models
from rag_lab.models.local import LSA_VERSION, LsaEmbedder
from rag_lab.settings import IndexSettings, Settings, fingerprint_of, load_settings
from rag_lab.sync import spare_garbage_collector
from rag_lab.telemetry import stage

if TYPE_CHECKING:
    from llama_index.core import VectorStoreIndex
    from llama_index.core.base.embeddings.base import BaseEmbedding
    from llama_index.core.schema import TextNode
    from llama_index.core.vector_stores.types import MetadataFilters

CURRENT = "CURRENT"
MANIFEST = "manifest.json"
ROWS = "vectors.npy"
FAISS = "vectors.faiss"

R = TypeVar("R")


@dataclass(frozen=True)
class IndexHome:
    """The folders of one corpus in the cache."""

    cache: Path
    corpus: str

    @property
    def folder(self) -> Path:
        """Where its snapshots are."""
        return self.cache / "indexes" / _safe(self.corpus)

    @property
    def lock_file(self) -> Path:
        """Held while a snapshot of the corpus is built."""
        return self.folder / ".lock"

    def snapshot(self, snapshot_id: str) -> Path:
        """Where that snapshot is, or would be."""
        return self.folder / snapshot_id

    def holds(self, snapshot_id: str) -> bool:
        """Whether that snapshot is complete."""
        return (self.snapshot(snapshot_id) / MANIFEST).is_file()

    def current(self) -> str:
        """The snapshot made last, or an empty string."""
        return read_pointer(self.folder)

    def fits(self, settings: IndexSettings) -> Path:
        """Where embedders fitted with these parameters are."""
        name = fingerprint_of(
            [
                LSA_VERSION,
                settings.lsa_dimensions,
                settings.lsa_max_features,
                settings.lsa_fit_nodes,
            ]
        )
        return self.cache / "fits" / _safe(self.corpus) / name

    def current_fit(self, settings: IndexSettings) -> LsaEmbedder | None:
        """The fitted embedder in use, if there is one that this version can read."""
        folder = self.fits(settings)
        fit_id = read_pointer(folder)
        try:
            return LsaEmbedder.load(folder / fit_id) if fit_id else None
        except IndexStateError:
            return None

    def prune(self, keep: int) -> None:
        """Deletes all but the `keep` newest snapshots, and builds that were cut off."""
        for leftover in self.folder.glob(".building-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        made = [entry.parent for entry in self.folder.glob(f"*/{MANIFEST}")]
        current = self.current()
        made.sort(key=lambda path: (path.name == current, path.stat().st_mtime))
        for old in made[:-keep]:
            shutil.rmtree(old, ignore_errors=True)


def keep_vectors(folder: Path, built: FaissVectors) -> None:
    """Keeps an index in the folder of its snapshot, where its rows are: as these if it is exact."""
    rows = folder / ROWS
    if not (built.exact and rows.exists()):
        built.save(folder / FAISS)
        rows.unlink(missing_ok=True)


def _read_vectors(folder: Path, settings: IndexSettings) -> FaissVectors:
    if not (folder / ROWS).exists():
        return FaissVectors.load(folder / FAISS, settings)
    return FaissVectors.build(np.load(folder / ROWS, mmap_mode="r", allow_pickle=False), settings)


def read_pointer(folder: Path) -> str:
    """The name in a folder's CURRENT file, or an empty string."""
    try:
        return (folder / CURRENT).read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def write_pointer(folder: Path, name: str) -> None:
    """Points a folder's CURRENT at a name, in one step."""
    scratch = folder / f".{CURRENT}-{os.getpid()}"
    scratch.write_text(f"{name}\n", encoding="utf-8")
    scratch.replace(folder / CURRENT)


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Writes the manifest of a finished snapshot, with a digest of every other file."""
    files = {name: digest for name, digest in sorted(_digests(folder).items()) if name != MANIFEST}
    content = json.dumps({**manifest, "files": files}, indent=1, ensure_ascii=False)
    (folder / MANIFEST).write_text(content, encoding="utf-8")


def damaged_files(folder: Path) -> list[str]:
    """Files of a snapshot that are missing, changed, or not its own."""
    try:
        expected = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError):
        return [MANIFEST]
    found = _digests(folder)
    found.pop(MANIFEST, None)
    return sorted(
        name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)
    )


def _digests(folder: Path) -> dict[str, str]:
    digests = {}
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
            digests[path.relative_to(folder).as_posix()] = digest
    return digests


def _safe(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]", "_", name).lstrip(".") or "corpus"


def snapshot_id(corpus: Corpus, settings: IndexSettings, embedder: Embedder) -> str:
    """Names what a snapshot is made of: corpus, settings, text rules and embedding model."""
    return fingerprint_of(
        [
            corpus.fingerprint,
            settings.fingerprint(),
            NODES_VERSION,
            Analyzer(corpus.language).identity,
            embedder.identity,
            embedder.dimensions,
        ]
    )


class LabIndex:
    """An open snapshot: nodes, vectors and keywords, and the models to search them with.

    Searches run in threads of the index; those asked at the same time share calls. Positions are
    places in the node store. Close it: that ends the threads and frees the files.
    """

    def __init__(self, folder: Path, embedder: Embedder, settings: IndexSettings) -> None:
        self.folder = folder
        self.embedder = embedder
        self._columns: dict[str, list[Any]] = {}
        with ExitStack() as undo:
            try:
                self.manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text("utf-8"))
                self.analyzer = Analyzer(self.manifest["language"])
                self.nodes = undo.enter_context(closing(NodeStore(folder)))
                self.vectors = _read_vectors(folder, settings)
                self.keyword = KeywordIndex.load(folder / "keyword", len(self.nodes))
            except (OSError, ValueError, KeyError, EOFError) as error:
                raise IndexStateError(
                    f"the snapshot {folder.name} cannot be read ({error}). "
                    f"Run 'rag-lab ingest {folder.parent.name}': it is built anew."
                ) from None
            undo.pop_all()  # it is whole: the files stay open
        self._searcher = Searcher(self.vectors, self.keyword, self.analyzer)

    @property
    def id(self) -> str:
        """The snapshot's id."""
        return self.folder.name

    @property
    def corpus(self) -> str:
        """The corpus it is of."""
        return str(self.manifest["corpus"])

    def __len__(self) -> int:
        return len(self.nodes)

    def __repr__(self) -> str:
        return f"LabIndex({self.corpus!r}, {self.id!r}, nodes={len(self):,})"

    async def search_dense(self, query: str, k: int, allowed: np.ndarray | None = None) -> Hits:
        """The k nearest (position, cosine similarity) to a question, best first.

        Raises:
            ModelError: the question could not be embedded.
        """
        vector = await self.embedder.embed_query(query)
        return await self.search_vector(vector, k, allowed)

    async def search_vector(
        self, vector: np.ndarray, k: int, allowed: np.ndarray | None = None
    ) -> Hits:
        """The k nearest (position, similarity) to a vector of shape (dimensions,)."""
        with stage("search"):
            return await self._searcher.nearest(vector, k, allowed)

    async def search_keywords(self, query: str, k: int, allowed: np.ndarray | None = None) -> Hits:
        """The k best (position, BM25 score) of a question, best first."""
        with stage("search"):
            return await self._searcher.matching(query, k, allowed)

    async def run(self, work: Callable[[], R]) -> R:
        """The result of work that reads the snapshot, done in a thread of the index."""
        return await self._searcher.run(work)

    def allowed(self, filters: MetadataFilters | None) -> np.ndarray | None:
        """Positions that metadata filters let through, or None for all. Blocks: use a thread."""
        return None if filters is None else mask_of(filters, self.column, len(self))

    def column(self, key: str) -> Sequence[Any]:
        """A metadata value for every position, None where absent; read once, then kept."""
        if key not in self._columns:
            (self._columns[key],) = self.read_columns(key)
        return self._columns[key]

    def read_columns(self, *keys: str) -> tuple[list[Any], ...]:
        """Several in one pass over the nodes, not kept. Blocks: use a thread."""
        columns: tuple[list[Any], ...] = tuple([] for _ in keys)
        for node in self.nodes:
            for key, column in zip(keys, columns, strict=True):
                column.append(node.metadata.get(key))
        return columns

    def text_node(self, position: int) -> TextNode:
        """The node at a position, as LlamaIndex knows it."""
        return self.nodes[position].to_text_node()

    @cached_property
    def places(self) -> Mapping[str, int]:
        """Position by node id."""
        return {node_id: place for place, node_id in enumerate(self.nodes.ids)}

    def vector_index(self) -> VectorStoreIndex:
        """A LlamaIndex `VectorStoreIndex` over this snapshot, for any of its retrievers."""
        from llama_index.core import VectorStoreIndex

        from rag_lab.index.store import SnapshotVectorStore

        return VectorStoreIndex.from_vector_store(
            SnapshotVectorStore(self), embed_model=self.llama_embedding()
        )

    def llama_embedding(self) -> BaseEmbedding:
        """The embedder as LlamaIndex knows it."""
        from llama_index.core.base.embeddings.base import BaseEmbedding

        if isinstance(self.embedder, BaseEmbedding):
            return self.embedder
        raise ModelConfigError(
            f"LlamaIndex needs a BaseEmbedding, got {type(self.embedder).__name__}. "
            "The embedders of build_models are both."
        )

    def close(self) -> None:
        """Waits for searches under way, ends their threads and closes the files."""
        self._searcher.close()
        self.nodes.close()


def open_index(
    corpus: Corpus, models: Models | None = None, settings: Settings | None = None
) -> LabIndex:
    """Opens the snapshot of a corpus that these models and settings make.

    Raises:
        IndexStateError: it has not been made yet, or cannot be read.
    """
    chosen = settings or load_settings()
    home = IndexHome(chosen.paths.cache_folder, corpus.name)
    embedder = (models.embedder if models else None) or home.current_fit(chosen.index)
    if embedder is not None:
        wanted = snapshot_id(corpus, chosen.index, embedder)
        if home.holds(wanted):
            spare_garbage_collector()
            return LabIndex(home.snapshot(wanted), embedder, chosen.index)
    state = (
        "has an index, but of other content, settings or models"
        if home.current()
        else "has not been ingested"
    )
    raise IndexStateError(f"{corpus.name!r} {state}. Run: rag-lab ingest {corpus.name}")
