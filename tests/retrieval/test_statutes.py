"""What a corpus holds of the laws a question cites, and what it says it does not hold."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rag_lab.corpora import load_corpus
from rag_lab.evaluation.quality.citations import columns_of
from rag_lab.retrieval.citation.law_names import LawNames
from rag_lab.retrieval.citation.statutes import Row, Statutes


def law(doc: str, name: str, title: str, pasal: str) -> list[Row]:
    return [(f"{doc}:{number}", doc, name, title, number) for number in pasal.split()]


KITES = law("uu-2001-7", "UU 7/2001", "Permainan Layang-Layang", "1 2 3 4 5")
NEW_KITES = law(
    "uu-2009-3",
    "UU 3/2009",
    "Perubahan Atas Undang-undang Nomor 7 Tahun 2001 Tentang Permainan Layang-Layang",
    "I 2 4A II",
)
ROWS: list[Row] = [
    *KITES,
    *NEW_KITES,
    *law("uu-1995-8", "UU 8/1995", "Penggilingan Kopi Rakyat", "1 2 9"),
    *law("uu-2015-4", "UU 4/2015", "Penggilingan Kopi Rakyat", "1 2 3"),
    *law("uu-2007-40", "UU 40/2007", "Perseroan Terbatas", "1 2 3"),
    *law("uud-1945", "UUD 1945", "Undang-Undang Dasar", "28D 33"),
    *law("pp-2012-5", "PP 5/2012", "Gudang Garam Dapur", "1 2"),
    ("kites, explained", "uu-2001-7", "UU 7/2001", "Permainan Layang-Layang", "3"),
]
STATUTES = Statutes.of(ROWS, {"uu-2001-7:2": ["1", "2"], "uu-2001-7:3": ["1"]})


def found(question: str) -> tuple[str, ...]:
    return STATUTES.resolve(question).document_ids


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("Apa isi Pasal 3 UU 40/2007?", ("uu-2007-40:3",)),
        ("UU PT pasal 3", ("uu-2007-40:3",)),
        ("UUPT pasal 3", ("uu-2007-40:3",)),
        ("pasal 28 d ayat 1 uud 45", ("uud-1945:28D",)),
        ("Pasal 2 PP Gudang Garam Dapur", ("pp-2012-5:2",)),
        ("Pasal 5 UU Layang-Layang", ("uu-2001-7:5",)),
        ("Pasal 5 UU PLL", ("uu-2001-7:5",)),
        ("Pasal 5 UU Permainan Layang-Layang (UU 7/2001)", ("uu-2001-7:5",)),
        ("Pasal 2 UU Layang-Layang 7/2001", ("uu-2001-7:2",)),
        ("UU No. 7 Tahun 2001 tentang Permainan Layang-Layang Pasal 5", ("uu-2001-7:5",)),
        ("Pasal 2 dan 1 UU 40/2007", ("uu-2007-40:2", "uu-2007-40:1")),
        ("Pasal 4A UU 7/2001 jo. UU 3/2009", ("uu-2009-3:4A",)),
    ],
)
def test_the_named_article_is_found(question: str, expected: tuple[str, ...]) -> None:
    assert found(question) == expected


def test_bodies_come_before_further_pieces() -> None:
    expected = ("uu-2001-7:3", "uu-2001-7:5", "kites, explained")
    assert found("Pasal 3 dan Pasal 5 UU 7/2001") == expected


def test_a_name_of_two_laws_gives_the_newer_first_and_says_so() -> None:
    resolved = STATUTES.resolve("Pasal 2 UU Penggilingan Kopi")
    assert resolved.document_ids == ("uu-2015-4:2", "uu-1995-8:2")
    assert resolved.reasons == ('"UU Penggilingan Kopi" may be UU 4/2015, UU 8/1995',)
    assert found("Pasal 9 UU Kopi Rakyat") == ("uu-1995-8:9",)
    assert found("Pasal 2 UU Kopi Rakyat 1995") == ("uu-1995-8:2",)


def test_a_law_comes_before_the_law_that_changes_it() -> None:
    assert found("Pasal 2 UU Permainan Layang-Layang") == ("uu-2001-7:2", "uu-2009-3:2")


def test_an_article_that_a_later_law_inserted_is_found_there() -> None:
    resolved = STATUTES.resolve("Pasal 4A UU 7/2001")
    assert resolved.document_ids == ("uu-2009-3:4A",)
    assert resolved.reasons == ("Pasal 4A is not in UU 7/2001 but in UU 3/2009, which changes it",)


@pytest.mark.parametrize(
    ("question", "english", "indonesian"),
    [
        (
            "Pasal 999 UU 40/2007",
            "UU 40/2007 has Pasal 1–3, not Pasal 999",
            "UU 40/2007 memuat Pasal 1–3, tidak ada Pasal 999",
        ),
        (
            "Pasal 5 UU 8/1995",
            "this corpus has 3 Pasal of UU 8/1995 (1–9), not Pasal 5",
            "korpus ini memuat 3 Pasal dari UU 8/1995 (1–9), tidak ada Pasal 5",
        ),
        (
            "Pasal 5 UU 99/2031",
            "no UU 99/2031 in this corpus",
            "tidak ada UU 99/2031 dalam korpus ini",
        ),
        (
            "Pasal 27 UU ITE",
            "no UU ITE (UU 11/2008) in this corpus",
            "tidak ada UU ITE (UU 11/2008) dalam korpus ini",
        ),
        (
            "Pasal 5 UU Sapi Perah",
            'no law in this corpus is called "UU Sapi Perah"; name it by number and year',
            'tidak ada peraturan bernama "UU Sapi Perah" dalam korpus ini; '
            "sebutkan nomor dan tahunnya",
        ),
        (
            "Pasal 2 ayat (3) UU 7/2001",
            "Pasal 2 UU 7/2001 has ayat (1)–(2), not ayat (3)",
            "Pasal 2 UU 7/2001 memuat ayat (1)–(2), tidak ada ayat (3)",
        ),
        (
            "Pasal 1234",
            "no law in this corpus has Pasal 1234",
            "tidak ada peraturan dalam korpus ini yang memuat Pasal 1234",
        ),
    ],
)
def test_what_does_not_exist_is_said(question: str, english: str, indonesian: str) -> None:
    resolved = STATUTES.resolve(question)
    assert resolved.missing == (english,)
    assert (resolved.document_ids, resolved.candidates) == ((), ())
    assert STATUTES.resolve(question, "id").missing == (indonesian,)


def test_an_ayat_is_not_denied_where_ayat_are_not_known() -> None:
    assert found("Pasal 5 ayat (3) UU 7/2001") == ("uu-2001-7:5",)
    assert found("Pasal 3 ayat (9) UU 7/2001") == ("uu-2001-7:3", "kites, explained")


def test_of_two_articles_the_one_that_exists_is_given() -> None:
    resolved = STATUTES.resolve("Pasal 3 dan Pasal 77 UU 40/2007")
    assert resolved.document_ids == ("uu-2007-40:3",)
    assert len(resolved.missing) == 1


def test_a_law_of_a_chain_that_does_not_exist_is_said() -> None:
    resolved = STATUTES.resolve("Pasal 3 UU 40/2007 jo. UU 99/2031")
    assert resolved.document_ids == ("uu-2007-40:3",)
    assert resolved.missing == ("no UU 99/2031 in this corpus",)


def test_an_article_without_a_law_has_candidates() -> None:
    resolved = STATUTES.resolve("pasal 9")
    assert resolved.candidates == ("uu-1995-8:9",)
    assert len(STATUTES.resolve("pasal 1").candidates) == 5
    assert resolved.document_ids == ()


def test_a_law_without_an_article_is_to_be_boosted() -> None:
    resolved = STATUTES.resolve("Apa tujuan perseroan menurut UU PT?")
    assert resolved.laws == ("uu-2007-40",)
    assert (resolved.document_ids, resolved.candidates, resolved.missing) == ((), (), ())
    assert resolved.rest == "Apa tujuan perseroan menurut?"


def test_a_longer_name_is_not_the_shorter_law() -> None:
    assert STATUTES.resolve("Apa isi UU Permainan Layang-Layang Malam?").laws == ()
    assert STATUTES.resolve("Apa isi UU Permainan Layang-Layang Pasal 5?").missing == ()


def test_the_rest_is_the_question_without_its_citations() -> None:
    resolved = STATUTES.resolve("Menurut Pasal 3 dari UU 40/2007 (UU PT), siapa yang bertanggung?")
    assert resolved.rest == "Menurut, siapa yang bertanggung?"


def test_read_gives_places_and_words() -> None:
    (cited,) = STATUTES.read("Apa kata Pasal 3 ayat (2) huruf b UU 40/2007?")
    assert (cited.law, cited.pasal, cited.ayat, cited.huruf) == ("uu-2007-40", "3", "2", "b")
    assert cited.said == "Pasal 3 ayat (2) huruf b UU 40/2007"
    assert [one.law for one in STATUTES.read("UU Kopi Rakyat")] == ["uu-2015-4", "uu-1995-8"]


def test_one_law_under_two_spellings_is_one_law() -> None:
    rows: list[Row] = [
        ("a", "scan 17", "Undang-Undang Nomor 7 Tahun 2001", "", "1"),
        ("b", "uu-2001-7", "UU 7/2001", "", "2"),
        ("no law", "", "", "", "1"),
    ]
    statutes = Statutes.of(rows)
    assert statutes.resolve("Pasal 1 dan 2 UU 7/2001").document_ids == ("a", "b")
    assert statutes.resolve("apa itu UU 7/2001").laws == ("scan 17", "uu-2001-7")
    assert statutes.resolve("pasal 1").candidates == ("a",)


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("kuhp", ("kuhp", "uu-2023-1")),
        ("tipikor", ("uu-1999-31", "uu-2001-20")),
        ("pengelolaan hutan bakau", ("uu-2003-5",)),
        ("phb", ("uu-2003-5",)),
        ("hutan bakau", ("uu-2003-5",)),
        ("pengelolaan", ()),
        ("dan", ()),
    ],
)
def test_names_are_known_or_learned_from_titles(name: str, keys: tuple[str, ...]) -> None:
    assert LawNames({"uu-2003-5": "Pengelolaan Hutan Bakau"}).meanings(name) == keys


def test_a_regulation_is_not_a_statute() -> None:
    names = LawNames({"pp-2003-5": "Hutan Bakau"})
    assert names.meanings("hutan bakau") == ()
    assert names.meanings("hutan bakau", "pp") == ("pp-2003-5",)


def test_a_corpus_without_laws_answers_nothing() -> None:
    resolved = Statutes.of([]).resolve("Apa kabar?")
    assert (resolved.document_ids, resolved.missing, resolved.rest) == ((), (), "Apa kabar?")


PIECES = st.sampled_from(
    ["UU", "Pasal 5", "40/2007", "jo.", "KUHP", "(", ")", "ayat (1)", "tentang", "Undang-", "dan"]
)


@given(st.one_of(st.text(), st.lists(PIECES).map(" ".join)))
@example("UU")
@example("UU tentang")
def test_any_text_is_read(text: str) -> None:
    resolved = STATUTES.resolve(text)
    assert resolved.citations == STATUTES.read(text)
    assert set(resolved.document_ids) <= {row[0] for row in ROWS}


def test_citations_in_the_scale_corpus(
    real_corpus: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAG_LAB_DATA", str(real_corpus("law_id_pasal").parent))
    statutes = Statutes.of(*columns_of(load_corpus("law_id_pasal")))
    assert statutes.resolve("Ps. 15 UU Perseroan Terbatas").document_ids[0] == "uu-2007-40/p15"
    missing = statutes.resolve("Pasal 999 UU No. 40 Tahun 2007").missing
    assert missing == ("UU 40/2007 has Pasal 1–161, not Pasal 999",)
    assert len(statutes.resolve("pasal 1").candidates) > 3_000
