"""Asking on the command line: from own files to answers, one question or many."""

from __future__ import annotations

import contextlib
import gc
import json
import sys
import warnings
from pathlib import Path

import pytest

from command import Run, apart
from rag_lab import cli

STATUTE = """UNDANG-UNDANG REPUBLIK INDONESIA
NOMOR 99 TAHUN 2031 TENTANG PASAR TERAPUNG
Menimbang :
a. bahwa pasar terapung perlu diatur;
MEMUTUSKAN:
Menetapkan : UNDANG-UNDANG TENTANG PASAR TERAPUNG.
BAB I KETENTUAN UMUM
Pasal 1
Dalam Undang-Undang ini yang dimaksud dengan:
1. Pasar terapung adalah tempat jual beli di atas perahu.
2. Pedagang adalah orang yang menjual barang dari perahu.
BAB II PERIZINAN
Pasal 2
(1) Setiap pedagang wajib memiliki izin dari bupati.
(2) Izin berlaku selama tujuh tahun.
Pasal 3
Pedagang yang tidak memiliki izin dikenai denda sebesar sembilan juta rupiah.
"""


def test_add_ingest_query_on_own_rows(run: Run, rows: Path) -> None:
    added = run("data", "add", "ships", rows, "--json")
    assert added.status == 0
    assert (added.data["name"], added.data["read"], added.data["kept"]) == ("ships", 3, 2)
    assert "rows.jsonl:3" in added.data["rejected"][0]
    ingested = run("ingest", "ships", "--json")
    assert ingested.status == 0
    (report,) = ingested.data
    assert (report["nodes"], report["read"], report["complete"]) == (2, 3, True)
    assert ingested.err == ""
    answer = run("query", "ships", "What is the anchor made of?", "--json", "--show-context")
    assert answer.data["cited_ids"] == ["a"]
    assert answer.data["passages"][0]["document_id"] == "a"
    assert "passages" not in run("query", "ships", "What is the anchor made of?", "--json").data


def test_for_people_it_is_told_in_words(run: Run, rows: Path) -> None:
    assert "3 read = 2 kept + 1 rejected" in run("data", "add", "ships", rows).out
    told = run("ingest", "ships")
    assert "2 nodes = 2 vectors = 2 keyword entries, complete" in told.out
    assert "empty text" in told.out
    assert "rejected.jsonl" in told.out
    answer = run("query", "ships", "What is the anchor made of?", "--show-context")
    assert "The anchor is made of iron. [A]" in answer.out
    assert "extractive: sentences quoted from the corpus, not written by a model" in answer.out
    assert "keyword" in answer.out
    assert "dense" in answer.out
    assert "refused" in run("query", "ships", "Who was Napoleon Bonaparte?").out


def test_query_ingests_what_was_never_ingested(run: Run, rows: Path) -> None:
    run("data", "add", "ships", rows)
    told = run("query", "ships", "What is the anchor made of?", "--json")
    assert told.status == 0
    assert told.data["kind"] == "extractive"


def test_a_statute_of_ones_own(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "uu-2031-99.txt"
    file.write_text(STATUTE, encoding="utf-8")
    added = run("data", "add", "terapung", file, "--reader", "law-text", "--json")
    assert (added.status, added.data["kept"]) == (0, 3)
    (report,) = run("ingest", "terapung", "--json").data
    assert report["complete"]
    assert report["nodes"] > 3  # the definitions are nodes of their own
    answer = run("query", "terapung", "Berapa lama izin pedagang berlaku?", "--json").data
    assert "tujuh tahun" in answer["text"]
    assert answer["cited_ids"][0].endswith("pasal-2")
    shown = run("data", "show", "terapung", answer["cited_ids"][0]).data
    assert "Izin berlaku selama tujuh tahun" in shown["text"]


@pytest.fixture
def ships(run: Run, rows: Path) -> str:
    run("data", "add", "ships", rows)
    run("ingest", "ships", "--json")
    return "ships"


def test_questions_from_a_text_file(run: Run, ships: str, tmp_path: Path) -> None:
    file = tmp_path / "questions.txt"
    file.write_text("What is the anchor made of?\n\nWhat does the lantern burn?\n", "utf-8")
    rows = run("query", ships, "--file", file, "--json").rows
    assert [(row["id"], row["cited_ids"]) for row in rows] == [("1", ["a"]), ("3", ["b"])]
    assert "The lantern burns oil. [B]" in run("query", ships, "--file", file).out


def test_questions_from_json_lines(run: Run, ships: str, tmp_path: Path) -> None:
    file = tmp_path / "questions.jsonl"
    asked = [{"id": "q7", "text": "What does the lantern burn?"}, {"question": "The anchor?"}]
    file.write_text("\n".join(map(json.dumps, asked)), "utf-8")
    told = run("query", ships, "--file", file, "--json")
    assert [(row["id"], row["question"]) for row in told.rows] == [
        ("q7", "What does the lantern burn?"),
        ("2", "The anchor?"),
    ]


def test_questions_typed_one_by_one(run: Run, ships: str) -> None:
    typed = "What is the anchor made of?\nWhat does the lantern burn?\n\nnot read\n"
    rows = run("query", ships, "--json", typed=typed).rows
    assert [row["cited_ids"] for row in rows] == [["a"], ["b"]]


def test_a_query_leaves_no_file_open(ships: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["rag-lab", "query", ships, "What is the anchor made of?"])
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        with contextlib.suppress(SystemExit):
            cli.main()
        gc.collect()
    assert [str(warning.message) for warning in seen] == []


def test_top_k_is_how_many_passages_an_answer_has(run: Run, ships: str) -> None:
    told = run("query", ships, "anchor lantern", "--top-k", "1", "--show-context", "--json")
    assert len(told.data["passages"]) == 1


def test_in_a_process_of_its_own(rows: Path) -> None:
    added = apart("data", "add", "ships", str(rows), "--json")
    assert (added.status, added.err, added.data["kept"]) == (0, "", 2)
    asked = apart("query", "ships", "--json", typed="What is the anchor made of?\n")
    assert (asked.status, asked.err) == (0, "")
    assert asked.rows[0]["cited_ids"] == ["a"]
    missing = apart("ingest", "nonsense")
    assert (missing.status, missing.out, len(missing.err.splitlines())) == (1, "", 1)
