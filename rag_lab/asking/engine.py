"""Asking a question: retrieve, then answer. One object for LlamaIndex and for us."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any, TypeAlias

from llama_index.core.base.base_query_engine import BaseQueryEngine
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.base.response.schema import Response
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import NodeWithScore, QueryBundle

from rag_lab.asking.answer import Answerer, ExtractiveAnswerer, GeneratedAnswerer
from rag_lab.asking.cited import CitedAnswerer
from rag_lab.asking.decompose import Decomposer, Decomposition, build_decomposer
from rag_lab.asking.merge import brought_alone, merge_nodes, together
from rag_lab.asking.parts import (
    Found,
    PartLimits,
    PartRun,
    ask_parts,
    decomposed,
    error_of_all,
    needs_of,
    told,
)
from rag_lab.asking.passages import document_ids_of, passages_of, without_citations
from rag_lab.errors import ModelError
from rag_lab.index.snapshot import LabIndex
from rag_lab.models import Models
from rag_lab.records import Answer, Part, PartOutcome
from rag_lab.retrieval import NamedRetriever, SnapshotRetriever
from rag_lab.settings import Settings, load_settings
from rag_lab.sync import run_sync
from rag_lab.telemetry import degrade, stage, tracing, tracing_within
from rag_lab.telemetry.trace import clock

Retrieve: TypeAlias = Callable[[str], Awaitable[list[NodeWithScore]]]
Answered: TypeAlias = tuple[Answer, list[NodeWithScore]]
"""An answer and the nodes it was drawn from."""

_FILLED_CHARS = 200
"""An answer that is filled into a later part is cut to about a sentence."""


class LabQueryEngine(BaseQueryEngine):
    """A LlamaIndex query engine whose answers carry their evidence.

    `ask` gives an `Answer`; `query` and `aquery` give a LlamaIndex `Response` with the same
    `Answer` as plain data under `metadata["answer"]`.

    With a decomposer a question of several parts is retrieved and answered part by part, all at the
    same time, and `Answer.parts` tells what became of each. The whole is then written in one call
    from what all parts found, if there is a `part_answerer` that quotes for the parts; if not, or
    while that call fails, the parts' answers together are the whole.

    Args:
        retriever: finds the passages.
        answerer: answers a question from them, and parts that later parts need the answer of.
        passages: how many an answer is drawn from, for each part.
        decomposer: finds the parts of a question; without one every question stays whole.
        part_answerer: answers the other parts; `answerer` by default.
        part_limits: how many parts at once, how long.
        reranker: any LlamaIndex postprocessor, given all the retriever returns; if it fails the
            order is kept, and the answer says so.
    """

    def __init__(
        self,
        retriever: BaseRetriever,
        answerer: Answerer,
        *,
        passages: int = 5,
        decomposer: Decomposer | None = None,
        part_answerer: Answerer | None = None,
        part_limits: PartLimits | None = None,
        reranker: BaseNodePostprocessor | None = None,
    ) -> None:
        super().__init__(callback_manager=None)
        self.retriever = retriever
        self.answerer = answerer
        self.passages = passages
        self.decomposer = decomposer
        self.part_answerer = part_answerer or answerer
        self.part_limits = part_limits or PartLimits()
        self.reranker = reranker

    @classmethod
    def over(
        cls,
        index: LabIndex,
        models: Models | None = None,
        settings: Settings | None = None,
        retriever: BaseRetriever | None = None,
        *,
        decomposer: Decomposer | None = None,
        part_limits: PartLimits | None = None,
        reranker: BaseNodePostprocessor | None = None,
    ) -> LabQueryEngine:
        """The engine of an index, by the settings where nothing else is given.

        What a question names comes first, then hybrid retrieval. With a chat model answers are
        written; while its provider fails they are quoted. Citations are answered without one.
        """
        chosen = settings or load_settings()
        asking = chosen.answer
        llm = models.llm if models else None
        quoting: Answerer = ExtractiveAnswerer(index, asking)
        answerer = quoting
        if llm is not None:
            answerer = GeneratedAnswerer(llm, index.analyzer.language, fallback=quoting)
        return cls(
            retriever or NamedRetriever(index, chosen.retrieval),
            CitedAnswerer(index, answerer),
            passages=asking.passages,
            decomposer=decomposer or build_decomposer(asking, index.analyzer.language, llm),
            part_answerer=CitedAnswerer(index, quoting) if llm else None,
            part_limits=part_limits or PartLimits(asking.parts_at_once, asking.part_deadline_s),
            reranker=reranker,
        )

    async def ask(self, question: str, *, scheduled_at: float | None = None) -> Answer:
        """Answers a question.

        Args:
            question: as a user would ask it.
            scheduled_at: when it was meant to be asked, on `telemetry.trace.clock`; the time
                since then is part of its timing (the stage "queue").

        Raises:
            ModelError: a remote model refused, and waiting would not help; while it does so only
                for some parts of a question, that is what became of those.
        """
        answer, _ = await self._ask(question, self._nodes, scheduled_at)
        return answer

    async def _ask(
        self, question: str, retrieve: Retrieve, scheduled_at: float | None = None
    ) -> Answered:
        with tracing(scheduled_at) as trace:
            if scheduled_at is not None:
                trace.add("queue", scheduled_at, clock())
            answer, nodes = await self._answered(question, retrieve)
        told = replace(
            answer,
            timing=trace.timing(),
            usage=trace.usage,
            degraded=tuple(trace.degraded),
            notes=tuple(trace.notes),
        )
        return told, nodes

    async def _answered(self, question: str, retrieve: Retrieve) -> Answered:
        if self.decomposer is not None:
            decomposition = await decomposed(self.decomposer, question)
            if not decomposition.whole:
                return await self._answered_in_parts(question, decomposition, retrieve)
        return await self._answered_whole(question, retrieve, self.answerer)

    async def _answered_whole(
        self, question: str, retrieve: Retrieve, answerer: Answerer
    ) -> Answered:
        nodes = await retrieve(question)
        if self.reranker is not None and nodes:
            nodes = await _reranked(self.reranker, question, nodes)
        nodes = nodes[: self.passages]
        with stage("synthesise"):
            return await answerer.answer(question, nodes, passages_of(nodes)), nodes

    async def _answered_in_parts(
        self, question: str, decomposition: Decomposition, retrieve: Retrieve
    ) -> Answered:
        needed = {*chain.from_iterable(needs_of(decomposition).values())}

        async def ask(number: int, text: str) -> Found[Answered]:
            answerer = self.answerer if number in needed else self.part_answerer
            return _found(*await self._answered_whole(text, retrieve, answerer))

        runs = await ask_parts(decomposition, ask, self.part_limits)
        error = error_of_all(runs)
        if isinstance(error, ModelError):
            raise error
        nodes = merge_nodes([run.found.value[1] if run.found else () for run in runs])
        return await self._whole(question, runs, nodes), nodes

    async def _whole(
        self, question: str, runs: Sequence[PartRun[Answered]], nodes: list[NodeWithScore]
    ) -> Answer:
        """The whole answer, written from what all parts found or put together from theirs."""
        passages, outcomes = passages_of(nodes), _outcomes(runs)
        if nodes and self.part_answerer is not self.answerer:
            with tracing_within() as trace, stage("synthesise"):
                written = await self.answerer.answer(question, nodes, passages)
            if not trace.degraded:
                return replace(written, parts=_settled(runs, outcomes, written))
        answers = [run.found.value[0] for run in runs if run.outcome == "answered" and run.found]
        if answers:
            return together(question, outcomes, answers, passages)
        refused = Answer(question, "", "refused", passages, parts=outcomes)
        text = next((outcome.text for outcome in outcomes if outcome.text), refused.ledger)
        return replace(refused, text=text, reason=refused.ledger)

    async def _nodes(self, question: str) -> list[NodeWithScore]:
        if isinstance(self.retriever, SnapshotRetriever):
            return await self.retriever.nodes(question, None if self.reranker else self.passages)
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


async def _reranked(
    reranker: BaseNodePostprocessor, question: str, nodes: list[NodeWithScore]
) -> list[NodeWithScore]:
    copies = [hit.model_copy() for hit in nodes]  # one that fails half-way may have changed scores
    try:
        with stage("rerank"):
            return await reranker.apostprocess_nodes(copies, query_str=question)
    except Exception as error:  # anything may run there; the order there was is an answer too
        degrade(f"not reranked: {told(error)}")
        return nodes


def _found(answer: Answer, nodes: list[NodeWithScore]) -> Found[Answered]:
    bare = without_citations(answer.text, answer.passages)
    return Found(
        (answer, nodes),
        document_ids_of(nodes),
        words="" if answer.refused else bare[:_FILLED_CHARS],
        refused=(answer.reason or answer.text) if answer.refused else "",
    )


def _outcomes(runs: Sequence[PartRun[Answered]]) -> tuple[PartOutcome, ...]:
    alone = brought_alone([run.found.document_ids if run.found else () for run in runs])
    return tuple(
        PartOutcome(
            Part(run.text),
            run.outcome,
            run.reason,
            run.found.value[0].text if run.found else "",
            brought,
            run.timing,
            run.usage,
        )
        for run, brought in zip(runs, alone, strict=True)
    )


def _settled(
    runs: Sequence[PartRun[Answered]], outcomes: Sequence[PartOutcome], written: Answer
) -> tuple[PartOutcome, ...]:
    """Outcomes after a model has read all passages: it knows better than who quoted for a part.

    A part is answered if the model cites what it found; one who cites nothing may have used all.
    """
    settled = []
    for run, outcome in zip(runs, outcomes, strict=True):
        found = run.found.document_ids if run.found else ()
        used = found and (not written.cited_ids or not {*written.cited_ids}.isdisjoint(found))
        if outcome.outcome == "answered" and written.refused:
            outcome = replace(outcome, outcome="refused", reason=written.reason)
        elif outcome.outcome == "refused" and used and not written.refused:
            outcome = replace(outcome, outcome="answered", reason="", text="")
        settled.append(outcome)
    return tuple(settled)
