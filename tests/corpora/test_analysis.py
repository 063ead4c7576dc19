"""Tokens a reader can check by eye, and what must hold for any text."""

from __future__ import annotations

import unicodedata
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_lab.corpora import analysis
from rag_lab.corpora.analysis import ENGLISH_STOP_WORDS, INDONESIAN_STOP_WORDS, Analyzer

ID = Analyzer("id")
EN = Analyzer("en")
PLAIN = Analyzer("xx")


@pytest.mark.parametrize(
    "text",
    [
        "UU 40/2007",
        "UU No. 40 Tahun 2007",
        "uu nomor 40 tahun 2007",
        "Undang-Undang Nomor 40 Tahun 2007",
        "Undang-undang Republik Indonesia Nomor 40 Tahun 2007",
        "Undang \N{EN DASH} Undang  No.40/2007",
    ],
)
def test_every_way_to_cite_a_statute_gives_the_same_tokens(text: str) -> None:
    assert ID.tokens(text) == ["uu", "40/2007"]


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("Peraturan Pemerintah Nomor 5 Tahun 2021", ["pp", "5/2021"]),
        ("Peraturan Pemerintah Pengganti Undang-Undang", ["perppu"]),
        ("Undang-Undang Dasar", ["uud"]),
        ("KUHPerdata: Kitab Undang-Undang Hukum Perdata", ["kuhperdata", "kuhperdata"]),
        ("Pasal 28 ayat (1)", ["pasal", "28", "ayat", "1"]),
        ("hak-hak konsumen", ["hak", "konsumen"]),
        ("Rp50.000.000,00 atau Rp 50.000.000", ["rp", "50000000", "00", "rp", "50000000"]),
        ("Apa yang dimaksud dengan Merek?", ["merek"]),
    ],
)
def test_indonesian(text: str, tokens: list[str]) -> None:
    assert ID.tokens(text) == tokens


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("Sh\N{LATIN SMALL LETTER O WITH MACRON}jo", ["shojo"]),
        ("The hero\N{RIGHT SINGLE QUOTATION MARK}s wars", ["hero", "war"]),
        ("Fate/stay night, Sci-Fi", ["fate", "stay", "night", "sci", "fi"]),
        ("\N{FULLWIDTH LATIN CAPITAL LETTER A}BC 1,000", ["abc", "1000"]),
        ("鋼の錬金術師 II", ["鋼の", "の錬", "錬金", "金術", "術師", "ii"]),
        ("K 銀", ["k", "銀"]),
        ("Who Are You", ["who", "are", "you"]),
        ("", []),
        ("…?!", []),
    ],
)
def test_english_and_japanese(text: str, tokens: list[str]) -> None:
    assert EN.tokens(text) == tokens


def test_voiced_kana_keep_their_marks() -> None:
    decomposed = unicodedata.normalize("NFD", "ガンダム")
    assert EN.tokens(decomposed) == ["ガン", "ンダ", "ダム"]


def test_other_languages_are_split_and_folded_only() -> None:
    assert PLAIN.tokens("The Ōkami runs") == ["the", "okami", "runs"]
    assert Analyzer("ja").tokens("The Ōkami runs") == ["the", "okami", "runs"]


def test_stemmer_and_stop_words_can_be_chosen() -> None:
    assert Analyzer("en", stemmer="porter", stop_words=None).tokens("The ponies") == ["the", "poni"]
    assert Analyzer("en", stemmer=None, stop_words=frozenset({"ponies"})).tokens("The ponies") == [
        "the"
    ]


def test_unknown_stemmer_is_named() -> None:
    with pytest.raises(ValueError, match="'klingon'"):
        Analyzer("en", stemmer="klingon")


def test_identity_tells_rules_apart() -> None:
    analyzers = [
        ID,
        EN,
        PLAIN,
        Analyzer("en", stemmer=None),
        Analyzer("en", stemmer="porter"),
        Analyzer("en", stop_words=None),
        Analyzer("en", stop_words=frozenset({"the"})),
    ]
    assert len({analyzer.identity for analyzer in analyzers}) == len(analyzers)
    assert Analyzer("en").identity == Analyzer("en", stop_words=ENGLISH_STOP_WORDS).identity


@pytest.mark.parametrize("words", [ENGLISH_STOP_WORDS, INDONESIAN_STOP_WORDS])
def test_stop_words_are_single_folded_words(words: frozenset[str]) -> None:
    assert all(PLAIN.tokens(word) == [word] for word in words)


def test_threads_get_the_same_stems(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"ketenagakerjaan{n % 97} perindustrian pendirian{n % 89}" for n in range(400)]
    expected = [ID.tokens(text) for text in texts]
    analysis._stems.cache_clear()
    monkeypatch.setattr(analysis, "MAX_CACHED_STEMS", 16)
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ID.tokens, texts)) == expected


@given(st.text())
def test_any_text_gives_lower_case_tokens_without_spaces(text: str) -> None:
    for analyzer in (ID, EN, PLAIN):
        for token in analyzer.tokens(text):
            assert token
            assert not any(character.isspace() for character in token)
            assert token.isascii() is False or token == token.lower()


@given(st.text())
def test_tokens_do_not_depend_on_the_unicode_form(text: str) -> None:
    assert EN.tokens(unicodedata.normalize("NFC", text)) == EN.tokens(
        unicodedata.normalize("NFD", text)
    )


@given(st.lists(st.sampled_from(["pasal", "modal", "merek", "hak"])))
def test_joined_texts_join_their_tokens(words: list[str]) -> None:
    assert ID.tokens(" ".join(words)) == [token for word in words for token in ID.tokens(word)]
