"""What people do today, written as they write it: these are what we are measured against.

Every client is used with its own defaults for retries and timeouts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import faiss
import numpy as np
import openai
from llama_index.core import Document, VectorStoreIndex
from llama_index.core.base.llms.types import LLMMetadata
from llama_index.core.ingestion import IngestionPipeline
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.schema import BaseNode, MetadataMode, TextNode
from llama_index.core.vector_stores.types import (
    BasePydanticVectorStore,
    VectorStoreQuery,
    VectorStoreQueryResult,
)
from llama_index.embeddings.openai import OpenAIEmbedding
from llama_index.llms.openai import OpenAI as OpenAIChat
from pydantic import PrivateAttr

if TYPE_CHECKING:
    import httpx
    from llama_index.core.base.base_query_engine import BaseQueryEngine

MODEL: Final = "simulated"
_KEY: Final = "none"
_BATCH: Final = 100

Ingest = Callable[[str, Sequence[Document]], Awaitable[faiss.Index]]
"""Embeds documents at a base URL into an index whose ids are their places."""


async def sync_batches(base_url: str, documents: Sequence[Document]) -> faiss.Index:
    """One batch of 100 after another; in a notebook this holds the event loop."""
    client = openai.OpenAI(base_url=base_url, api_key=_KEY)
    vectors: list[list[float]] = []
    for batch in _batches(documents):
        reply = client.embeddings.create(model=MODEL, input=batch)
        vectors += [item.embedding for item in reply.data]
    client.close()
    return _indexed(np.array(vectors, np.float32))


def semaphore(limit: int) -> Ingest:
    """All batches of 100 at once, so many of them in flight."""

    async def ingest(base_url: str, documents: Sequence[Document]) -> faiss.Index:
        gate = asyncio.Semaphore(limit)
        async with openai.AsyncOpenAI(base_url=base_url, api_key=_KEY) as client:

            async def embed(batch: list[str]) -> list[list[float]]:
                async with gate:
                    reply = await client.embeddings.create(model=MODEL, input=batch)
                return [item.embedding for item in reply.data]

            found = await asyncio.gather(*(embed(batch) for batch in _batches(documents)))
        return _indexed(np.array([vector for batch in found for vector in batch], np.float32))

    return ingest


def llama_index_pipeline(**embedding: Any) -> Ingest:
    """LlamaIndex's `IngestionPipeline`; the documents are short, so nothing is split."""

    async def ingest(base_url: str, documents: Sequence[Document]) -> faiss.Index:
        store = FaissStore()
        async with http_client() as http:
            model = llama_index_embedding(base_url, http, **embedding)
            pipeline = IngestionPipeline(transformations=[model], vector_store=store)
            await pipeline.arun(documents=list(documents))
        index: faiss.Index = store.client
        return index

    return ingest


INGEST: Final[dict[str, Ingest]] = {
    "sync batches of 100": sync_batches,
    "Semaphore(5)": semaphore(5),
    "Semaphore(10)": semaphore(10),
    "LlamaIndex, defaults": llama_index_pipeline(),
    "LlamaIndex, best": llama_index_pipeline(embed_batch_size=_BATCH, num_workers=16),
}


class FaissStore(BasePydanticVectorStore):
    """Inner product over vectors that LlamaIndex hands over; adds them in one piece.

    LlamaIndex's own store for FAISS adds row by row, which would cost it 40 µs a node more.
    """

    stores_text: bool = True
    is_embedding_query: bool = True
    _index: Any = PrivateAttr(default=None)
    _nodes: list[BaseNode] = PrivateAttr(default_factory=list)

    def __init__(self) -> None:
        super().__init__(stores_text=True)

    @property
    def client(self) -> Any:
        """The index; None while it is empty."""
        return self._index

    def add(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[str]:
        """Adds nodes with their vectors."""
        matrix = np.array([node.get_embedding() for node in nodes], np.float32)
        self._index = self._index or faiss.IndexFlatIP(matrix.shape[1])
        self._index.add(matrix)
        self._nodes += nodes
        return [node.node_id for node in nodes]

    def query(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """The nodes most like a vector."""
        asked = np.array([query.query_embedding], np.float32)
        scores, places = self.client.search(asked, query.similarity_top_k)
        nodes = [self._nodes[place] for place in places[0]]
        ids = [node.node_id for node in nodes]
        return VectorStoreQueryResult(nodes=nodes, similarities=scores[0].tolist(), ids=ids)

    def delete(self, ref_doc_id: str, **delete_kwargs: Any) -> None:
        raise NotImplementedError


class CompatibleChat(OpenAIChat):
    """LlamaIndex's chat model for a name it does not know."""

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(is_chat_model=True, model_name=self.model, context_window=16_384)

    @property
    def _tokenizer(self) -> None:
        """None: tiktoken would fetch a vocabulary from the network."""
        return


def http_client() -> httpx.AsyncClient:
    """The client that `openai` makes by default; as an object of its own it can be closed."""
    return openai.DefaultAsyncHttpxClient()


def llama_index_embedding(base_url: str, http: httpx.AsyncClient, **more: Any) -> OpenAIEmbedding:
    """LlamaIndex's embedding model at a base URL."""
    return OpenAIEmbedding(
        model_name=MODEL, api_base=base_url, api_key=_KEY, async_http_client=http, **more
    )


def llama_index_engine(
    base_url: str,
    http: httpx.AsyncClient,
    documents: Sequence[Document],
    vectors: np.ndarray,
    passages: int,
) -> BaseQueryEngine:
    """LlamaIndex's `RetrieverQueryEngine` over a `VectorStoreIndex` of vectors already known."""
    store = FaissStore()
    texts = (document.get_content(metadata_mode=MetadataMode.EMBED) for document in documents)
    store.add(
        [
            TextNode(id_=document.id_, text=text, embedding=row.tolist())
            for document, text, row in zip(documents, texts, vectors, strict=True)
        ]
    )
    model = llama_index_embedding(base_url, http)
    index = VectorStoreIndex.from_vector_store(store, embed_model=model)
    chat = CompatibleChat(  # type: ignore[call-arg] # mypy sees the fields, not what it takes
        model=MODEL, api_base=base_url, api_key=_KEY, async_http_client=http
    )
    return RetrieverQueryEngine.from_args(index.as_retriever(similarity_top_k=passages), llm=chat)


def _batches(documents: Sequence[Document]) -> list[list[str]]:
    texts = [document.text for document in documents]
    return [texts[start : start + _BATCH] for start in range(0, len(texts), _BATCH)]


def _indexed(matrix: np.ndarray) -> faiss.Index:
    index = faiss.IndexFlatIP(matrix.shape[1])
    index.add(matrix)
    return index
