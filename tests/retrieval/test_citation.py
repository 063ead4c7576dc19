"""Reading citations: articles in all their spellings, and which law each belongs to."""

from __future__ import annotations

import pytest

from rag_lab.retrieval.citation.law_numbers import law_key, numbered_laws
from rag_lab.retrieval.citation.parse import (
    MAX_ARTICLES,
    MAX_CHARS,
    Article,
    LawMention,
    bind,
    clean_question,
    find_articles,
)


def articles(text: str) -> list[tuple[str, str, str, str]]:
    return [
        (one.pasal, one.ayat, one.huruf, one.angka)
        for run in find_articles(clean_question(text))
        for one in run.articles
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Pasal 15", "15"),
        ("pasal 15", "15"),
        ("PASAL 15", "15"),
        ("Pasal15", "15"),
        ("Ps. 15", "15"),
        ("psl 15", "15"),
        ("article 15", "15"),
        ("Art. 15", "15"),
        ("Pasal 12B", "12B"),
        ("Pasal 12 B", "12B"),
        ("pasal 28 d tentang", "28D"),
        ("Article 15 a company must", "15"),
        ("Pasal I angka 3", "I"),
        ("Pasal II Aturan Peralihan", "II (Aturan Peralihan)"),
        ("Pasal\u00a0０１５", "15"),
    ],
)
def test_an_article_is_read_in_any_spelling(text: str, expected: str) -> None:
    assert [pasal for pasal, *_ in articles(text)] == [expected]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Pasal 15 ayat (1)", [("15", "1", "", "")]),
        ("Pasal 15 ayat 1a", [("15", "1a", "", "")]),
        ("Pasal 15(2)", [("15", "2", "", "")]),
        ("ayat (2) Pasal 15", [("15", "2", "", "")]),
        ("huruf b ayat (2) pasal 15", [("15", "2", "b", "")]),
        ("paragraph (1) of Article 15", [("15", "1", "", "")]),
        ("Article 15 paragraph (1)", [("15", "1", "", "")]),
        ("Pasal 5 huruf a", [("5", "", "a", "")]),
        ("Pasal 1 angka 5", [("1", "", "", "5")]),
        ("Pasal 5 ayat (1) huruf a angka 2", [("5", "1", "a", "2")]),
        ("Pasal 5 ayat (1) dan (3)", [("5", "1", "", ""), ("5", "3", "", "")]),
        ("Pasal 5 ayat 1 dan 3", [("5", "1", "", ""), ("5", "3", "", "")]),
        ("Pasal 5 ayat (2)-(4)", [("5", number, "", "") for number in "234"]),
        ("Pasal 5 huruf a, b, dan c", [("5", "", letter, "") for letter in "abc"]),
        (
            "Pasal 5 ayat (1) huruf a dan ayat (2) huruf b",
            [("5", "1", "a", ""), ("5", "2", "b", "")],
        ),
    ],
)
def test_parts_of_an_article(text: str, expected: list[tuple[str, ...]]) -> None:
    assert articles(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Pasal 3, 5 dan 7", "3 5 7"),
        ("Pasal 3 , Pasal 5, dan Pasal 7", "3 5 7"),
        ("Pasal 2 jo. Pasal 18", "2 18"),
        ("Pasal 10 sampai dengan Pasal 12", "10 11 12"),
        ("Pasal 10-12", "10 11 12"),
        ("pasal 10 s/d 12", "10 11 12"),
        ("pasal 10 s.d. 12", "10 11 12"),
        ("Pasal 10 – Pasal 12", "10 11 12"),
        ("articles 10 to 12", "10 11 12"),
        ("Pasal 28A-28D", "28A 28B 28C 28D"),
        ("Pasal 1 sampai 900", "1 900"),
        ("Pasal 15 ayat (1) dan 17", "15 17"),
        ("Pasal 15 dan 3 orang saksi", "15"),
        ("Pasal 15, 30 hari kemudian", "15"),
    ],
)
def test_lists_and_ranges(text: str, expected: str) -> None:
    assert [pasal for pasal, *_ in articles(text)] == expected.split()


@pytest.mark.parametrize(
    "text", ["pasal tersebut", "pasal ini dan itu", "kena pasal berlapis", "Pasal 5/2007", "15", ""]
)
def test_no_article_is_seen_where_none_is_named(text: str) -> None:
    assert articles(text) == []


