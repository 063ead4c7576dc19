"""Dense, keyword and hybrid retrievers: LlamaIndex retrievers over one snapshot."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field

import numpy as np
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.schema import NodeWithScore, QueryBundle
from llama_index.core.vector_stores.types import MetadataFilters

from rag_lab.index.snapshot import LabIndex
from rag_lab.models.local import LsaEmbedder
from rag_lab.retrieval.fusion import fold, fuse_ranks, fuse_scores
from rag_lab.settings import RetrievalSettings
from rag_lab.sync import run_sync

Hits = list[tuple[int, float]]
Ranking = list[tuple[Hashable, float]]

LOCAL_DENSE_WEIGHT = 0.1
REMOTE_DENSE_WEIGHT = 0.5


@dataclass(frozen=True, slots=True)
class Found:
    """One entry of a ranking: a node, and what each search gave to it or to its document."""

    position: int
    document_id: str
    score: float
    scores: Mapping[str, float] = field(default_factory=dict)


class SnapshotRetriever(BaseRetriever):
    """Base of the retrievers over a `LabIndex`.

    Args:
        index: an open snapshot.
        settings: how many, how deep, how fused.
        filters: LlamaIndex metadata filters on what may be returned.

    A retrieved node carries in its metadata its `document_id` and, under `scores`, what each
    search gave. With `settings.fold` (the default) a document is returned once, by its best node.
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

    async def searches(self, query: str) -> Mapping[str, Hits]:
        """The hits of each search that takes part, by its name; they run at the same time."""
        raise NotImplementedError

    def combine(self, lists: Mapping[str, Ranking]) -> Ranking:
        """One ranking of the lists of the searches."""
        raise NotImplementedError

    async def rank(self, query: str) -> list[Found]:
        """Ranks documents (or nodes, without `fold`) for a question, best first.

        Each search is folded to documents before they are combined: a search that ranks one node
        of a document and another that ranks a second node of it agree about the document.
        """
        found = await self.searches(query)
        unit = self._unit_of()
        folded = {name: fold(hits, unit) for name, hits in found.items()}
        best = self._best_nodes(found, unit)
        given = {name: dict(ranking) for name, ranking in folded.items()}
        document_ids = self.index.nodes.document_ids
        return [
            Found(
                best[key],
                document_ids[best[key]],
                score,
                {name: scores[key] for name, scores in given.items() if key in scores},
            )
            for key, score in self.combine(folded)
        ]

    async def rank_documents(self, query: str, k: int | None = None) -> list[tuple[str, float]]:
        """The k best (document id, score) of a question, best first; for measuring."""
        ranked = [(found.document_id, found.score) for found in await self.rank(query)]
        return fold(ranked, key=lambda document_id: document_id)[:k]

    def _unit_of(self) -> Callable[[int], Hashable]:
        if not self.settings.fold:
            return lambda position: position
        document_ids = self.index.nodes.document_ids
        return lambda position: document_ids[position]

    def _best_nodes(
        self, found: Mapping[str, Hits], unit: Callable[[int], Hashable]
    ) -> dict[Hashable, int]:
        """The node to show for each unit: the best one of the last search that found it."""
        return {
            unit(position): position
            for hits in found.values()
            for position, _ in reversed(hits)  # the best hit of a unit overwrites its others
        }

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        ranked = await self.rank(query_bundle.query_str)
        return await asyncio.to_thread(
            lambda: [self._node(found) for found in ranked[: self.settings.top_k]]
        )

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return run_sync(self._aretrieve(query_bundle))

    def _node(self, found: Found) -> NodeWithScore:
        node = self.index.text_node(found.position)
        node.metadata["document_id"] = found.document_id
        node.metadata["scores"] = {name: round(score, 4) for name, score in found.scores.items()}
        return NodeWithScore(node=node, score=found.score)

    async def _dense(self, query: str) -> Hits:
        return await self.index.search_dense(query, self.settings.candidates, await self._allowed())

    async def _keyword(self, query: str) -> Hits:
        return await self.index.search_keywords(
            query, self.settings.candidates, await self._allowed()
        )

    async def _allowed(self) -> np.ndarray | None:
        if self.filters is None:
            return None
        return await asyncio.to_thread(self.index.allowed, self.filters)


class DenseRetriever(SnapshotRetriever):
    """Nearest vectors by cosine."""

    async def searches(self, query: str) -> Mapping[str, Hits]:
        """The dense search."""
        return {"dense": await self._dense(query)}

    def combine(self, lists: Mapping[str, Ranking]) -> Ranking:
        """As it is."""
        return lists["dense"]


class KeywordRetriever(SnapshotRetriever):
    """BM25 with the stemmer and stop words of the corpus language."""

    async def searches(self, query: str) -> Mapping[str, Hits]:
        """The keyword search."""
        return {"keyword": await self._keyword(query)}

    def combine(self, lists: Mapping[str, Ranking]) -> Ranking:
        """As it is."""
        return lists["keyword"]


class HybridRetriever(SnapshotRetriever):
    """Dense and keyword search at the same time, fused.

    The default fusion is a convex combination of normalised scores whose weight depends on the
    embedder: with equal weights the weaker half drags the better one down.
    """

    @property
    def dense_weight(self) -> float:
        """Share of the dense score in the fused one, from 0 to 1."""
        if self.settings.dense_weight is not None:
            return self.settings.dense_weight
        local = isinstance(self.index.embedder, LsaEmbedder)
        return LOCAL_DENSE_WEIGHT if local else REMOTE_DENSE_WEIGHT

    async def searches(self, query: str) -> Mapping[str, Hits]:
        """Both searches, at the same time."""
        dense, keyword = await asyncio.gather(self._dense(query), self._keyword(query))
        return {"dense": dense, "keyword": keyword}

    def combine(self, lists: Mapping[str, Ranking]) -> Ranking:
        """Fused as `settings.fusion` says."""
        weights = (self.dense_weight, 1 - self.dense_weight)
        both = [lists["dense"], lists["keyword"]]
        if self.settings.fusion == "reciprocal_rank":
            return fuse_ranks([[key for key, _ in ranking] for ranking in both], weights)
        return fuse_scores(both, weights, normalise="max")
