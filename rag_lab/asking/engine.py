"""Asking a question: retrieve, then answer. One object for LlamaIndex and for us."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from llama_index.core.base.base_query_engine import BaseQueryEngine
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.base.response.schema import Response
from llama_index.core.schema import NodeWithScore, QueryBundle

from rag_lab.asking.answer import Answerer, ExtractiveAnswerer, GeneratedAnswerer
from rag_lab.asking.passages import passages_of
from rag_lab.index.snapshot import LabIndex
from rag_lab.models import Models
from rag_lab.records import Answer, Timing
from rag_lab.retrieval import HybridRetriever
from rag_lab.settings import Settings, load_settings
from rag_lab.sync import run_sync


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
        """The engine of an index: hybrid retrieval unless told otherwise."""
        chosen = settings or load_settings()
        llm = models.llm if models else None
        answerer: Answerer = (
            GeneratedAnswerer(llm, index.analyzer.language)
            if llm is not None
            else ExtractiveAnswerer(index, chosen.answer)
        )
        return cls(
            retriever or HybridRetriever(index, chosen.retrieval),
            answerer,
            passages=chosen.answer.passages,
        )

    async def ask(self, question: str) -> Answer:
        """Answers a question.

        Raises:
            ModelError: a remote model failed.
        """
        answer, _ = await self._ask(question)
        return answer

    async def _ask(self, question: str) -> tuple[Answer, list[NodeWithScore]]:
        started = time.perf_counter()
        nodes = (await self.retriever.aretrieve(question))[: self.passages]
        retrieved = time.perf_counter()
        answer = await self.answerer.answer(question, nodes, passages_of(nodes))
        finished = time.perf_counter()
        stages = {"retrieve": retrieved - started, "answer": finished - retrieved}
        return replace(answer, timing=Timing(finished - started, stages)), nodes

    async def _aquery(self, query_bundle: QueryBundle) -> Response:
        answer, nodes = await self._ask(query_bundle.query_str)
        metadata: dict[str, Any] = {"answer": answer.to_dict()}
        return Response(response=answer.text, source_nodes=nodes, metadata=metadata)

    def _query(self, query_bundle: QueryBundle) -> Response:
        return run_sync(self._aquery(query_bundle))

    def _get_prompt_modules(self) -> dict[str, Any]:
        return {}
