"""Dense, keyword and hybrid retrievers: LlamaIndex retrievers over one snapshot."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.schema import NodeWithScore, QueryBundle
from llama_index.core.vector_stores.types import MetadataFilters

from rag_lab.errors import ProviderError
from rag_lab.index.search import Hits
from rag_lab.index.snapshot import LabIndex
from rag_lab.models.local import LsaEmbedder
from rag_lab.retrieval.fusion import fold, fuse_ranks, fuse_scores
from rag_lab.settings import RetrievalSettings
from rag_lab.sync import run_sync
from rag_lab.telemetry import degrade, stage

Ranking = list[tuple[Hashable, float]]

LOCAL_DENSE_WEIGHT = 0.1
REMOTE_DENSE_WEIGHT = 0.5


@dataclass(frozen=True, slots=True)
class Found:
    """One entry of a ranking: a node, and score and rank of its document's best in each search."""

    position: int
    document_id: str
    score: float
    scores: Mapping[str, float] = field(default_factory=dict)
    ranks: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Searched:
    """The hits of each search that took part, by its name, and why one that should have did not."""

    hits: Mapping[str, Hits]
    degraded: str = ""


class SnapshotRetriever(BaseRetriever):
    """Base of the retrievers over a `LabIndex`.

    Args:
        index: an open snapshot.
        settings: how many, how deep, how fused.
        filters: LlamaIndex metadata filters on what may be returned.

    A retrieved node carries in its metadata its `document_id` and, under `scores` and `ranks`, what
    each search gave. With `settings.fold` (the default) a document is returned once: whole if it is
    one node, whichever part of it was found, else by its best node. If a search had to be left out,
    `degraded` tells why.
    """

    def __init__(
        self,
        index: LabIndex,
        settings: RetrievalSettings | None = None,
        filters: MetadataFilters | None = None,
    ) -> None:
        super().__init__()
        self.index = index
        self.settings = settings or RetrievalSettings()
        self.filters = filters

    async def searches(self, query: str) -> Searched:
        """What each search that takes part gives; they run at the same time."""
        raise NotImplementedError

    def combine(self, lists: Mapping[str, Ranking]) -> Ranking:
        """One ranking of the lists of the searches."""
        raise NotImplementedError

    async def rank(self, query: str, k: int | None = None) -> list[Found]:
        """Ranks documents (or nodes, without `fold`) for a question: the k best, or all.

        Each search is folded to documents before they are combined: a search that ranks one node
        of a document and another that ranks a second node of it agree about the document.
        """
        searched = await self.searches(query)
        with stage("fuse"):
            return await self.index.run(partial(self._ranked, searched.hits, k))

    async def rank_documents(self, query: str, k: int | None = None) -> list[tuple[str, float]]:
        """The k best (document id, score) of a question, best first; for measuring."""
        ranked = [(found.document_id, found.score) for found in await self.rank(query)]
        return fold(ranked, key=lambda document_id: document_id)[:k]

    def _ranked(self, found: Mapping[str, Hits], k: int | None) -> list[Found]:
        document_ids = self.index.nodes.document_ids
        units: Sequence[Hashable] = document_ids if self.settings.fold else range(len(document_ids))
        best = {name: _best_hits(hits, units) for name, hits in found.items()}
        ranking = self.combine(
            {
                name: [(unit, hits[place][1]) for unit, place in best[name].items()]
                for name, hits in found.items()
            }
        )
        return [_found(unit, score, found, best, document_ids) for unit, score in ranking[:k]]

    async def nodes(self, query: str, k: int | None = None) -> list[NodeWithScore]:
        """The `k` best nodes, at most `settings.top_k`: `aretrieve` without LlamaIndex's events."""
        most = self.settings.top_k if k is None else min(k, self.settings.top_k)
        searched = await self.searches(query)
        with stage("fuse"):
            return await self.index.run(partial(self._nodes, searched, most))

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return await self.nodes(query_bundle.query_str)

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return run_sync(self._aretrieve(query_bundle))

    def _nodes(self, searched: Searched, k: int) -> list[NodeWithScore]:
        ranked = self._ranked(searched.hits, k)
        return [self._node(found, searched.degraded) for found in ranked]

    def _node(self, found: Found, degraded: str) -> NodeWithScore:
        position = self.index.nodes.whole(found.position) if self.settings.fold else found.position
        node = self.index.text_node(position)
        node.metadata["document_id"] = found.document_id
        node.metadata["scores"] = {name: round(score, 4) for name, score in found.scores.items()}
        node.metadata["ranks"] = dict(found.ranks)
        if degraded:
            node.metadata["degraded"] = degraded
            node.excluded_llm_metadata_keys.append("degraded")
        return NodeWithScore(node=node, score=found.score)

    async def _dense(self, query: str, allowed: np.ndarray | None) -> Hits:
        return await self.index.search_dense(query, self.settings.candidates, allowed)

    async def _keyword(self, query: str, allowed: np.ndarray | None) -> Hits:
        return await self.index.search_keywords(query, self.settings.candidates, allowed)

    async def _allowed(self) -> np.ndarray | None:
        if self.filters is None:
            return None
        return await self.index.run(partial(self.index.allowed, self.filters))


