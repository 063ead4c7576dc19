"""One engine for us and for LlamaIndex: the same answer, in and out of an event loop."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Sequence

import numpy as np
import pytest
from llama_index.core.base.response.schema import Response
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import NodeWithScore, QueryBundle

from provider import KEY, Provider
from rag_lab.asking import LabQueryEngine
from rag_lab.asking.decompose import Decomposition
from rag_lab.asking.parts import PartLimits
from rag_lab.errors import ModelError, ProviderError
from rag_lab.index import LabIndex
from rag_lab.models import build_models
from rag_lab.records import Answer, Passage, Usage
from rag_lab.retrieval import KeywordRetriever
from rag_lab.settings import load_settings
from rag_lab.telemetry import degrade, spend
from rag_lab.telemetry.trace import clock
from small import indexed
from watched import settle

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
    assert set(timing.stages_s) == {"decompose", "lookup", "search", "fuse", "synthesise"}
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


APPLE, CARROT = "What is the red apple?", "What is the orange carrot?"
BOTH = f"{APPLE} | {CARROT}"


class Cut:
    """Takes a question apart at "|"."""

    async def decompose(self, question: str) -> Decomposition:
        return Decomposition(tuple(part.strip() for part in question.split("|")), "llm")


class Told:
    """An answerer that does as a test tells it, by the text of the question."""

    def __init__(self, **told: str | Exception) -> None:
        self._told = told
        self.asked: list[str] = []

    async def answer(
        self, question: str, nodes: Sequence[NodeWithScore], passages: tuple[Passage, ...]
    ) -> Answer:
        self.asked.append(question)
        spend(Usage(calls=1))
        told = self._told.get(question.partition(" ")[0], f"Of {question}. [1]")
        if isinstance(told, Exception):
            raise told
        if told == "hang":
            await asyncio.Event().wait()
        if told == "" or not passages:
            return Answer(question, "Not found.", "refused", passages, reason="it is not there")
        return Answer(question, told, "generated", passages, (passages[0].document_id,))


async def test_a_question_in_parts_is_answered_part_by_part_and_as_a_whole(index: LabIndex) -> None:
    answer = await LabQueryEngine.over(index, decomposer=Cut()).ask(BOTH)
    assert answer.ledger == "2 of 2 parts answered"
    assert [outcome.part.text for outcome in answer.parts] == [APPLE, CARROT]
    assert "red fruit" in answer.parts[0].text
    assert "orange root" in answer.parts[1].text
    assert answer.text == "\n\n".join(
        f"{number}. {outcome.part.text}\n{outcome.text}"
        for number, outcome in enumerate(answer.parts, 1)
    )
    assert (answer.question, answer.kind) == (BOTH, "extractive")
    assert {"apple", "carrot"} <= set(answer.cited_ids)
    first, second = (passage.document_id for passage in answer.passages[:2])
    assert (first, second) == ("apple", "carrot")
    folded = Counter(passage.node_id for passage in answer.passages)
    assert set(folded.values()) == {1}


async def test_a_question_of_one_part_is_answered_as_without_a_decomposer(index: LabIndex) -> None:
    plain = await LabQueryEngine.over(index).ask(QUESTION)
    whole = await LabQueryEngine.over(index, decomposer=Cut()).ask(QUESTION)
    assert without_time(whole.to_dict()) == without_time(plain.to_dict())
    assert whole.parts == ()
    assert whole.ledger == ""


async def test_each_part_tells_what_it_alone_brought(index: LabIndex) -> None:
    settings = load_settings(answer={"passages": 1})
    engine = LabQueryEngine.over(index, settings=settings, decomposer=Cut())
    answer = await engine.ask(f"{APPLE} | {CARROT} | {APPLE}")
    assert [outcome.document_ids for outcome in answer.parts] == [(), ("carrot",), ()]
    assert [passage.parts for passage in answer.passages] == [(1, 3), (2,)]
    assert all(outcome.timing.total_s > 0 for outcome in answer.parts)
    assert set(answer.timing.stages_s) == {"decompose", "lookup", "search", "fuse", "synthesise"}


async def test_llama_index_sees_the_parts_too(index: LabIndex) -> None:
    engine = LabQueryEngine.over(index, decomposer=Cut())
    response = await engine.aquery(BOTH)
    told = response.metadata["answer"]
    assert str(response) == (await engine.ask(BOTH)).text
    assert [part["outcome"] for part in told["parts"]] == ["answered", "answered"]
    assert len(response.source_nodes) == len(told["passages"])
    json.dumps(response.metadata)


async def test_a_part_beyond_the_corpus_is_refused_and_the_other_answered(index: LabIndex) -> None:
    answer = await LabQueryEngine.over(index, decomposer=Cut()).ask(
        f"{APPLE} | Who was Napoleon Bonaparte?"
    )
    assert [outcome.outcome for outcome in answer.parts] == ["answered", "refused"]
    assert answer.ledger.startswith("1 of 2 parts answered; part 2 refused: the best passage")
    assert "Not found in the corpus." in answer.text
    assert answer.degraded == ()


async def test_if_no_part_is_answered_the_whole_is_refused(index: LabIndex) -> None:
    answer = await LabQueryEngine.over(index, decomposer=Cut()).ask(
        "Who was Napoleon Bonaparte? | Where is Waterloo Station?"
    )
    assert answer.refused
    assert answer.text == "Not found in the corpus."
    assert answer.reason.startswith("0 of 2 parts answered; part 1 refused")


async def test_a_part_that_fails_does_not_sink_the_answer(index: LabIndex) -> None:
    answerer = Told(durian=ValueError("odd"), banana="")
    engine = LabQueryEngine(KeywordRetriever(index), answerer, decomposer=Cut())
    answer = await engine.ask("apple | durian | banana")
    assert [outcome.outcome for outcome in answer.parts] == ["answered", "failed", "refused"]
    assert answer.ledger == (
        "1 of 3 parts answered; part 2 failed: ValueError: odd; part 3 refused: it is not there"
    )
    assert answer.degraded == ("part 2 failed: ValueError: odd",)
    assert answer.usage.calls == 3
    assert [outcome.usage.calls for outcome in answer.parts] == [1, 1, 1]
    assert answer.cited_ids == ("apple",)


async def test_a_late_part_does_not_hold_the_answer_up(index: LabIndex) -> None:
    engine = LabQueryEngine(
        KeywordRetriever(index),
        Told(durian="hang"),
        decomposer=Cut(),
        part_limits=PartLimits(deadline_s=0.3),
    )
    answer = await engine.ask("apple | durian")
    assert answer.ledger == "1 of 2 parts answered; part 2 failed: not done within 0.3 s"
    await settle()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_if_a_model_refuses_every_part_that_is_raised(index: LabIndex) -> None:
    refusing = Told(apple=ModelError("no such model"), carrot=ModelError("likewise"))
    engine = LabQueryEngine(KeywordRetriever(index), refusing, decomposer=Cut())
    with pytest.raises(ModelError, match="no such model"):
        await engine.ask("apple | carrot")
    assert (await engine.ask("apple | banana")).answered_parts == 1


async def test_if_every_part_fails_otherwise_the_answer_says_why(index: LabIndex) -> None:
    failing = Told(apple=ValueError("odd"), carrot=ValueError("odder"))
    engine = LabQueryEngine(KeywordRetriever(index), failing, decomposer=Cut())
    answer = await engine.ask("apple | carrot")
    assert answer.refused
    assert answer.reason == (
        "0 of 2 parts answered; part 1 failed: ValueError: odd; part 2 failed: ValueError: odder"
    )


async def test_a_part_is_asked_with_the_answer_of_another(index: LabIndex) -> None:
    answerer = Told(carrot="The banana [1].")
    engine = LabQueryEngine(KeywordRetriever(index), answerer, decomposer=Cut())
    answer = await engine.ask("carrot | where grows #1")
    assert answerer.asked == ["carrot", "where grows The banana."]
    assert answer.parts[1].part.text == "where grows The banana."
    assert [outcome.outcome for outcome in answer.parts] == ["answered", "answered"]


async def test_without_the_answer_it_needs_a_part_is_not_asked(index: LabIndex) -> None:
    answerer = Told(carrot="")
    engine = LabQueryEngine(KeywordRetriever(index), answerer, decomposer=Cut())
    answer = await engine.ask("carrot | where grows #1 | apple")
    assert answerer.asked == [
        "carrot",
        "apple",
    ]
    assert answer.parts[1].outcome == "refused"
    assert answer.parts[1].reason.startswith("it needs the answer of part 1, which has none")


async def test_parts_are_no_longer_asked_when_one_brings_nothing_new(index: LabIndex) -> None:
    counts = {}
    for stop in (False, True):
        answerer = Told()
        limits = PartLimits(stop_when_no_news=stop)
        engine = LabQueryEngine(
            KeywordRetriever(index), answerer, passages=1, decomposer=Cut(), part_limits=limits
        )
        answer = await engine.ask("apple | apple tree | banana | carrot")
        counts[stop] = len(answerer.asked)
    assert counts == {False: 4, True: 2}
    assert [part.outcome for part in answer.parts] == ["answered"] * 2 + ["skipped"] * 2
    assert answer.parts[2].reason == "part 2 had brought no new document"


async def test_a_model_writes_the_whole_in_one_call(
    index: LabIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Provider(answer="An orchard [1] and the ground [2].") as provider:
        for name, value in provider.environment("LLM", model="any-name").items():
            monkeypatch.setenv(name, value)
        settings = load_settings()
        engine = LabQueryEngine.over(index, build_models(settings), settings, decomposer=Cut())
        answer = await engine.ask(BOTH)
        assert provider.calls == 1
        prompt = provider.asked[0].body["messages"][-1]["content"]
    assert (answer.text, answer.kind) == ("An orchard [1] and the ground [2].", "generated")
    assert answer.ledger == "2 of 2 parts answered"
    assert "orange root" in answer.parts[1].text
    assert all(text in prompt for text in (BOTH, "red fruit", "orange root"))
    assert answer.usage.calls == 1
    assert "call" in answer.timing.stages_s


async def test_an_answer_that_cannot_be_written_is_put_together(
    index: LabIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Provider(answer="") as provider:
        for name, value in provider.environment("LLM", model="any-name").items():
            monkeypatch.setenv(name, value)
        settings = load_settings()
        engine = LabQueryEngine.over(index, build_models(settings), settings, decomposer=Cut())
        answer = await engine.ask(BOTH)
    assert answer.kind == "extractive"
    assert answer.text.startswith(f"1. {APPLE}\n")
    assert answer.degraded == ("quoted, not written: the model's answer was empty",)


async def test_who_reads_all_passages_settles_what_became_of_the_parts(index: LabIndex) -> None:
    def engine(quoting: Told, writing: Told) -> LabQueryEngine:
        return LabQueryEngine(
            KeywordRetriever(index), writing, decomposer=Cut(), part_answerer=quoting
        )

    cited = await engine(Told(apple="", carrot=""), Told()).ask("apple | carrot")
    assert cited.kind == "generated"
    assert cited.cited_ids == ("apple",)
    assert [outcome.outcome for outcome in cited.parts] == ["answered", "refused"]
    refused = await engine(Told(), Told(apple="")).ask("apple | carrot")
    assert refused.refused
    assert [outcome.outcome for outcome in refused.parts] == ["refused", "refused"]
    assert refused.parts[1].reason == "it is not there"


class Backwards(BaseNodePostprocessor):
    """Turns the order round, or fails when half is done."""

    fails: bool = False

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        assert query_bundle is not None
        for place, hit in enumerate(nodes):
            hit.score = float(place)
        if self.fails:
            raise RuntimeError("no memory")
        return nodes[::-1]


async def test_a_reranker_has_the_last_word_on_the_order(index: LabIndex) -> None:
    settings = load_settings(answer={"passages": 1})
    question = "apple banana carrot durian fruit"
    found = await LabQueryEngine.over(index).ask(question)
    engine = LabQueryEngine.over(index, settings=settings, reranker=Backwards())
    answer = await engine.ask(question)
    assert len(found.passages) == 4
    assert [p.document_id for p in answer.passages] == [found.passages[-1].document_id]
    assert "rerank" in answer.timing.stages_s
    assert (await engine.ask("Zarathustra")).passages == ()


async def test_if_the_reranker_fails_the_order_is_kept(index: LabIndex) -> None:
    plain = await LabQueryEngine.over(index).ask(QUESTION)
    answer = await LabQueryEngine.over(index, reranker=Backwards(fails=True)).ask(QUESTION)
    assert answer.passages == plain.passages
    assert answer.degraded == ("not reranked: RuntimeError: no memory",)
