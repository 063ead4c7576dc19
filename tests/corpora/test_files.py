"""Reading files line by line: what is unusable is named, and nothing large is held."""

from __future__ import annotations

import gzip
import random
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_lab.corpora.files import clean_text, parse_object, read_json_lines, read_lines
from rag_lab.errors import CorpusError, Rejection

MEBIBYTE = 1024 * 1024


def read(path: Path) -> tuple[list[tuple[int, dict[str, Any]]], list[str]]:
    items = list(read_json_lines(path))
    rejected = [str(item) for item in items if isinstance(item, Rejection)]
    return [item for item in items if not isinstance(item, Rejection)], rejected


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_plain_and_packed_files_read_the_same(write: Any, name: str) -> None:
    path = write(name, b'{"id": "a"}\n\n  \n{"id": "b"}')
    assert read(path) == ([(1, {"id": "a"}), (4, {"id": "b"})], [])


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"id": ', "malformed JSON: unexpected end of data"),
        (b'{"id": "a\x00b"}', "malformed JSON: unexpected control character"),
        (b'{"id": NaN}', "malformed JSON: "),
        (b'["a"]', "expected a JSON object, got list"),
        (b"7", "expected a JSON object, got int"),
        (b"null", "expected a JSON object, got NoneType"),
        (b'{"id": "\xe9"}', "not UTF-8 (byte 8: 0xe9)"),
        (b'{"a": ' + b"[" * 2000, "malformed JSON: "),
    ],
)
def test_a_bad_line_is_named_and_the_next_one_still_read(
    write: Any, line: bytes, reason: str
) -> None:
    path = write("a.jsonl", b'{"id": 1}\n' + line + b'\n{"id": 3}\n')
    kept, rejected = read(path)
    assert [number for number, _ in kept] == [1, 3]
    assert len(rejected) == 1
    assert rejected[0].startswith(f"a.jsonl:2: {reason}")


def test_a_byte_order_mark_and_windows_line_ends_do_no_harm(write: Any) -> None:
    path = write("a.jsonl", b'\xef\xbb\xbf{"id": "a"}\r\n{"id": "b"}\r\n')
    assert read(path) == ([(1, {"id": "a"}), (2, {"id": "b"})], [])


def test_an_empty_file_holds_nothing(write: Any) -> None:
    assert read(write("a.jsonl", b"")) == ([], [])
    assert read(write("a.jsonl.gz", b"")) == ([], [])


def test_a_truncated_gz_keeps_what_came_before(write: Any) -> None:
    numbers = random.Random(1)
    rows = b"".join(b'{"id": "%d"}\n' % numbers.getrandbits(128) for _ in range(2000))
    packed = gzip.compress(rows)
    path = write("a.jsonl", packed[: len(packed) // 2]).rename(
        write("a", b"").parent / "a.jsonl.gz"
    )
    kept, rejected = read(path)
    assert 500 < len(kept) < 2000
    assert [number for number, _ in kept] == list(range(1, len(kept) + 1))
    place = f"a.jsonl.gz:{len(kept) + 1}: "
    assert [entry[: len(place)] for entry in rejected] == [place]
    assert "file is damaged from here on: Compressed file ended" in rejected[0]


def test_a_file_that_only_claims_to_be_packed_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(b'{"id": 1}\n')
    kept, rejected = read(path)
    assert kept == []
    assert len(rejected) == 1
    assert rejected[0].startswith("a.jsonl.gz:1: file is damaged from here on: Not a gzipped file")


@pytest.mark.parametrize("name", ["missing.jsonl", "missing.jsonl.gz", "."])
def test_what_cannot_be_opened_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(CorpusError, match=r"cannot open .*Check the path\."):
        list(read_lines(tmp_path / name))


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_a_line_of_50_megabytes_is_rejected_and_not_held(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a.jsonl{ending}"
    with gzip.open(path, "wb", 1) if ending else path.open("wb") as stream:
        stream.write(b'{"id": 1}\n')
        for _ in range(50):
            stream.write(b"x" * MEBIBYTE)
        stream.write(b'\n{"id": 3}\n')
    tracemalloc.start()
    try:
        kept, rejected = read(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert [number for number, _ in kept] == [1, 3]
    assert rejected == [f"{path.name}:2: line of 52,428,801 bytes; at most 16,777,216"]
    assert peak < 40 * MEBIBYTE


def test_a_long_last_line_without_an_end_is_rejected_too(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"x" * (16 * MEBIBYTE + 1))
    assert read(path) == ([], ["a.jsonl:1: line of 16,777,217 bytes; at most 16,777,216"])


def test_a_line_of_the_largest_size_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    frame = b'{"a": ""}\n'
    path.write_bytes(b'{"a": "' + b"x" * (16 * MEBIBYTE - len(frame)) + b'"}\n')
    kept, rejected = read(path)
    assert (len(kept), rejected) == (1, [])


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("a\x00b", "ab"),
        ("\ufeffa\ufeffb", "ab"),
        ("a\x07\x1b[1m\x7fb", "a[1mb"),
        ("  a\tb\nc \r\n", "a\tb\nc"),
        ("\x00 \x00", ""),
    ],
)
def test_control_characters_are_cleaned(text: str, cleaned: str) -> None:
    assert clean_text(text) == cleaned


@given(st.text())
def test_clean_text_stays_as_it_is(text: str) -> None:
    once = clean_text(text)
    assert clean_text(once) == once
    assert not any(ord(c) < 32 and c not in "\t\n\r" for c in once)


@given(st.binary(max_size=200))
def test_any_bytes_give_an_object_or_a_reason(line: bytes) -> None:
    parsed = parse_object(line, "a.jsonl", 9)
    if isinstance(parsed, Rejection):
        assert (parsed.file, parsed.line) == ("a.jsonl", 9)
        assert parsed.reason
    else:
        assert isinstance(parsed[1], dict)
