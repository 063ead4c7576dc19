"""Citations are quoted, what does not exist is said not to, and other questions are handed on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import pytest
from llama_index.core.schema import NodeWithScore

from lawbook import lawbook
from rag_lab.asking import LabQueryEngine
from rag_lab.asking.cited import CitedAnswerer
from rag_lab.index import LabIndex
from rag_lab.records import Answer, Passage
from rag_lab.retrieval.named import NamedRetriever
from small import indexed


class Others:
    """Answers everything, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def answer(
        self, question: str, nodes: Sequence[NodeWithScore], passages: tuple[Passage, ...]
    ) -> Answer:
        self.asked.append(question)
        return Answer(question, "something else", "generated", passages)


@pytest.fixture
async def index() -> AsyncIterator[LabIndex]:
    made = await indexed(lawbook())
    yield made
    made.close()


async def answered(index: LabIndex, question: str) -> tuple[Answer, list[str]]:
    others = Others()
    engine = LabQueryEngine(NamedRetriever(index), CitedAnswerer(index, others))
    return await engine.ask(question), others.asked


async def test_the_text_of_an_article_is_quoted_without_a_model(index: LabIndex) -> None:
    answer, asked = await answered(index, "Apa bunyi Pasal 3 UU 7/2001?")
    assert asked == []
    assert answer.kind == "extractive"
    assert answer.text.startswith("Nakhoda yang tidak membayar")
    assert answer.text.endswith("[Pasal 3 UU 7/2001]")
    assert answer.cited_ids == ("uu-2001-7#pasal-3",)


async def test_only_the_cited_ayat_is_quoted(index: LabIndex) -> None:
    answer, _ = await answered(index, "Sebutkan isi Pasal 2 ayat (2) UU 7/2001")
    assert "sebelum berlayar" in answer.text
    assert "wajib" not in answer.text


async def test_what_does_not_exist_is_refused_with_what_does(index: LabIndex) -> None:
    answer, asked = await answered(index, "Apa sanksi menurut Pasal 9 UU 7/2001?")
    assert asked == []
    assert answer.refused
    assert "UU 7/2001" in answer.reason
    assert "Pasal 9" in answer.reason
    assert answer.passages == ()


async def test_what_is_missing_beside_what_is_there_is_said(index: LabIndex) -> None:
    answer, _ = await answered(index, "Apa isi Pasal 1 dan Pasal 9 UU 7/2001?")
    assert answer.cited_ids == ("uu-2001-7#pasal-1",)
    assert any("Pasal 9" in reason for reason in answer.notes)


async def test_a_question_that_asks_more_is_handed_on(index: LabIndex) -> None:
    question = "Siapa yang dipidana menurut Pasal 3 UU 7/2001?"
    answer, asked = await answered(index, question)
    assert asked == [question]
    assert answer.passages[0].document_id == "uu-2001-7#pasal-3"