def test_a_pasted_document_is_read_so_far_and_no_further() -> None:
    assert len(clean_question("x" * 100_000)) == MAX_CHARS
    assert len(articles("pasal 1-100, " * 5_000)) <= MAX_ARTICLES + 100


def test_control_characters_are_spaces() -> None:
    assert clean_question("Pasal\x005\u200b ayat\n(1)") == "Pasal 5 ayat (1)"


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("UU 40/2007", "uu-2007-40"),
        ("uu no 40 tahun 2007", "uu-2007-40"),
        ("UU No.40/2007", "uu-2007-40"),
        ("UU RI Nomor 40 Tahun 2007", "uu-2007-40"),
        ("Undang-Undang Republik Indonesia Nomor 40 Tahun 2007", "uu-2007-40"),
        ("undang undang no. 40 thn 2007", "uu-2007-40"),
        ("UNDANG - UNDANG NOMOR 40 TAHUN 2007", "uu-2007-40"),
        ("UU 40 2007", "uu-2007-40"),
        ("UU tahun 2007 nomor 40", "uu-2007-40"),
        ("UU 8/99", "uu-1999-8"),
        ("UU No. 8 th 05", "uu-2005-8"),
        ("Law No. 40 of 2007", "uu-2007-40"),
        ("PP Nomor 24 Tahun 2018", "pp-2018-24"),
        ("Peraturan Pemerintah No. 24/2018", "pp-2018-24"),
        ("Government Regulation 24/2018", "pp-2018-24"),
        ("Perppu 2/2022", "perppu-2022-2"),
        ("Peraturan Pemerintah Pengganti Undang-Undang Nomor 2 Tahun 2022", "perppu-2022-2"),
        ("Perpres No 12 Tahun 2021", "perpres-2021-12"),
        ("Permenaker No. 6 Tahun 2016", "permenaker-2016-6"),
        ("UU Desa", ""),
        ("kupp 24/2018", ""),
    ],
)
def test_a_law_is_known_by_kind_number_and_year(text: str, key: str) -> None:
    assert law_key(text) == key


def test_numbers_that_follow_share_the_kind() -> None:
    keys = [law.keys for law in numbered_laws("UU 31/1999 jo. No. 20 Tahun 2001 dan 30/2002")]
    assert keys == [("uu-1999-31",), ("uu-2001-20",), ("uu-2002-30",)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Pasal 5 UU 1/2001", "5=1"),
        ("UU 1/2001 pasal 5", "5=1"),
        ("Pasal 5 dari UU 1/2001", "5=1"),
        ("Menurut UU 1/2001, apa isi Pasal 5?", "5=1"),
        ("Apa isi Pasal 5 soal pajak menurut UU 1/2001?", "5=1"),
        ("Pasal 5 UU 1/2001 jo. Pasal 6 UU 2/2002", "5=1 6=2"),
        ("UU 1/2001 Pasal 5 dan UU 2/2002 Pasal 6", "5=1 6=2"),
        ("UU 1/2001 pasal 5, UU 2/2002 pasal 6", "5=1 6=2"),
        ("Menurut UU 1/2001, apa isi Pasal 5, lalu Pasal 6 UU 2/2002?", "5=1 6=2"),
        ("Apakah Pasal 5 UU 1/2001 sejalan dengan Pasal 7?", "5=1 7=1"),
        ("Apa hubungan Pasal 3 dengan Pasal 5 UU 1/2001?", "3=1 5=1"),
        ("Apa isi Pasal 5?", "5=-"),
    ],
)
def test_each_article_finds_its_law(text: str, expected: str) -> None:
    runs, laws = find_articles(text), list(numbered_laws(text))
    bound = bind(text, runs, laws)
    assert (
        " ".join(
            f"{run.articles[0].pasal}={law.keys[0][-1] if law else '-'}"
            for run, law in zip(runs, bound, strict=True)
        )
        == expected
    )


def test_a_run_says_where_it_stands() -> None:
    text = "Apa isi Pasal 3, 5 dan 7 UU?"
    (run,) = find_articles(text)
    assert text[run.start : run.end] == "Pasal 3, 5 dan 7"
    assert run.articles[0] == Article("3")
    assert bind(text, [run], [LawMention(25, 27, (), "UU")])[0] is not None
