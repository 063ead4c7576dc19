"""The public collections, read as they lie."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from rag_lab.corpora import Corpus, list_corpora, load_corpus
from rag_lab.corpora.layouts import LAYOUTS
from rag_lab.errors import CorpusError, Rejection
from rag_lab.settings import PathSettings


@pytest.fixture
def load(real_corpus: Callable[[str], Path]) -> Callable[[str], Corpus]:
    def by_name(name: str) -> Corpus:
        return load_corpus(name, PathSettings(data=real_corpus(name).parent))

    return by_name


@pytest.mark.parametrize(
    ("name", "documents", "questions", "language"),
    [
        ("anime_mal_tv", 3_961, 0, "en"),
        ("law_id_core", 12_922, 70, "id"),
        ("law_id_qa_omnibus", 401, 210, "id"),
        ("vaswani", 11_429, 93, "en"),
        ("multihop", 7_981, 200, "en"),
        ("idk_mrc", 4_395, 2_764, "id"),
    ],
)
def test_everything_is_read(
    load: Callable[[str], Corpus], name: str, documents: int, questions: int, language: str
) -> None:
    corpus = load(name)
    items = list(corpus.checked_records())
    assert [str(item) for item in items if isinstance(item, Rejection)] == []
    assert (len(items), len(corpus.questions)) == (documents, questions)
    assert (corpus.language, corpus.name) == (language, name)
    assert corpus.card
    known = {item.id_ for item in items if not isinstance(item, Rejection)}
    gold = {document_id for judged in corpus.qrels.values() for document_id in judged}
    assert gold <= known
    assert {
        part_id for q in corpus.questions for p in q.parts for part_id in p.relevant_ids
    } <= gold


def test_law_questions_name_statutes_and_articles(load: Callable[[str], Corpus]) -> None:
    question = load("law_id_core").question("qa_001")
    assert question.relevant_groups == ("uu-2007-40",)
    assert question.relevant_ids == ("uu-2007-40#pasal-7", "uu-2007-40#pasal-21")
    assert question.answer_contains == ("2 orang", "akta notaris", "modal")


def test_omnibus_questions_name_statutes_that_are_there(load: Callable[[str], Corpus]) -> None:
    corpus = load("law_id_qa_omnibus")
    assert corpus.question("qa_001").relevant_groups == ("uu-2007-40",)
    assert corpus.qrels == {}
    groups = {group for question in corpus.questions for group in question.relevant_groups}
    assert groups <= {document.metadata["doc"] for document in corpus.documents}


def test_vaswani_has_its_2083_judgements(load: Callable[[str], Corpus]) -> None:
    assert sum(map(len, load("vaswani").qrels.values())) == 2_083


def test_multihop_questions_have_parts(load: Callable[[str], Corpus]) -> None:
    with_parts = [question for question in load("multihop").questions if question.parts]
    assert len(with_parts) >= 50
    assert all(len(question.parts) >= 2 for question in with_parts)


def test_reading_questions_without_an_answer_have_no_gold(load: Callable[[str], Corpus]) -> None:
    corpus = load("idk_mrc")
    for question in corpus.questions:
        assert question.answerable == (question.kind != "unanswerable")


def test_whole_statutes_are_split(load: Callable[[str], Corpus]) -> None:
    some = list(islice(load("law_id_fulltext").documents, 200))
    assert len({document.id_ for document in some}) == 200
    assert all("#" in document.id_ for document in some)


def test_two_files_are_one_corpus(load: Callable[[str], Corpus]) -> None:
    corpus = load("law_id_pasal")
    assert len(corpus.fingerprint) == 12
    assert next(corpus.documents).id_.startswith("uu-")


def test_they_are_listed_by_name(real_corpora: Path) -> None:
    there = {name for name in LAYOUTS if (real_corpora / name).is_dir()}
    listed = {entry.name for entry in list_corpora(PathSettings(data=real_corpora))}
    assert there <= listed
    assert "shoko_export_samples" not in listed


def vaswani(folder: Path, write: Any, questions: bytes = b"", judged: bytes = b"") -> None:
    there = folder / "vaswani"
    there.mkdir()
    write("docs.jsonl.gz", [{"docno": "1", "text": "One."}]).rename(there / "docs.jsonl.gz")
    write("queries.jsonl.gz", questions).rename(there / "queries.jsonl.gz")
    write("qrels.jsonl.gz", judged).rename(there / "qrels.jsonl.gz")


def test_a_layout_without_questions_is_a_corpus(paths: PathSettings, write: Any) -> None:
    vaswani(paths.data_folder, write)
    corpus = load_corpus("vaswani")
    assert (corpus.questions, [d.id_ for d in corpus.documents]) == ((), ["1"])


def test_a_broken_question_file_is_named(paths: PathSettings, write: Any) -> None:
    vaswani(paths.data_folder, write, questions=b"{")
    with pytest.raises(CorpusError, match=r"queries\.jsonl\.gz:1: malformed JSON"):
        load_corpus("vaswani")


def test_a_question_without_judgements_has_no_gold(paths: PathSettings, write: Any) -> None:
    vaswani(paths.data_folder, write, questions=b'{"qid": 1, "query": "?"}')
    assert not load_corpus("vaswani").question("1").answerable


def test_provisions_without_their_questions_are_a_corpus(paths: PathSettings, write: Any) -> None:
    folder = paths.data_folder / "law_id_qa_omnibus"
    folder.mkdir()
    write("r.json", b"[]").rename(folder / "regulations_401.json")
    assert load_corpus("law_id_qa_omnibus").questions == ()
