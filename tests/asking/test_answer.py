"""Extracted and written answers: supported, cited, or refused with a reason."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    CompletionResponse,
    LLMMetadata,
    MessageRole,
)
from llama_index.core.llms.custom import CustomLLM
from llama_index.core.schema import NodeWithScore, TextNode

from provider import KEY, Provider
from rag_lab.asking.answer import ExtractiveAnswerer, GeneratedAnswerer, name_like
from rag_lab.asking.passages import passages_of
from rag_lab.errors import ModelError, ProviderError
from rag_lab.index import LabIndex
from rag_lab.models import build_models
from rag_lab.records import Answer, Passage
from rag_lab.retrieval import HybridRetriever
from rag_lab.settings import load_settings
from rag_lab.telemetry import tracing
from small import corpus_of, indexed

SHIPS = {
    "harbour": ("Harbour", "A harbour shelters ships. Its walls break the waves. Fees are due."),
    "anchor": ("Anchor", "An anchor holds a ship in place. It is made of iron."),
    "lantern": ("Lantern", "A lantern gives light at night. It burns oil."),
}


@pytest.fixture
async def index() -> AsyncIterator[LabIndex]:
    made = await indexed(corpus_of(SHIPS, name="ships"))
    yield made
    made.close()


async def answered(index: LabIndex, question: str, **chosen: Any) -> Answer:
    nodes = await HybridRetriever(index).aretrieve(question)
    answerer = ExtractiveAnswerer(index, load_settings(answer=chosen).answer)
    return await answerer.answer(question, nodes, passages_of(nodes))


async def test_an_answer_quotes_its_passages_and_names_them(index: LabIndex) -> None:
    answer = await answered(index, "What is an anchor made of?", max_sentences=1)
    assert answer.kind == "extractive"
    assert answer.text == "It is made of iron. [Anchor]"
    assert answer.cited_ids == ("anchor",)
    assert answer.passages[0].document_id == "anchor"


async def test_every_statement_is_in_a_passage_and_cited(index: LabIndex) -> None:
    answer = await answered(index, "Which walls break the waves of a harbour?")
    quoted = [part.strip() for part in answer.text.replace("]", "[").split("[")][:-1]
    for statement, source in zip(quoted[::2], quoted[1::2], strict=True):
        passage = next(p for p in answer.passages if p.source == source)
        assert statement in passage.text
        assert passage.document_id in answer.cited_ids
    assert "Its walls break the waves. [Harbour]" in answer.text


async def test_no_more_sentences_than_asked_for(index: LabIndex) -> None:
    for most in (1, 2, 3):
        answer = await answered(index, "harbour walls waves ships", max_sentences=most)
        assert answer.text.count("[Harbour]") <= most


async def test_too_little_support_is_a_refusal_with_a_reason(index: LabIndex) -> None:
    answer = await answered(index, "Who was Napoleon Bonaparte of France in 1804?")
    assert answer.refused
    assert answer.text == "Not found in the corpus."
    assert "0%" in answer.reason
    assert "at least 40% is needed" in answer.reason
    assert answer.cited_ids == ()


async def test_the_bar_is_a_setting(index: LabIndex) -> None:
    question = "Does an anchor of Titanium hold a ship?"
    assert (await answered(index, question, min_support=0.99)).refused
    assert not (await answered(index, question, min_support=0.1)).refused


async def test_an_unknown_name_weighs_and_an_unknown_word_does_not(index: LabIndex) -> None:
    assert not (await answered(index, "does an anchor immobilise?")).refused
    assert (await answered(index, "does an anchor Immobilise Zyx Qwerty 1999?")).refused


@pytest.mark.parametrize("question", ["", "???", "zzz"])
async def test_a_question_without_a_known_word_is_refused(index: LabIndex, question: str) -> None:
    assert (await answered(index, question)).refused


async def test_a_refusal_speaks_the_language_of_the_corpus() -> None:
    rows = {"a": ("Pelabuhan", "Pelabuhan melindungi kapal."), "b": ("Jangkar", "Besi.")}
    for language, text in (("id", "Tidak ditemukan dalam korpus."), ("ja", "Not found in the cor")):
        index = await indexed(corpus_of(rows, name=f"ships-{language}", language=language))
        assert (await answered(index, "Siapakah Napoleon?")).text.startswith(text)
        index.close()


@pytest.mark.parametrize(
    ("question", "names"),
    [
        ("Who is Eren Yeager?", ["Eren", "Yeager"]),
        ("Apakah isi Pasal 7 UU 40/2007?", ["Pasal", "7", "UU", "40/2007"]),
        ("Capitalised at the start only", []),
        ('what is "Naruto", then?', ["Naruto"]),
        ("86 episodes", ["86"]),
        ("", []),
    ],
)
def test_words_that_look_like_names(question: str, names: list[str]) -> None:
    assert name_like(question) == names


def nodes_of(*texts: str) -> list[NodeWithScore]:
    return [
        NodeWithScore(
            node=TextNode(id_=f"n{n}", text=text, metadata={"document_id": f"d{n}"}), score=1.0
        )
        for n, text in enumerate(texts)
    ]


class Model(CustomLLM):
    """A chat model that replies, or fails, as it is told, and keeps what it was asked."""

    reply: str | Exception = ""
    asked: list[str] = []  # noqa: RUF012 - pydantic copies it

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(context_window=4_096, num_output=256, is_chat_model=True)

    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        self.asked.append("\n".join(str(message.content) for message in messages))
        if isinstance(self.reply, Exception):
            raise self.reply
        return ChatResponse(message=ChatMessage(role=MessageRole.ASSISTANT, content=self.reply))

    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        raise NotImplementedError

    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> Any:
        raise NotImplementedError


class Quoting:
    """Stands for the extractive answerer."""

    async def answer(
        self, question: str, nodes: Sequence[NodeWithScore], passages: tuple[Passage, ...]
    ) -> Answer:
        return Answer(question, "Quoted.", "extractive", passages)


PASSAGES = ("The anchor is of iron.", "The lantern burns oil.")


async def written(
    reply: str | Exception, texts: Sequence[str] = PASSAGES, language: str = "en"
) -> tuple[Answer, list[str], list[str]]:
    """The answer, what the model was asked, and what is told of the degradation."""
    nodes = nodes_of(*texts)
    model = Model(reply=reply)
    with tracing() as trace:
        answerer = GeneratedAnswerer(model, language, Quoting())
        answer = await answerer.answer("What is it of?", nodes, passages_of(nodes))
    return answer, model.asked, trace.degraded


async def test_a_model_writes_from_the_passages_and_cites_them() -> None:
    answer, asked, degraded = await written("Iron [1].")
    assert (answer.kind, answer.text, answer.cited_ids) == ("generated", "Iron [1].", ("d0",))
    assert degraded == []
    assert len(asked) == 1
    for needed in (*PASSAGES, "What is it of?", "[1] n0", "[2] n1"):
        assert needed in asked[0]


async def test_an_answer_that_cites_nothing_is_credited_with_nothing() -> None:
    assert (await written("Iron."))[0].cited_ids == ()
    assert (await written("Iron [9]."))[0].text == "Iron."
    assert (await written("Oil [2], iron [1], oil [2]."))[0].cited_ids == ("d1", "d0")


async def test_without_passages_the_model_is_not_asked() -> None:
    answer, asked, _ = await written("Iron.", texts=(), language="id")
    assert answer.refused
    assert answer.text == "Tidak ditemukan dalam korpus."
    assert asked == []


async def test_a_model_that_does_not_find_the_answer_refuses() -> None:
    answer, _, _ = await written("NOT_IN_PASSAGES", language="id")
    assert answer.refused
    assert answer.text == "Tidak ditemukan dalam korpus."
    assert "did not find the answer" in answer.reason
    assert answer.cited_ids == ()


async def test_while_the_provider_fails_answers_are_quoted_and_it_is_said() -> None:
    failing = ProviderError("chat model 'm' at host:1 cannot be reached. Is the server up?")
    answer, _, degraded = await written(failing)
    assert (answer.kind, answer.text) == ("extractive", "Quoted.")
    assert degraded == ["quoted, not written: chat model 'm' at host:1 cannot be reached"]


async def test_an_empty_reply_is_no_answer() -> None:
    answer, _, degraded = await written(" \n")
    assert answer.text == "Quoted."
    assert degraded == ["quoted, not written: the model's answer was empty"]


async def test_a_wrong_key_is_raised() -> None:
    with pytest.raises(ModelError, match="refused the key"):
        await written(ModelError("refused the key"))


async def test_an_answer_shows_the_passages_that_the_model_was_shown() -> None:
    answer, asked, _ = await written("So it is [1].", texts=["word " * 700] * 5)
    assert 1 <= len(answer.passages) < 5
    last = len(answer.passages)
    assert f"[{last}] n{last - 1}" in asked[0]
    assert f"[{last + 1}] n{last}" not in asked[0]


def configured(provider: Provider) -> Any:
    chosen = {"model": "house-model-7", "base_url": provider.base_url, "api_key": KEY}
    return build_models(load_settings(llm=chosen)).llm


@pytest.mark.parametrize(
    ("fault", "message"),
    [(401, "refused the key.*RAG_LAB_LLM_API_KEY"), (404, "RAG_LAB_LLM_MODEL")],
)
async def test_a_configured_model_that_refuses_is_an_error_without_the_key(
    fault: int, message: str
) -> None:
    nodes = nodes_of("A passage.")
    with Provider() as provider:
        provider.faults.append(fault)
        answerer = GeneratedAnswerer(configured(provider), "en", Quoting())
        with pytest.raises(ModelError, match=message) as raised:
            await answerer.answer("What?", nodes, passages_of(nodes))
    assert KEY not in str(raised.value)
