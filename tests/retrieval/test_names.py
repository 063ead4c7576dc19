"""One spelling for a name, where its words stand, how kana are read, and how far typos are."""

from __future__ import annotations

from itertools import pairwise, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_lab.retrieval.alias.edits import edit_distance
from rag_lab.retrieval.alias.names import is_romaji, key_of, romanised, words_of


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Shingeki no Kyojin Season 2", "SHINGEKI NO KYOJIN II"),
        ("Shingeki no Kyojin 2nd Season", "shingeki no kyojin s2"),
        ("Shingeki no Kyojin: Second Season", "Shingeki no Kyojin 2"),
        ("Sayonara Dai Ni Ki", "Sayonara 2"),
        ("Shingeki no Kyojin Season 1", "Shingeki no Kyojin"),
        ("進撃の巨人 第2期", "進撃の巨人 2"),
        ("進撃の巨人 第二期", "進撃の巨人 Ⅱ"),
        ("キラッと シーズン3", "きらっと3"),
        ("無職転生 第2クール", "無職転生 Part 2"),
        ("Shōnen Kyūban", "Shounen Kyuuban"),
        ("Ookami", "Ōkami"),
        ("Kimi wo Nosete", "Kimi o Nosete"),
        ("Spice & Wolf", "spice and wolf"),
        ("Bokura no", "Bokurano"),
        ("HUNTER×HUNTER", "Hunter x Hunter"),
        ("Ｆｒｅｅ！", "free"),
        ("ｶﾞﾝﾀﾞﾑ", "ガンダム"),
        ("Kin'iro", "Kiniro"),
        ("Amélie", "AMELIE"),
        ("Nar\u200buto\x00", "naruto"),
    ],
)
def test_spellings_of_one_name(one: str, other: str) -> None:
    assert key_of(words_of(one)) == key_of(words_of(other))


@pytest.mark.parametrize(
    ("one", "other"),
    [("Title 2", "Title 3"), ("Title Part 2", "Title Season 2"), ("Title", "Title 2")],
)
def test_different_names_stay_different(one: str, other: str) -> None:
    assert key_of(words_of(one)) != key_of(words_of(other))


def test_words_know_where_they_stand() -> None:
    text = "who made ｶﾞﾝﾀﾞﾑ 2nd Season?"
    assert [(word.text, text[word.start : word.end]) for word in words_of(text)] == [
        ("who", "who"),
        ("made", "made"),
        ("が", "ｶﾞ"),
        ("ん", "ﾝ"),
        ("だ", "ﾀﾞ"),
        ("む", "ﾑ"),
        ("2", "2nd Season"),
    ]


@given(st.text(max_size=60))
def test_any_text_has_words_in_order(text: str) -> None:
    words = words_of(text)
    assert all(word.text and word.start < word.end <= len(text) for word in words)
    assert all(a.start <= b.start and a.end <= b.end for a, b in pairwise(words))


@pytest.mark.parametrize(
    ("kana", "letters"),
    [
        ("なると", "naruto"),
        ("しゃーろっく", "sharokku"),
        ("きゃんでぃ", "kyandi"),
        ("ふぁいと", "faito"),
        ("ちぇんじ", "chenji"),
        ("とうきょう", "tokyo"),
        ("づめ", "zume"),
        ("っ", ""),
    ],
)
def test_kana_read_aloud(kana: str, letters: str) -> None:
    assert romanised(kana) == letters


def test_japanese_syllables_are_told_from_other_words() -> None:
    for word in ("naruto", "toradora", "bocchi", "shippuden", "nichijo", "kanon"):
        assert is_romaji(word)
    for word in ("monster", "another", "working", "bleach", "air", "clannad"):
        assert not is_romaji(word)


@pytest.mark.parametrize(
    ("one", "other", "typos"),
    [
        ("toradora", "toradora", 0),
        ("toradora", "toradroa", 1),
        ("toradora", "tordora", 1),
        ("toradora", "toradola", 1),
        ("kitten", "sitting", 3),
        ("ca", "abc", 3),  # a swap is not edited again: that is optimal string alignment
        ("", "abc", 3),
        ("abc", "", 3),
    ],
)
def test_typos_by_hand(one: str, other: str, typos: int) -> None:
    assert edit_distance(one, other) == typos


@given(st.text("abc", max_size=9), st.text("abc", max_size=9))
def test_typos_as_the_table_counts_them(one: str, other: str) -> None:
    table = {(i, 0): i for i in range(len(one) + 1)} | {(0, j): j for j in range(len(other) + 1)}
    for i, j in product(range(1, len(one) + 1), range(1, len(other) + 1)):
        table[i, j] = min(
            table[i - 1, j] + 1,
            table[i, j - 1] + 1,
            table[i - 1, j - 1] + (one[i - 1] != other[j - 1]),
        )
        if i > 1 and j > 1 and one[i - 2 : i] == other[j - 2 : j][::-1]:
            table[i, j] = min(table[i, j], table[i - 2, j - 2] + 1)
    assert edit_distance(one, other) == table[len(one), len(other)]
