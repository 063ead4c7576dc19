"""The rules that hold for every corpus, and the readers of questions and judgements."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llama_index.core.schema import Document

from rag_lab.corpora.base import (
    Corpus,
    ReadCount,
    fingerprint_files,
    in_memory,
    qrels_of,
    read_qrels,
    read_questions,
    write_rejections,
)
from rag_lab.corpora.generic import read_jsonl
from rag_lab.errors import CorpusError, RecordError, Rejection
from rag_lab.records import Part, Question


def corpus_of(path: Path) -> Corpus:
    return Corpus("shelf", "en", lambda: read_jsonl(path))


def split(corpus: Corpus) -> tuple[list[str], list[str]]:
    items = list(corpus.checked_records())
    rejected = [str(item) for item in items if isinstance(item, Rejection)]
    return [item.id_ for item in items if not isinstance(item, Rejection)], rejected


ROWS = [
    {"id": "a", "text": "One."},
    {"text": "Nameless."},
    {"id": "a", "text": "Two."},
    {"id": "b", "text": " "},
    {"id": "c", "text": "Three."},
]


def test_each_rejection_says_where_and_why(write: Any) -> None:
    kept, rejected = split(corpus_of(write("a.jsonl", ROWS)))
    assert kept == ["a", "c"]
    assert rejected == [
        "a.jsonl:2: missing id: none of id, docno, pid, _id is there",
        "a.jsonl:3 (a): duplicate id; first at a.jsonl:1",
        "a.jsonl:4 (b): empty text",
    ]


def test_documents_are_the_usable_ones_and_read_anew(write: Any) -> None:
    corpus = corpus_of(write("a.jsonl", ROWS))
    assert [document.id_ for document in corpus.documents] == ["a", "c"]
    assert [document.id_ for document in corpus.documents] == ["a", "c"]


def test_strict_stops_at_the_first(write: Any) -> None:
    records = corpus_of(write("a.jsonl", ROWS)).checked_records(strict=True)
    first = next(records)
    assert isinstance(first, Document)
    with pytest.raises(RecordError, match=r"a\.jsonl:2: missing id.*--strict") as raised:
        next(records)
    assert raised.value.rejection.line == 2


def test_a_document_without_an_id_is_rejected() -> None:
    kept, rejected = split(in_memory("shelf", [Document(id_="", text="Nameless.")]))
    assert kept == []
    assert len(rejected) == 1


_LINES = st.one_of(
    st.fixed_dictionaries(
        {}, optional={"id": st.sampled_from("abc"), "text": st.sampled_from(["One.", "", " \x00"])}
    ).map(json.dumps),
    st.sampled_from(["{", "[]", "7", '{"id": NaN}', '{"id": "\\ud800"}']),
)


@given(lines=st.lists(_LINES, max_size=12))
def test_read_is_kept_and_rejected(
    lines: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "mixed.jsonl"
    path.write_text("\n\n".join(lines), encoding="utf-8")
    items = list(corpus_of(path).checked_records())
    kept = [item for item in items if not isinstance(item, Rejection)]
    rejected = [item for item in items if isinstance(item, Rejection)]
    places = [item.line for item in rejected] + [d.metadata["source_line"] for d in kept]
    assert sorted(places) == [1 + 2 * number for number in range(len(lines))]
    assert len({document.id_ for document in kept}) == len(kept)
    assert all(document.text for document in kept)
    assert all(rejection.reason for rejection in rejected)


def test_the_count_adds_up_and_reads_well() -> None:
    assert str(ReadCount(kept=1200, rejected=34)) == "1,234 read = 1,200 kept + 34 rejected"


def test_rejections_are_written_as_json_lines(tmp_path: Path) -> None:
    path = tmp_path / "rejected.jsonl"
    write_rejections(path, [Rejection("a.jsonl", 2, "leer — 空", "x")])
    assert json.loads(path.read_text(encoding="utf-8")) == {
        "file": "a.jsonl",
        "line": 2,
        "reason": "leer — 空",
        "record_id": "x",
    }
    write_rejections(path, [])
    assert path.read_bytes() == b""


QUESTION = {
    "id": "q1",
    "text": "Which is older?",
    "kind": "comparison",
    "answer": "a",
    "relevant_ids": ["a", "b"],
    "parts": [{"text": "When was a made?", "relevant_ids": ["a"]}, {"text": "And b?"}],
    "answer_contains": ["1999"],
}


def test_questions_are_read_whole(write: Any) -> None:
    first, second = read_questions(write("q.jsonl", [QUESTION, {"id": 2, "text": "Why?"}]))
    assert first == Question(
        id="q1",
        text="Which is older?",
        kind="comparison",
        answer="a",
        relevant_ids=("a", "b"),
        parts=(Part("When was a made?", ("a",)), Part("And b?")),
        answer_contains=("1999",),
    )
    assert (second.id, second.kind, second.answerable) == ("2", "factual", False)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", r"q\.jsonl:1: malformed JSON.*must all be readable"),
        (b'{"id": "q"}', r"q\.jsonl:1: no usable question \(KeyError\('text'\)\)"),
        (b'{"text": "?"}', r"q\.jsonl:1: no usable question"),
        (b'{"id": "q", "text": "?", "parts": ["?"]}', r"q\.jsonl:1: no usable question"),
        (b'{"id": 1, "text": "?"}\n{"id": "1", "text": "!"}', "question id '1' comes twice"),
    ],
)
def test_an_unusable_question_is_an_error(write: Any, content: bytes, message: str) -> None:
    with pytest.raises(CorpusError, match=message):
        read_questions(write("q.jsonl", content))


@pytest.mark.parametrize("wrong", [{"text": None}, {"text": ""}, {"relevant_ids": "mal-1"}])
def test_a_question_of_the_wrong_shape_is_an_error(write: Any, wrong: dict[str, Any]) -> None:
    path = write("q.jsonl", [{"id": "q", "text": "?"} | wrong])
    with pytest.raises(CorpusError, match=r"q\.jsonl:1"):
        read_questions(path)


def test_judgements_keep_their_grades(write: Any) -> None:
    path = write("qrels.tsv", "q1\t0\ta\t2\nq1\t0\tb\t0\nq2\t0\tb\t1\n")
    assert read_qrels(path) == {"q1": {"a": 2, "b": 0}, "q2": {"b": 1}}


@pytest.mark.parametrize("line", ["q1 0 a 1", "q1\t0\ta", "q1\t0\ta\tyes", ""])
def test_a_judgement_of_another_form_is_an_error(write: Any, line: str) -> None:
    with pytest.raises(CorpusError, match=r"qrels\.tsv:2: expected 'question <tab>"):
        read_qrels(write("qrels.tsv", f"q1\t0\ta\t1\n{line}\n"))


def test_judgements_in_another_encoding_are_an_error(write: Any) -> None:
    with pytest.raises(CorpusError, match=r"qrels\.tsv"):
        read_qrels(write("qrels.tsv", b"q\xe9\t0\ta\t1\n"))


def test_in_memory() -> None:
    asked = [Question("q1", "?", relevant_ids=("a",)), Question("q2", "??")]
    corpus = in_memory("shelf", [Document(id_="a", text="One.")], questions=asked)
    assert [document.id_ for document in corpus.documents] == ["a"]
    assert corpus.qrels == qrels_of(asked) == {"q1": {"a": 1}}
    assert corpus.question("q2") is asked[1]
    with pytest.raises(CorpusError, match="shelf has no question 'q3'"):
        corpus.question("q3")
    assert "questions=2" in repr(corpus)


def test_equal_content_has_an_equal_fingerprint(write: Any) -> None:
    def named(text: str) -> str:
        return in_memory("any", [Document(id_="a", text=text)]).fingerprint

    assert named("One.") == named("One.")
    assert named("One.") != named("Two.")
    one, same, other = write("1/a", "x"), write("2/a", "x"), write("3/a", "y")
    assert fingerprint_files("r", "en", [one]) == fingerprint_files("r", "en", [same])
    assert fingerprint_files("r", "en", [one]) != fingerprint_files("r", "en", [other])
    assert fingerprint_files("r", "en", [one]) != fingerprint_files("r", "id", [one])
