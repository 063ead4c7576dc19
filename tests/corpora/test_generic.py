"""The reader for any other corpus; and what every reader makes of a damaged file."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llama_index.core.schema import Document, MetadataMode

from rag_lab.corpora import READERS
from rag_lab.corpora.generic import read_jsonl
from rag_lab.errors import Rejection


def test_an_id_and_a_text_are_enough(write: Any) -> None:
    documents = list(read_jsonl(write("a.jsonl.gz", [{"id": 0, "text": " One.\x00 "}])))
    assert isinstance(documents[0], Document)
    assert (documents[0].id_, documents[0].text) == ("0", "One.")
    assert documents[0].metadata == {
        "record": "text",
        "source_file": "a.jsonl.gz",
        "source_line": 1,
    }


@pytest.mark.parametrize("key", ["id", "docno", "pid", "_id"])
def test_an_id_goes_by_four_names(write: Any, key: str) -> None:
    (document,) = read_jsonl(write("a.jsonl", [{key: "x", "text": "One."}]))
    assert isinstance(document, Document)
    assert document.id_ == "x"


def test_a_title_is_searched_and_the_rest_is_metadata(write: Any) -> None:
    row = {"id": "x", "title": "Reef", "text": "One.", "year": 1999, "tags": ["sea"]}
    (document,) = read_jsonl(write("a.jsonl", [row]))
    assert isinstance(document, Document)
    assert document.get_content(MetadataMode.EMBED) == "title: Reef\n\nOne."
    assert (document.metadata["year"], document.metadata["tags"]) == (1999, ["sea"])


def test_what_is_missing_is_said_or_left_to_the_corpus(write: Any) -> None:
    rows = [{"id": "", "text": "One."}, {"id": None, "text": "Two."}, {"id": "x"}]
    first, second, third = read_jsonl(write("a.jsonl", rows))
    reason = "missing id: none of id, docno, pid, _id is there"
    assert [first, second] == [Rejection("a.jsonl", line, reason) for line in (1, 2)]
    assert isinstance(third, Document)
    assert third.text == ""


def test_a_row_cannot_claim_another_place_or_kind(write: Any) -> None:
    row = {"id": "x", "text": "One.", "source_file": "b", "source_line": 7}
    (document,) = read_jsonl(write("a.jsonl", [row]))
    assert isinstance(document, Document)
    assert (document.metadata["source_file"], document.metadata["source_line"]) == ("a.jsonl", 1)


ALL = pytest.mark.parametrize("reader", READERS)


@ALL
@pytest.mark.parametrize(
    "cut",
    [slice(0, 16), slice(0, -4), slice(0, 4)],
    ids=["in the data", "in the tail", "in the head"],
)
def test_every_reader_says_that_a_gz_is_cut_off(tmp_path: Path, reader: str, cut: slice) -> None:
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"id": "x", "main_title": "X", "text": "Sea."}\n')[cut])
    items = list(READERS[reader](path))
    rejected = [item for item in items if isinstance(item, Rejection)]
    assert [item.file for item in rejected[-1:]] == ["a.jsonl.gz"]


@ALL
def test_every_reader_says_that_a_gz_holds_garbage(tmp_path: Path, reader: str) -> None:
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(b"{}")[:10] + b"\xff" * 40)
    items = list(READERS[reader](path))
    assert [type(item) for item in items] == [Rejection]


_CONTENT = st.one_of(
    st.binary(max_size=60),
    st.lists(
        st.sampled_from(
            [
                '{"id": 1',
                "{\n",
                '"aid": 1,',
                '{"AniDB_Anime": [',
                "}",
                "]",
                "Pasal 1\n",
                "\x00",
                "é",
            ]
        ),
        max_size=8,
    ).map(lambda pieces: "".join(pieces).encode()),
)


@ALL
@given(content=_CONTENT, name=st.sampled_from(["a.jsonl", "a.json", "uu-2000-1.txt"]))
def test_every_reader_gives_documents_or_reasons_for_any_bytes(
    reader: str, content: bytes, name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / f"{reader}-{name}"
    path.write_bytes(content)
    for item in READERS[reader](path):
        assert isinstance(item, Document | Rejection)
        if isinstance(item, Rejection):
            assert item.file == path.name
            assert item.line >= 1
            assert item.reason
