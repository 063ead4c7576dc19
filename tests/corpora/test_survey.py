"""Counting corpora: one pass each, remembered by fingerprint."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rag_lab.corpora import add_corpus
from rag_lab.corpora.survey import survey
from rag_lab.settings import PathSettings


@pytest.fixture
def shelf(write: Any) -> None:
    add_corpus("shelf", "jsonl", [write("rows.jsonl", [{"id": "a", "text": "One."}, {}])])


@pytest.mark.usefixtures("shelf")
def test_a_row_a_corpus() -> None:
    rows = survey()
    assert [row["corpus"] for row in rows] == ["anime", "law_id", "shelf"]
    row = rows[-1]
    assert len(row.pop("fingerprint")) == 12
    assert row == {
        "corpus": "shelf",
        "from": "data folder",
        "language": "en",
        "reader": "jsonl",
        "documents": 1,
        "questions": 0,
    }


@pytest.mark.usefixtures("shelf")
def test_counts_are_remembered_by_fingerprint(paths: PathSettings) -> None:
    fingerprint = survey()[-1]["fingerprint"]
    memory = paths.cache_folder / "counts.json"
    assert json.loads(memory.read_text("utf-8"))[fingerprint] == 1
    memory.write_text(json.dumps({fingerprint: 41}), encoding="utf-8")
    assert survey()[-1]["documents"] == 41


@pytest.mark.usefixtures("shelf")
@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe"])
def test_a_damaged_memory_is_counted_anew(paths: PathSettings, content: bytes) -> None:
    (paths.cache_folder / "counts.json").write_bytes(content)
    assert survey()[-1]["documents"] == 1


@pytest.mark.usefixtures("shelf")
@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("card.md", b"# No front matter"),
        ("qrels.tsv", b"x"),
        ("qrels.tsv", b"\xe9"),
    ],
)
def test_a_corpus_with_a_problem_does_not_hide_the_others(
    paths: PathSettings, file: str, content: bytes
) -> None:
    (paths.data_folder / "shelf" / file).write_bytes(content)
    rows = survey()
    assert [row["corpus"] for row in rows] == ["anime", "law_id", "shelf"]
    assert file in rows[-1]["problem"]
    assert rows[-1]["documents"] == "–"
    assert all("problem" not in row for row in rows[:2])
