"""Passages with a source a reader knows, cut into statements that can be cited alone."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llama_index.core.schema import NodeWithScore, TextNode

from rag_lab.asking.passages import passages_of, source_of, statements, without_citations


@pytest.mark.parametrize(
    ("metadata", "source"),
    [
        ({"citation": "Pasal 7 UU 40/2007"}, "Pasal 7 UU 40/2007"),
        ({"citation": "Pasal 7 UU 40/2007", "restated": True}, "Pasal 7 UU 40/2007 (restated)"),
        ({"title": "Death Note", "begin_year": 2006}, "Death Note (2006)"),
        ({"title": "Death Note"}, "Death Note"),
        ({}, ""),
    ],
)
def test_a_source_is_what_a_reader_would_call_it(metadata: dict[str, Any], source: str) -> None:
    assert source_of(metadata) == source


def test_passages_keep_order_scores_and_document() -> None:
    child = TextNode(
        id_="d!def-1", text="Body.", metadata={"document_id": "d", "scores": {"dense": 0.5}}
    )
    plain = TextNode(id_="e", text="Other.", metadata={"title": "E"})
    first, second = passages_of([NodeWithScore(node=child, score=0.9), NodeWithScore(node=plain)])
    assert (first.node_id, first.document_id, first.text) == ("d!def-1", "d", "Body.")
    assert (first.score, first.scores, first.source) == (0.9, {"dense": 0.5}, "d!def-1")
    assert (second.document_id, second.score, second.source) == ("e", 0.0, "E")
    assert passages_of([]) == ()


def test_an_answer_without_its_citations_is_what_it_says() -> None:
    node = TextNode(id_="d", text="Body.", metadata={"citation": "Pasal 7 UU 40/2007"})
    passages = passages_of([NodeWithScore(node=node)])
    assert without_citations("Two. [Pasal 7 UU 40/2007] Three.", passages) == "Two. Three."
    assert without_citations("Two [1], three [2, 3]; in [2007].", ()) == "Two, three; in [2007]."


def test_sentences_are_statements() -> None:
    assert statements("One is here. Two is there! Is three? Yes.") == [
        "One is here.",
        "Two is there!",
        "Is three?",
        "Yes.",
    ]


def test_an_abbreviation_or_a_number_does_not_end_a_sentence() -> None:
    text = "It cost Rp 1.000.000 at 3.5 percent, e.g. for the book."
    assert statements(text) == [text]


def test_the_items_of_a_list_stay_with_the_line_that_opens_it() -> None:
    text = (
        "(1) Izin diberikan jika:\na. pemohon cakap;\nb. biaya lunas; dan\nc. syarat terpenuhi.\n"
        "(2) Izin berlaku lima tahun."
    )
    assert statements(text) == [
        "(1) Izin diberikan jika: a. pemohon cakap; b. biaya lunas; dan c. syarat terpenuhi.",
        "(2) Izin berlaku lima tahun.",
    ]


def test_items_after_a_finished_sentence_stand_alone() -> None:
    text = "Terms used here are defined.\n1. Ship means a vessel.\n2. Port means a harbour."
    assert statements(text) == text.splitlines()


def test_a_list_that_grows_too_long_is_cut() -> None:
    items = [f"{letter}. {'word ' * 60};" for letter in "abcdef"]
    pieces = statements("\n".join(["It is so if:", *items]))
    assert len(pieces) > 1
    assert all(len(piece) <= 700 for piece in pieces)
    assert pieces[0].startswith("It is so if: a. word")


def test_japanese_sentences_end_too() -> None:
    assert statements("これは。 日本語です。") == ["これは。", "日本語です。"]


@pytest.mark.parametrize("text", ["", "\n \n", "  "])
def test_nothing_is_no_statement(text: str) -> None:
    assert statements(text) == []


@given(st.text("ab.1)\n ;:(A", max_size=80))
def test_no_word_is_lost(text: str) -> None:
    assert [word for piece in statements(text) for word in piece.split()] == text.split()
