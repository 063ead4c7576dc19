"""Extracted and written answers: supported, cited, or refused with a reason."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from llama_index.core.schema import NodeWithScore, TextNode

from provider import KEY, Provider
from rag_lab.asking.answer import ExtractiveAnswerer, GeneratedAnswerer, name_like
from rag_lab.asking.passages import passages_of
from rag_lab.errors import ModelError
from rag_lab.index import LabIndex
from rag_lab.models import build_models
from rag_lab.records import Answer
from rag_lab.retrieval import HybridRetriever
from rag_lab.settings import load_settings
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


def configured(provider: Provider) -> Any:
    chosen = {"model": "house-model-7", "base_url": provider.base_url, "api_key": KEY}
    return build_models(load_settings(llm={**chosen, "max_retries": 0})).llm


async def test_a_model_writes_from_the_passages() -> None:
    nodes = nodes_of("The anchor is of iron.", "The lantern burns oil.")
    with Provider(answer="Iron.") as provider:
        answerer = GeneratedAnswerer(configured(provider), "en")
        answer = await answerer.answer("What is it of?", nodes, passages_of(nodes))
    assert (answer.kind, answer.text, answer.usage.calls) == ("generated", "Iron.", 1)
    assert set(answer.cited_ids) <= {"d0", "d1"}
    prompt = str(provider.asked[0].body["messages"])
    assert provider.asked[0].body["model"] == "house-model-7"
    for needed in ("The anchor is of iron.", "The lantern burns oil.", "What is it of?"):
        assert needed in prompt


async def test_without_passages_the_model_is_not_asked() -> None:
    with Provider() as provider:
        answer = await GeneratedAnswerer(configured(provider), "id").answer("Apa?", [], ())
    assert answer.refused
    assert answer.text == "Tidak ditemukan dalam korpus."
    assert provider.calls == 0


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (401, "refused the key.*RAG_LAB_LLM_API_KEY"),
        (404, "RAG_LAB_LLM_MODEL"),
        (500, "HTTP 500"),
    ],
)
async def test_a_model_that_fails_is_an_error_without_the_key(fault: int, message: str) -> None:
    nodes = nodes_of("A passage.")
    with Provider() as provider:
        provider.faults.append(fault)
        answerer = GeneratedAnswerer(configured(provider), "en")
        with pytest.raises(ModelError, match=message) as raised:
            await answerer.answer("What?", nodes, passages_of(nodes))
    assert KEY not in str(raised.value)