def _best_hits(hits: Hits, units: Sequence[Hashable]) -> dict[Hashable, int]:
    """The place among the hits, which come best first, of the best one of each unit."""
    best: dict[Hashable, int] = {}
    for place, (position, _) in enumerate(hits):
        best.setdefault(units[position], place)
    return best


def _found(
    unit: Hashable,
    score: float,
    hits: Mapping[str, Hits],
    best: Mapping[str, Mapping[Hashable, int]],
    document_ids: Sequence[str],
) -> Found:
    """The entry of a unit, at the best node of the last search that found it."""
    position, scores, ranks = -1, {}, {}
    for name, places in best.items():
        if unit in places:
            position, scores[name] = hits[name][places[unit]]
            ranks[name] = places[unit] + 1
    return Found(position, document_ids[position], score, scores, ranks)


class DenseRetriever(SnapshotRetriever):
    """Nearest vectors by cosine. It never makes do with less: a comparison would be untrue."""

    async def searches(self, query: str) -> Searched:
        """The dense search.

        Raises:
            ModelError: the question could not be embedded.
        """
        return Searched({"dense": await self._dense(query, await self._allowed())})

    def combine(self, lists: Mapping[str, Ranking]) -> Ranking:
        """As it is."""
        return lists["dense"]


class KeywordRetriever(SnapshotRetriever):
    """BM25 with the stemmer and stop words of the corpus language."""

    async def searches(self, query: str) -> Searched:
        """The keyword search."""
        return Searched({"keyword": await self._keyword(query, await self._allowed())})

    def combine(self, lists: Mapping[str, Ranking]) -> Ranking:
        """As it is."""
        return lists["keyword"]


class HybridRetriever(SnapshotRetriever):
    """Dense and keyword search at the same time, fused.

    The default fusion is a convex combination of normalised scores whose weight depends on the
    embedder: with equal weights the weaker half drags the better one down. While the provider of
    the embeddings fails, keywords alone are searched, and the nodes and the trace say so.
    """

    @property
    def dense_weight(self) -> float:
        """Share of the dense score in the fused one, from 0 to 1."""
        if self.settings.dense_weight is not None:
            return self.settings.dense_weight
        local = isinstance(self.index.embedder, LsaEmbedder)
        return LOCAL_DENSE_WEIGHT if local else REMOTE_DENSE_WEIGHT

    async def searches(self, query: str) -> Searched:
        """Both searches, at the same time; the keyword search alone if no vector can be had now.

        Raises:
            ModelError: the question could not be embedded, and waiting would not help.
        """
        allowed = await self._allowed()
        dense, keyword = await asyncio.gather(
            self._dense_or_failure(query, allowed), self._keyword(query, allowed)
        )
        if not isinstance(dense, ProviderError):
            return Searched({"dense": dense, "keyword": keyword})
        reason = f"keyword search only: {str(dense).partition('. ')[0]}"
        degrade(reason)
        return Searched({"keyword": keyword}, reason)

    async def _dense_or_failure(
        self, query: str, allowed: np.ndarray | None
    ) -> Hits | ProviderError:
        try:
            return await self._dense(query, allowed)
        except ProviderError as error:
            return error

    def combine(self, lists: Mapping[str, Ranking]) -> Ranking:
        """Fused as `settings.fusion` says; the keyword list alone counts whole."""
        weights = {"dense": self.dense_weight, "keyword": 1 - self.dense_weight}
        if len(lists) == 1:
            weights = dict.fromkeys(lists, 1.0)
        rankings = list(lists.values())
        shares = [weights[name] for name in lists]
        if self.settings.fusion == "reciprocal_rank":
            return fuse_ranks([[key for key, _ in ranking] for ranking in rankings], shares)
        return fuse_scores(rankings, shares, normalise="max")
