"""One engine for us and for LlamaIndex: the same answer, in and out of an event loop."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence

import numpy as np
import pytest
from llama_index.core.base.response.schema import Response
from llama_index.core.schema import NodeWithScore

from provider import KEY, Provider
from rag_lab.asking import LabQueryEngine
from rag_lab.errors import ProviderError
from rag_lab.index import LabIndex
from rag_lab.models import build_models
from rag_lab.records import Answer, Passage, Usage
from rag_lab.retrieval import KeywordRetriever
from rag_lab.settings import load_settings
from rag_lab.telemetry import degrade, spend
from rag_lab.telemetry.trace import clock
from small import indexed

QUESTION = "Where does the yellow banana grow?"


@pytest.fixture
async def index() -> AsyncIterator[LabIndex]:
    made = await indexed()
    yield made
    made.close()


def without_time(answer: dict[str, object]) -> dict[str, object]:
    return {key: value for key, value in answer.items() if key != "timing"}


async def test_answer_and_response_agree(index: LabIndex) -> None:
    engine = LabQueryEngine.over(index)
    answer = await engine.ask(QUESTION)
    response = await engine.aquery(QUESTION)
    assert isinstance(answer, Answer)
    assert isinstance(response, Response)
    assert answer.text == str(response)
    assert "warm valleys" in answer.text
    assert without_time(response.metadata["answer"]) == without_time(answer.to_dict())
    shown = [hit.node.node_id for hit in response.source_nodes]
    assert shown == [passage.node_id for passage in answer.passages]
    json.dumps(response.metadata)


async def test_sync_queries_work_inside_a_running_loop(index: LabIndex) -> None:
    engine = LabQueryEngine.over(index)
    assert asyncio.get_running_loop().is_running()
    assert str(engine.query(QUESTION)) == str(await engine.aquery(QUESTION))


def test_sync_queries_work_without_a_loop() -> None:
    index = asyncio.run(indexed())
    assert "warm valleys" in str(LabQueryEngine.over(index).query(QUESTION))
    index.close()


async def test_time_is_told_by_stage(index: LabIndex) -> None:
    timing = (await LabQueryEngine.over(index).ask(QUESTION)).timing
    assert set(timing.stages_s) == {"search", "fuse", "synthesise"}
    assert all(0 <= span.began_s <= span.ended_s <= timing.total_s for span in timing.spans)


async def test_time_begins_when_the_question_was_to_be_asked(index: LabIndex) -> None:
    timing = (await LabQueryEngine.over(index).ask(QUESTION, scheduled_at=clock() - 5)).timing
    assert timing.spans[0].stage == "queue"
    assert timing.spans[0].began_s == 0
    assert 5 <= timing.stages_s["queue"] <= timing.total_s


class Spending:
    """An answerer that uses something and does without something."""

    async def answer(
        self, question: str, nodes: Sequence[NodeWithScore], passages: tuple[Passage, ...]
    ) -> Answer:
        spend(Usage(calls=2, prompt_tokens=7))
        degrade(f"without {question}")
        return Answer(question, "So.", "generated", passages)


async def test_an_answer_tells_what_it_used_and_did_without(index: LabIndex) -> None:
    engine = LabQueryEngine(KeywordRetriever(index), Spending())
    answers = await asyncio.gather(*(engine.ask(name) for name in ("apple", "banana")))
    for name, answer in zip(("apple", "banana"), answers, strict=True):
        assert answer.usage == Usage(calls=2, prompt_tokens=7)
        assert answer.degraded == (f"without {name}",)
    response = await engine.aquery("apple")
    assert response.metadata["answer"]["degraded"] == ("without apple",)


async def test_a_sound_answer_did_without_nothing(index: LabIndex) -> None:
    answer = await LabQueryEngine.over(index).ask(QUESTION)
    assert (answer.degraded, answer.usage) == ((), Usage())


class Down:
    """The embedder of a provider that cannot be reached."""

    async def embed_query(self, text: str) -> np.ndarray:
        raise ProviderError("embedding model 'm' cannot be reached. Run again later.")


async def test_while_embeddings_fail_questions_are_answered_by_keywords(index: LabIndex) -> None:
    index.embedder = Down()  # type: ignore[assignment]
    answer = await LabQueryEngine.over(index).ask(QUESTION)
    assert "warm valleys" in answer.text
    assert answer.degraded == ("keyword search only: embedding model 'm' cannot be reached",)


async def test_any_llama_index_retriever_may_be_used(index: LabIndex) -> None:
    engine = LabQueryEngine.over(index, retriever=index.vector_index().as_retriever())
    assert (await engine.ask(QUESTION)).passages[0].document_id == "banana"


async def test_an_answer_is_drawn_from_as_many_passages_as_set(index: LabIndex) -> None:
    engine = LabQueryEngine.over(index, settings=load_settings(answer={"passages": 2}))
    answer = await engine.ask("apple banana carrot durian fruit")
    assert len(answer.passages) == 2


async def test_more_passages_than_top_k_are_retrieved_if_set(index: LabIndex) -> None:
    chosen = load_settings(answer={"passages": 4}, retrieval={"top_k": 4})
    answer = await LabQueryEngine.over(index, settings=chosen).ask("apple banana carrot durian")
    assert len(answer.passages) == 4


async def test_any_retriever_may_be_used(index: LabIndex) -> None:
    engine = LabQueryEngine.over(index, retriever=KeywordRetriever(index))
    answer = await engine.ask(QUESTION)
    assert set(answer.passages[0].scores) == {"keyword"}


async def test_a_question_beyond_the_corpus_is_refused(index: LabIndex) -> None:
    response = await LabQueryEngine.over(index).aquery("Who was Napoleon Bonaparte?")
    assert str(response) == "Not found in the corpus."
    assert response.metadata["answer"]["kind"] == "refused"
    assert response.metadata["answer"]["reason"]


async def test_many_questions_at_once_get_their_own_answers(index: LabIndex) -> None:
    engine = LabQueryEngine.over(index)
    names = ["apple", "banana", "carrot", "durian"] * 5
    answers = await asyncio.gather(*(engine.ask(f"How does the {name} grow?") for name in names))
    assert [answer.passages[0].document_id for answer in answers] == names


async def test_with_a_model_configured_the_answer_is_written(
    index: LabIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Provider(answer="In valleys.") as provider:
        for name, value in provider.environment("LLM", model="any-name").items():
            monkeypatch.setenv(name, value)
        settings = load_settings()
        engine = LabQueryEngine.over(index, build_models(settings), settings)
        response = await engine.aquery(QUESTION)
    assert str(response) == "In valleys."
    assert response.metadata["answer"]["kind"] == "generated"
    assert KEY not in json.dumps(response.metadata)
    assert KEY not in repr(engine)
