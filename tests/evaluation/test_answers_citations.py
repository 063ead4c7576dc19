"""Citation correctness for law, worked out by hand on laws that are not."""

from __future__ import annotations

from typing import Any

import pytest

from rag_lab.evaluation.answers import measures_named
from rag_lab.evaluation.answers.citations import cited_in, gold_of
from rag_lab.evaluation.scores import Sample, Score
from rag_lab.records import Answer, Passage, Question

LAW = "uu-2031-7"
FOUND = (
    Passage("1", f"{LAW}#pasal-3", "(1) Mercusuar dijaga.\n(2) Lampu dinyalakan.", 1.0),
    Passage("2", f"{LAW}#pasal-12A", "Nakhoda melapor.", 0.9),
)


def question(*pasal: str, answer: str = "", **more: Any) -> Question:
    return Question(
        "q", "?", answer=answer, relevant_ids=tuple(f"{LAW}#{p}" for p in pasal), **more
    )


def answer(text: str, kind: Any = "generated", cited: tuple[str, ...] = ()) -> Answer:
    return Answer("?", text, kind, FOUND, cited)


async def score(name: str, asked: Question, given: Answer) -> Score:
    [measure] = measures_named([f"citation_{name}"], language="id")
    return await measure.score(Sample(asked, given, language="id"))


@pytest.mark.parametrize(
    ("text", "cited"),
    [
        ("Menurut Pasal 3 ayat (2) UU 7/2031.", {(LAW, "3", "2")}),
        ("Menurut Pasal 12A Undang-Undang Nomor 7 Tahun 2031.", {(LAW, "12A", "")}),
        ("Lampu menyala [Pasal 3 UU 7/2031].", {(LAW, "3", "")}),
        ("Pasal 3 ayat (1) UU 7/2031 [Pasal 3 UU 7/2031]", {(LAW, "3", "1")}),
        ("Itu diatur dalam UU 7/2031.", {(LAW, "", "")}),
        ("Tidak diatur.", set()),
    ],
)
def test_citations_of_an_answer_are_read(text: str, cited: set[tuple[str, str, str]]) -> None:
    assert cited_in(answer(text)) == cited


def test_passages_that_an_answer_refers_to_are_cited() -> None:
    assert cited_in(answer("Nakhoda melapor [2].", cited=(f"{LAW}#pasal-12A",))) == {
        (LAW, "12A", "")
    }


def test_a_law_is_what_its_corpus_calls_it() -> None:
    passage = Passage("1", "kode-laut#pasal-4", "Isi.", 1.0, source="Pasal 4 UU 9/2032")
    given = Answer("?", "Pasal 4 UU 9/2032 dan [Pasal 4 UU 9/2032]", "generated", (passage,))
    assert cited_in(given) == {("kode-laut", "4", "")}


def test_what_a_quoted_law_cites_is_not_cited_by_the_answer() -> None:
    quoted = "Lihat Pasal 9 UU 1/2030. [Pasal 3 UU 7/2031]"
    assert cited_in(answer(quoted, "extractive")) == {(LAW, "3", "")}


def test_the_gold_has_the_ayat_that_the_reference_names() -> None:
    asked = question("pasal-3", "pasal-12A", answer="Pasal 3 ayat (2) UU 7/2031.")
    assert gold_of(asked) == {(LAW, "3", "2"), (LAW, "12A", "")}


async def test_precision_and_recall_are_over_pasal() -> None:
    asked = question("pasal-3", "pasal-12A")
    given = answer("Pasal 3 UU 7/2031, Pasal 4 UU 7/2031 dan Pasal 5 UU 7/2031.")
    assert await score("precision", asked, given) == Score(1 / 3)
    assert await score("recall", asked, given) == Score(0.5)
    assert await score("exact_match", asked, given) == Score(0.0)
    silent = answer("Lampu dinyalakan.")
    assert await score("precision", asked, silent) == Score.none("the answer cites no law")
    assert await score("recall", asked, silent) == Score(0.0)


async def test_the_exact_match_is_over_ayat_where_they_are_known() -> None:
    asked = question("pasal-3", answer="Pasal 3 ayat (2) UU 7/2031.")
    assert await score("exact_match", asked, answer("Pasal 3 ayat (2) UU 7/2031")) == Score(1.0)
    assert await score("exact_match", asked, answer("Pasal 3 ayat (1) UU 7/2031")) == Score(0.0)
    assert await score("exact_match", asked, answer("Pasal 3 UU 7/2031")) == Score(0.0)
    any_ayat = question("pasal-3")
    assert await score("exact_match", any_ayat, answer("Pasal 3 ayat (1) UU 7/2031")) == Score(1.0)


async def test_laws_are_compared_where_the_gold_knows_no_more() -> None:
    asked = Question("q", "?", relevant_groups=(LAW,))
    given = answer("Pasal 3 UU 7/2031 dan Pasal 8 UU 1/2030.")
    assert await score("precision", asked, given) == Score(0.5)
    assert await score("recall", asked, given) == Score(1.0)


async def test_a_citation_that_the_context_does_not_hold_is_found_out() -> None:
    asked = question("pasal-3")
    assert await score("in_context", asked, answer("Pasal 3 ayat (2) UU 7/2031")) == Score(1.0)
    assert await score("in_context", asked, answer("Pasal 3 ayat (5) UU 7/2031")) == Score(0.0)
    both = answer("Pasal 12A UU 7/2031 dan Pasal 99 UU 7/2031")
    assert await score("in_context", asked, both) == Score(0.5)


async def test_a_long_answer_is_read_to_its_end() -> None:
    text = "Lampu dinyalakan oleh penjaga. " * 400 + "Pasal 3 UU 7/2031."
    assert cited_in(answer(text)) == {(LAW, "3", "")}
