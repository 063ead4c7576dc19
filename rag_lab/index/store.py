"""A LlamaIndex vector store over a snapshot, so that any LlamaIndex retriever works on it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import numpy as np
from llama_index.core.schema import BaseNode
from llama_index.core.vector_stores.types import (
    BasePydanticVectorStore,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryResult,
)
from pydantic import PrivateAttr

from rag_lab.errors import IndexStateError
from rag_lab.index.snapshot import LabIndex


class SnapshotVectorStore(BasePydanticVectorStore):
    """Searches a `LabIndex`; cannot be changed, because snapshots are immutable.

    Similarities are cosines. Metadata filters, `doc_ids` and `node_ids` are honoured.
    """

    stores_text: bool = True
    is_embedding_query: bool = True
    _index: LabIndex = PrivateAttr()

    def __init__(self, index: LabIndex) -> None:
        super().__init__(stores_text=True)
        self._index = index

    @classmethod
    def class_name(cls) -> str:
        return "SnapshotVectorStore"

    @property
    def client(self) -> LabIndex:
        """The snapshot itself."""
        return self._index

    def query(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """The most similar nodes to `query.query_embedding`."""
        if query.query_embedding is None:
            raise IndexStateError("a vector search needs query_embedding, got none.")
        vector = np.asarray(query.query_embedding, np.float32)
        length = float(np.linalg.norm(vector))
        unit = vector / length if length else vector
        allowed = self._allowed(query)
        hits = self._index.vectors.search(
            unit[None, :],
            query.similarity_top_k,
            None if allowed is None else np.flatnonzero(allowed),
        )[0]
        nodes = [self._index.text_node(position) for position, _ in hits]
        return VectorStoreQueryResult(
            nodes=nodes, similarities=[score for _, score in hits], ids=[n.node_id for n in nodes]
        )

    async def aquery(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """`query`, off the event loop."""
        return await asyncio.to_thread(self.query, query, **kwargs)

    def get_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None
    ) -> list[BaseNode]:
        """Nodes by id, by filter, or all.

        Raises:
            IndexStateError: an id is unknown.
        """
        places = self._index.places
        allowed = self._index.allowed(filters)
        unknown = [node_id for node_id in node_ids or () if node_id not in places]
        if unknown:
            raise IndexStateError(f"{self._index.corpus} has no node {unknown[0]!r}.")
        wanted = range(len(self._index)) if node_ids is None else [places[i] for i in node_ids]
        return [self._index.text_node(p) for p in wanted if allowed is None or allowed[p]]

    async def aget_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None
    ) -> list[BaseNode]:
        """`get_nodes`, off the event loop."""
        return await asyncio.to_thread(self.get_nodes, node_ids, filters)

    def add(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[str]:
        """Refused: a snapshot does not change."""
        raise IndexStateError(
            "a snapshot does not change. Add the documents to the corpus and run 'rag-lab ingest': "
            "only new ones are embedded."
        )

    def delete(self, ref_doc_id: str, **delete_kwargs: Any) -> None:
        """Refused: a snapshot does not change."""
        raise IndexStateError(
            "a snapshot does not change. Take the document out of the corpus and run "
            "'rag-lab ingest'."
        )

    def _allowed(self, query: VectorStoreQuery) -> np.ndarray | None:
        masks = []
        if query.filters is not None:
            masks.append(self._index.allowed(query.filters))
        if query.doc_ids:  # LlamaIndex passes an empty list for 'all'
            masks.append(np.isin(self._index.nodes.document_ids, query.doc_ids))
        if query.node_ids:
            masks.append(np.isin(self._index.nodes.ids, query.node_ids))
        kept = [mask for mask in masks if mask is not None]
        return np.logical_and.reduce(kept) if kept else None
