"""Asking a question: retrieve, then answer. One object for LlamaIndex and for us."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, TypeAlias

from llama_index.core.base.base_query_engine import BaseQueryEngine
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.base.response.schema import Response
from llama_index.core.schema import NodeWithScore, QueryBundle

from rag_lab.asking.answer import Answerer, ExtractiveAnswerer, GeneratedAnswerer
from rag_lab.asking.passages import passages_of
from rag_lab.index.snapshot import LabIndex
from rag_lab.models import Models
from rag_lab.records import Answer
from rag_lab.retrieval import HybridRetriever, SnapshotRetriever
from rag_lab.settings import Settings, load_settings
from rag_lab.sync import run_sync
from rag_lab.telemetry import stage, tracing
from rag_lab.telemetry.trace import clock

Retrieve: TypeAlias = Callable[[str], Awaitable[list[NodeWithScore]]]


class LabQueryEngine(BaseQueryEngine):
    """A LlamaIndex query engine whose answers carry their evidence.

    `ask` gives an `Answer`; `query` and `aquery` give a LlamaIndex `Response` with the same
    `Answer` as plain data under `metadata["answer"]`.
    """

    def __init__(self, retriever: BaseRetriever, answerer: Answerer, *, passages: int = 5) -> None:
        super().__init__(callback_manager=None)
        self.retriever = retriever
        self.answerer = answerer
        self.passages = passages

    @classmethod
    def over(
        cls,
        index: LabIndex,
        models: Models | None = None,
        settings: Settings | None = None,
        retriever: BaseRetriever | None = None,
    ) -> LabQueryEngine:
        """The engine of an index: hybrid retrieval unless told otherwise.

        With a chat model answers are written; while its provider fails they are quoted.
        """
        chosen = settings or load_settings()
        llm = models.llm if models else None
        answerer: Answerer = ExtractiveAnswerer(index, chosen.answer)
        if llm is not None:
            answerer = GeneratedAnswerer(llm, index.analyzer.language, fallback=answerer)
        return cls(
            retriever or HybridRetriever(index, chosen.retrieval),
            answerer,
            passages=chosen.answer.passages,
        )

    async def ask(self, question: str, *, scheduled_at: float | None = None) -> Answer:
        """Answers a question.

        Args:
            question: as a user would ask it.
            scheduled_at: when it was meant to be asked, on `telemetry.trace.clock`; the time
                since then is part of its timing (the stage "queue").

        Raises:
            ModelError: a remote model refused, and waiting would not help.
        """
        answer, _ = await self._ask(question, self._nodes, scheduled_at)
        return answer

    async def _ask(
        self, question: str, retrieve: Retrieve, scheduled_at: float | None = None
    ) -> tuple[Answer, list[NodeWithScore]]:
        with tracing(scheduled_at) as trace:
            if scheduled_at is not None:
                trace.add("queue", scheduled_at, clock())
            nodes = (await retrieve(question))[: self.passages]
            with stage("synthesise"):
                answer = await self.answerer.answer(question, nodes, passages_of(nodes))
        told = replace(
            answer, timing=trace.timing(), usage=trace.usage, degraded=tuple(trace.degraded)
        )
        return told, nodes

    async def _nodes(self, question: str) -> list[NodeWithScore]:
        if isinstance(self.retriever, SnapshotRetriever):
            return await self.retriever.nodes(question, self.passages)
        return await self.retriever.aretrieve(question)

    async def _aquery(self, query_bundle: QueryBundle) -> Response:
        # LlamaIndex's own entry: whoever watches its events sees the retrieval too.
        answer, nodes = await self._ask(query_bundle.query_str, self.retriever.aretrieve)
        metadata: dict[str, Any] = {"answer": answer.to_dict()}
        return Response(response=answer.text, source_nodes=nodes, metadata=metadata)

    def _query(self, query_bundle: QueryBundle) -> Response:
        return run_sync(self._aquery(query_bundle))

    def _get_prompt_modules(self) -> dict[str, Any]:
        return {}
