"""Questions from text files and JSON lines."""

from __future__ import annotations

import re
from typing import Any

import pytest

from rag_lab.asking.questions import Asked, read_asked
from rag_lab.errors import CorpusError, Rejection


@pytest.mark.parametrize("name", ["q.txt", "q.txt.gz", "q"])
def test_one_a_line(write: Any, name: str) -> None:
    path = write(name, "\ufeffApa itu Pasal 7?\r\n\n \n  海の機械は?\x00\n".encode())
    assert list(read_asked(path)) == [Asked("1", "Apa itu Pasal 7?"), Asked("4", "海の機械は?")]


@pytest.mark.parametrize("name", ["q.jsonl", "q.jsonl.gz"])
def test_json_lines(write: Any, name: str) -> None:
    path = write(name, b'{"id": "a", "text": "One?"}\n\n{"question": "Two?"}\n')
    assert list(read_asked(path)) == [Asked("a", "One?"), Asked("3", "Two?")]


@pytest.mark.parametrize("number", [7, 0])
def test_a_number_may_be_an_id(write: Any, number: int) -> None:
    rows = [{"id": "a", "text": "One?"}, {"id": number, "text": "Two?"}]
    assert [asked.id for asked in read_asked(write("q.jsonl", rows))] == ["a", str(number)]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("q.jsonl", b'{"text": "One?"}\n{', r"^q\.jsonl:2: malformed JSON"),
        ("q.jsonl", b'"One?"', r"^q\.jsonl:1: expected a JSON object, got str"),
        ("q.jsonl", b'{"id": "a"}', r"^q\.jsonl:1: no question; expected 'text' or 'question'"),
        ("q.jsonl", b'{"text": " "}', r"^q\.jsonl:1: no question"),
        ("q.txt", b"One?\nZw\xf6lf?\n", r"^q\.txt:2: not UTF-8 \(byte 2\)"),
    ],
)
def test_a_line_that_is_no_question_is_named(
    write: Any, name: str, content: bytes, message: str
) -> None:
    named = [item for item in read_asked(write(name, content)) if isinstance(item, Rejection)]
    assert len(named) == 1
    assert re.search(message, str(named[0]))


def test_a_bad_line_does_not_stop_the_others(write: Any) -> None:
    items = list(read_asked(write("q.jsonl", b'{"text": "One?"}\n{\n{"text": "Two?"}\n')))
    assert [item.text if isinstance(item, Asked) else item.line for item in items] == [
        "One?",
        2,
        "Two?",
    ]


def test_a_line_of_control_characters_is_not_asked(write: Any) -> None:
    assert [asked.text for asked in read_asked(write("q.txt", b"One?\n\x00\nTwo?\n"))] == [
        "One?",
        "Two?",
    ]


def test_a_missing_file_is_named(tmp_path: Any) -> None:
    with pytest.raises(CorpusError, match=r"cannot open .*q\.txt"):
        list(read_asked(tmp_path / "q.txt"))


def test_a_damaged_file_is_named(tmp_path: Any) -> None:
    path = tmp_path / "q.txt.gz"
    path.write_bytes(b"One?")
    (item,) = read_asked(path)
    assert str(item).startswith("q.txt.gz:1: file is damaged")


def test_nothing_is_asked_in_an_empty_file(write: Any) -> None:
    assert list(read_asked(write("q.txt", b""))) == []
