"""The corpora that come with the project: whole, consistent, and in words of our own."""

from __future__ import annotations

import gzip
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.schema import Document

from rag_lab.corpora import Corpus, load_corpus
from rag_lab.corpora.registry import BUNDLED
from rag_lab.records import Question

NAMES = ("anime", "law_id")
BOTH = pytest.mark.parametrize("name", NAMES)
KINDS = {
    "anime": {"factual", "alias", "plot", "comparison", "compound", "unanswerable"},
    "law_id": {"factual", "citation", "definition", "comparison", "compound", "unanswerable"},
}


@cache
def bundled(name: str) -> Corpus:
    return load_corpus(str(BUNDLED / name))


@cache
def documents(name: str) -> dict[str, Document]:
    return {document.id_: document for document in bundled(name).checked_records(strict=True)}


def rows(path: Path) -> Iterator[dict[str, Any]]:
    with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as lines:
        yield from map(json.loads, lines)


def normalised(question: Question) -> str:
    return " ".join(re.findall(r"\w+", question.text.casefold()))


@BOTH
def test_every_record_is_usable(name: str) -> None:
    assert len(documents(name)) >= {"anime": 200, "law_id": 250}[name]


@BOTH
def test_there_are_enough_questions_of_each_sort(name: str) -> None:
    questions = bundled(name).questions
    assert len(questions) >= 80
    assert sum(bool(question.parts) for question in questions) >= 25
    assert sum(not question.answerable for question in questions) >= 10
    assert {question.kind for question in questions} == KINDS[name]


@BOTH
def test_every_judgement_is_of_a_question_and_a_document_that_are_there(name: str) -> None:
    corpus = bundled(name)
    assert corpus.qrels.keys() <= {question.id for question in corpus.questions}
    judged = {document_id for grades in corpus.qrels.values() for document_id in grades}
    assert judged <= documents(name).keys()
    assert {grade for grades in corpus.qrels.values() for grade in grades.values()} == {1}


@BOTH
def test_unanswerable_are_exactly_the_questions_without_judgements(name: str) -> None:
    corpus = bundled(name)
    for question in corpus.questions:
        assert (question.kind == "unanswerable") == (question.id not in corpus.qrels), question.id
        assert question.answerable == (question.kind != "unanswerable")
        assert bool(question.answer_contains) == question.answerable, question.id


@BOTH
def test_gold_of_the_parts_is_gold_of_the_question(name: str) -> None:
    corpus = bundled(name)
    for question in corpus.questions:
        if not question.parts:
            continue
        assert len(question.parts) >= 2, question.id
        gold = {document_id for part in question.parts for document_id in part.relevant_ids}
        assert gold, question.id
        assert gold <= corpus.qrels[question.id].keys(), question.id


@BOTH
def test_no_question_is_asked_twice(name: str) -> None:
    counts = Counter(normalised(question) for question in bundled(name).questions)
    assert [text for text, count in counts.items() if count > 1] == []


@BOTH
def test_an_expected_string_occurs_in_the_reference_answer(name: str) -> None:
    for question in bundled(name).questions:
        assert question.answer, question.id
        for text in question.answer_contains:
            assert text.casefold() in question.answer.casefold(), question.id


@BOTH
def test_both_halves_hold_questions_of_every_kind(name: str) -> None:
    questions = bundled(name).questions
    for half in ("dev", "held_out"):
        assert {question.kind for question in questions if question.split == half} == KINDS[name]


@BOTH
def test_the_card_states_the_counts(name: str) -> None:
    corpus = bundled(name)
    judgements = sum(map(len, corpus.qrels.values()))
    assert re.search(rf"\| documents \| {len(documents(name))}\b", corpus.card)
    assert re.search(rf"\| questions \| {len(corpus.questions)}\b", corpus.card)
    assert re.search(rf"\| judgements \| {judgements}\b", corpus.card)


def test_languages() -> None:
    assert {name: bundled(name).language for name in NAMES} == {"anime": "en", "law_id": "id"}
    questions = [question.text for question in bundled("anime").questions]
    japanese = [text for text in questions if re.search("[\u3040-\u30ff\u4e00-\u9fff]", text)]
    assert len(japanese) >= 10
    indonesian = re.compile(
        r"\b(yang|apa|apakah|siapa|berapa|pasal|dan|bagaimana)\b", re.IGNORECASE
    )
    law = bundled("law_id").questions
    assert sum(bool(indonesian.search(question.text)) for question in law) > 0.9 * len(law)


def test_every_law_document_says_that_it_is_a_restatement() -> None:
    for row in rows(BUNDLED / "law_id" / "documents.jsonl"):
        assert row["source_kind"] == "restatement", row["id"]
    assert all(document.metadata["restated"] for document in documents("law_id").values())
    assert "restatements, not statutory text" in bundled("law_id").card


def test_every_restated_article_exists(real_corpus: Callable[[str], Path]) -> None:
    real = {
        (row["id"], row["doc"], row["pasal"])
        for row in rows(real_corpus("law_id_core") / "pasal.jsonl.gz")
    }
    ours = {
        (document.id_, document.metadata["doc"], document.metadata["pasal"])
        for document in documents("law_id").values()
    }
    assert ours - real == set()


Gram = tuple[str, ...]


def grams(text: str, length: int) -> Iterable[Gram]:
    """Runs of so many words; a number with its points is one word."""
    words = re.findall(r"\w+(?:[.,/]\w+)*", text.casefold())
    return zip(*(words[start:] for start in range(length)), strict=False)


def shared(mine: Iterable[str], theirs: Iterable[str], length: int) -> set[str]:
    ours = {gram for text in mine for gram in grams(text, length)}
    return {
        " ".join(gram) for text in theirs if text for gram in grams(text, length) if gram in ours
    }


def test_shared_runs_are_found() -> None:
    mine, theirs = ["Satu dua, tiga empat."], ["nol satu dua tiga", "Dua tiga (empat) lima"]
    assert shared(mine, theirs, 3) == {"satu dua tiga", "dua tiga empat"}
    assert shared(mine, theirs, 4) == set()


def test_no_restatement_shares_ten_words_with_a_statute(
    real_corpus: Callable[[str], Path],
) -> None:
    theirs = rows(real_corpus("law_id_core") / "pasal.jsonl.gz")
    mine = rows(BUNDLED / "law_id" / "documents.jsonl")
    assert (
        shared(
            (row[field] for row in mine for field in ("text", "penjelasan")),
            (row.get(field, "") for row in theirs for field in ("text", "penjelasan")),
            length=10,
        )
        == set()
    )


def test_no_synopsis_shares_eight_words_with_a_public_one(
    real_corpus: Callable[[str], Path],
) -> None:
    theirs = (row["description"] for row in rows(real_corpus("anime_mal_tv") / "shows.jsonl.gz"))
    mine = (row["description"] for row in rows(BUNDLED / "anime" / "documents.jsonl"))
    assert shared(mine, theirs, length=8) == set()
