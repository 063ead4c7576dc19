"""Articles of invented laws from rows, whole statutes and provision lists."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.schema import Document, MetadataMode

from rag_lab.corpora.law import (
    child_passages,
    law_name,
    read_law,
    read_law_text,
    read_provisions,
)
from rag_lab.errors import Rejection

ROW = {
    "id": "uu-2031-99#pasal-2",
    "doc": "uu-2031-99",
    "law": "UU 99/2031",
    "title": "Pasar Terapung",
    "bab": "BAB I UMUM",
    "pasal": "2",
    "text": "(1) Perahu wajib dicat.\n(2) Warna ditetapkan desa.",
    "penjelasan": "Cukup jelas.",
}
STATUTE = """UNDANG-UNDANG REPUBLIK INDONESIA
NOMOR 99 TAHUN 2031
TENTANG
PASAR TERAPUNG

Menimbang : a. bahwa pasar terapung perlu diatur;
MEMUTUSKAN:
BAB I KETENTUAN UMUM
Pasal 1
Dalam Undang-Undang ini yang dimaksud dengan:
1. Perahu adalah alat angkut di air.
2. Dermaga adalah tempat perahu bersandar.
Pasal 7
(1) Perahu wajib dicat hijau.
(2) Warna ditetapkan desa.
Disahkan di Jakarta pada tanggal 1 April 2031 PRESIDEN REPUBLIK INDONESIA, ttd.
"""
AMENDING = """MEMUTUSKAN:
Pasal I
Beberapa ketentuan dalam Undang-Undang Nomor 99 Tahun 2031 diubah sebagai berikut:
1. Ketentuan Pasal 4 diubah sehingga berbunyi sebagai berikut:
Pasal 4
(1) Perahu dicat biru.
2. Di antara Pasal 4 dan Pasal 5 disisipkan satu pasal yang berbunyi sebagai berikut:
Pasal 4A
Dermaga dirawat.
Pasal II
Undang-Undang ini mulai berlaku pada tanggal diundangkan.
"""


def documents(items: Any) -> list[Document]:
    found = list(items)
    assert all(isinstance(item, Document) for item in found), [str(item) for item in found]
    return found


def rejected(items: Any) -> list[str]:
    found = list(items)
    assert all(isinstance(item, Rejection) for item in found)
    return [str(item) for item in found]


def test_a_row(write: Any) -> None:
    (pasal,) = documents(read_law(write("pasal.jsonl.gz", [ROW])))
    assert pasal.id_ == "uu-2031-99#pasal-2"
    assert pasal.text == ROW["text"]
    assert pasal.metadata == {
        "record": "pasal",
        "doc": "uu-2031-99",
        "law": "UU 99/2031",
        "title": "Pasar Terapung",
        "bab": "BAB I UMUM",
        "pasal": "2",
        "pasal_label": "Pasal 2",
        "citation": "Pasal 2 UU 99/2031",
        "kind": "pasal",
        "ayat": ["1", "2"],
        "penjelasan": "Cukup jelas.",
        "source_file": "pasal.jsonl.gz",
        "source_line": 1,
    }
    header = pasal.get_content(MetadataMode.EMBED).split("\n\n")[0]
    assert sorted(line.split(":")[0] for line in header.split("\n")) == [
        "bab",
        "law",
        "pasal_label",
        "title",
    ]


def test_a_row_with_only_the_necessary(write: Any) -> None:
    row = {"id": "uu-2031-99/p5", "doc": "uu-2031-99", "pasal": 5, "text": "Perahu."}
    more = {"ayat": [["1", "Perahu."]], "section": "explanation", "source_kind": "restatement"}
    plain, told = documents(read_law(write("a.jsonl", [row, row | more])))
    assert (plain.metadata["law"], plain.metadata["citation"]) == (
        "UU 99/2031",
        "Pasal 5 UU 99/2031",
    )
    assert "restated" not in plain.metadata
    assert (told.metadata["kind"], told.metadata["ayat"]) == ("penjelasan", ["1"])
    assert told.metadata["restated"] is True


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"id": ""}, "a.jsonl:1 (uu-2031-99): unusable value: id and doc must not be empty"),
        ({"doc": None}, "a.jsonl:1 (uu-2031-99#pasal-2): unusable value: id and doc must not be"),
        ({"ayat": [["1"]]}, "a.jsonl:1 (uu-2031-99#pasal-2): unusable value: "),
        ({"ayat": 3}, "a.jsonl:1 (uu-2031-99#pasal-2): unusable value: "),
    ],
)
def test_an_unusable_row_says_why(write: Any, change: dict[str, Any], reason: str) -> None:
    (said,) = rejected(read_law(write("a.jsonl", [ROW | change])))
    assert said.startswith(reason)


@pytest.mark.parametrize("field", ["id", "doc", "pasal", "text"])
def test_a_missing_field_is_named(write: Any, field: str) -> None:
    row = {key: value for key, value in ROW.items() if key != field}
    (said,) = rejected(read_law(write("a.jsonl", [row])))
    assert said.endswith(f"missing field '{field}'")


@pytest.mark.parametrize("name", ["uu-2031-99.txt", "UU-2031-99.md"])
def test_a_statute_of_its_own_file(write: Any, name: str) -> None:
    first, second = documents(read_law_text(write(name, STATUTE)))
    assert (first.id_, second.id_) == ("uu-2031-99#pasal-1", "uu-2031-99#pasal-7")
    assert second.metadata["title"] == "Pasar Terapung"
    assert second.metadata["citation"] == "Pasal 7 UU 99/2031"
    assert second.metadata["bab"] == "BAB I KETENTUAN UMUM"
    assert second.metadata["ayat"] == ["1", "2"]
    assert second.text == "(1) Perahu wajib dicat hijau.\n(2) Warna ditetapkan desa."
    assert second.metadata["source_file"] == name


def test_statutes_in_json_lines(write: Any) -> None:
    rows = [
        {"doc": "uu-2031-99", "title": "PASAR TERAPUNG", "text": STATUTE},
        {"doc": "pp-2032-1", "text": "tanpa pasal"},
        {"text": "Pasal 1\nPerahu."},
        {"doc": " ", "text": "Pasal 1\nPerahu."},
    ]
    items = list(read_law_text(write("uu.jsonl", rows)))
    ids = [item.id_ for item in items if isinstance(item, Document)]
    assert ids == ["uu-2031-99#pasal-1", "uu-2031-99#pasal-7"]
    assert [str(item) for item in items if isinstance(item, Rejection)] == [
        "uu.jsonl:2 (pp-2032-1): no Pasal found in the text",
        "uu.jsonl:3: missing field 'doc'",
        "uu.jsonl:4 ( ): unusable value: doc must not be empty",
    ]


def test_nul_characters_leave_a_statute(write: Any) -> None:
    found = documents(read_law_text(write("uu-2031-99.txt", STATUTE.replace("hijau", "hi\x00jau"))))
    assert "dicat hijau" in found[1].text


def test_a_statute_in_another_encoding_or_without_articles_is_rejected(write: Any) -> None:
    (said,) = rejected(read_law_text(write("uu-2031-99.txt", b"Pasal 1\nPerah\xfa.")))
    assert said == "uu-2031-99.txt:1: not UTF-8 (byte 13)"
    (said,) = rejected(read_law_text(write("uu-2031-98.txt", "")))
    assert said == "uu-2031-98.txt:1: no Pasal found in the text"


def test_a_packed_statute_of_its_own_file(write: Any) -> None:
    found = documents(read_law_text(write("uu-2031-99.txt.gz", STATUTE)))
    assert [pasal.id_ for pasal in found] == ["uu-2031-99#pasal-1", "uu-2031-99#pasal-7"]


def test_an_amending_act_is_not_indexed_twice(write: Any) -> None:
    found = documents(read_law_text(write("uu-2032-1.txt", AMENDING)))
    assert [pasal.id_ for pasal in found] == [
        "uu-2032-1#ubah-4",
        "uu-2032-1#ubah-4A",
        "uu-2032-1#pasal-II",
    ]
    assert [pasal.metadata["kind"] for pasal in found] == ["perubahan", "perubahan", "pasal"]
    told = " ".join(pasal.text for pasal in found)
    assert told.count("Perahu dicat biru") == told.count("Dermaga dirawat") == 1


PROVISION = {
    "jenis_dokumen": "UU",
    "nomor": "99",
    "tahun": 2031,
    "judul": "Pasar Terapung",
    "tentang": "Pasar Terapung",
    "bab": "I",
    "pasal": "7",
    "text": "(1) Perahu wajib dicat.\n(2) Warna ditetapkan desa.",
}


def test_a_list_of_provisions(tmp_path: Path) -> None:
    path = tmp_path / "list.json"
    rows = [PROVISION, PROVISION | {"tentang": "Sungai", "bab": None}, {"pasal": "8"}, 3]
    path.write_text(json.dumps(rows), encoding="utf-8")
    items = list(read_provisions(path))
    first, second = documents(items[:2])
    assert (first.id_, second.id_) == ("uu-2031-99#pasal-7", "uu-2031-99#pasal-7.2")
    assert (first.metadata["title"], second.metadata["title"]) == (
        "Pasar Terapung",
        "Pasar Terapung — Sungai",
    )
    assert (first.metadata["bab"], first.metadata["ayat"]) == ("BAB I", ["1", "2"])
    assert "bab" not in second.metadata
    assert [(item.file, item.line) for item in items[2:]] == [("list.json", 3), ("list.json", 4)]
    assert "missing or unusable field: 'jenis_dokumen'" in str(items[2])


@pytest.mark.parametrize(
    ("content", "reason"), [(b"[", "malformed JSON"), (b"{}", "expected a JSON list, got dict")]
)
def test_another_form_than_a_list_is_rejected(write: Any, content: bytes, reason: str) -> None:
    (said,) = rejected(read_provisions(write("list.json", content)))
    assert said.startswith(f"list.json:1: {reason}")


@pytest.mark.parametrize("name", ["list.json", "list.json.gz"])
def test_a_list_with_a_byte_order_mark_or_packed(write: Any, name: str) -> None:
    mark = b"" if name.endswith(".gz") else b"\xef\xbb\xbf"
    assert list(read_provisions(write(name, mark + b"[]"))) == []


def test_definitions_of_an_opening_article_are_passages_of_their_own(write: Any) -> None:
    first, second = documents(read_law_text(write("uu-2031-99.txt", STATUTE)))
    assert child_passages(first) == [
        ("def-1", "Perahu", "Perahu adalah alat angkut di air."),
        ("def-2", "Dermaga", "Dermaga adalah tempat perahu bersandar."),
    ]
    assert child_passages(second) == []


@pytest.mark.parametrize(
    ("doc", "name"),
    [
        ("uu-2007-40", "UU 40/2007"),
        ("pp-2021-5a", "PP 5A/2021"),
        ("uud-1945", "UUD 1945"),
        ("kuhperdata", "KUHPerdata"),
        ("perda", "PERDA"),
    ],
)
def test_a_law_is_named_from_its_key(doc: str, name: str) -> None:
    assert law_name(doc) == name
