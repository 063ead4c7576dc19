"""Definition questions: which terms are asked for, how, and what is gold."""

from __future__ import annotations

from pathlib import Path

import pytest
from llama_index.core.schema import Document

from rag_lab.corpora.law import Pasal
from rag_lab.evaluation.quality.definitions import (
    defined_terms,
    definition_questions,
    definitions,
)
from rag_lab.evaluation.quality.figures import Figures

LIGHTHOUSES = """Dalam undang-undang ini yang dimaksud dengan:
1. Menara suar adalah bangunan dengan lampu bagi kapal.
2. Penjaga suar adalah orang yang merawat lampu.
3. Karang adalah batu di bawah permukaan laut."""
REEFS = """Dalam undang-undang ini yang dimaksud dengan:
1. Karang adalah rangka hewan laut.
2. Penyelam adalah orang yang bekerja di bawah air.
3. Pelampung adalah benda yang mengapung."""
AGAIN = """Dalam pasal ini yang dimaksud dengan:
1. Penyelam adalah orang yang memegang izin menyelam.
2. Izin adalah surat dari pejabat.
3. Pejabat adalah orang yang memberi surat."""


def article(doc: str, law: str, title: str, number: str, text: str) -> Document:
    pasal = Pasal(f"{doc}#pasal-{number}", doc, law, title, number, text)
    return pasal.to_document("made.jsonl", 1)


def laws() -> list[Document]:
    return [
        article("uu-1901-1", "UU 1/1901", "Menara Suar", "1", LIGHTHOUSES),
        article("uu-1902-2", "UU 2/1902", "Terumbu", "1", REEFS),
        article("uu-1902-2", "UU 2/1902", "Terumbu", "7", AGAIN),
    ]


def test_terms_are_those_of_opening_articles_defined_once_in_their_law() -> None:
    assert [(entry.term, entry.document_id) for entry in defined_terms(laws())] == [
        ("Menara suar", "uu-1901-1#pasal-1"),
        ("Penjaga suar", "uu-1901-1#pasal-1"),
        ("Karang", "uu-1901-1#pasal-1"),
        ("Karang", "uu-1902-2#pasal-1"),
        ("Pelampung", "uu-1902-2#pasal-1"),
    ]


def test_a_question_with_the_law_has_one_gold_article_and_names_term_and_law() -> None:
    asked = definition_questions(laws())["definitions"]
    assert len({question.id for question in asked}) == len(asked) == 5
    for question in asked:
        (gold,) = question.relevant_ids
        year, title = ("1901", "Menara Suar") if "1901" in gold else ("1902", "Terumbu")
        assert year in question.text or title in question.text
        assert question.id.startswith(f"def-{gold.partition('#')[0]}-")


def test_without_the_law_every_article_that_defines_the_term_is_gold() -> None:
    asked = definition_questions(laws())["definitions-no-law"]
    assert len(asked) == 4
    (reef,) = [question for question in asked if "Karang" in question.text]
    assert set(reef.relevant_ids) == {"uu-1901-1#pasal-1", "uu-1902-2#pasal-1"}
    assert not any("190" in question.text for question in asked)


def test_a_title_that_two_laws_bear_is_no_name_for_either() -> None:
    namesake = article("uu-1903-3", "UU 3/1903", "Terumbu", "1", LIGHTHOUSES)
    for question in definition_questions([*laws(), namesake])["definitions"]:
        if "1902" in question.id or "1903" in question.id:
            assert "1902" in question.text or "1903" in question.text


def test_the_draw_does_not_depend_on_the_order() -> None:
    forward, backward = definition_questions(laws()), definition_questions(laws()[::-1])
    assert forward["definitions"] == backward["definitions"]


async def test_terms_are_found_by_their_definition_on_the_public_corpus(
    real_corpora: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if not (real_corpora / "law_id_core").is_dir():
        pytest.skip("law_id_core is not on this machine (set RAG_LAB_DATA)")
    monkeypatch.setenv("RAG_LAB_DATA", str(real_corpora))
    figures = Figures()
    await definitions(figures, tmp_path)
    assert all(bar.holds for bar in figures.bars)
    assert figures.value("definitions", "hybrid", "RR@10") >= 0.90
    assert figures.value("definitions", "plain BM25", "RR@10") < 0.20
    assert figures.value("definitions-no-law", "hybrid", "RR@10") >= 0.80
