"""Names in one spelling: width, case, accents, long vowels, numbering and kana folded away.

A name becomes words that know their place in the text; Chinese, Japanese and Korean characters
are words of their own. Two spellings of one name have the same `key`: "Shingeki no Kyojin Season
2", "SHINGEKI NO KYOJIN II" and "Shingeki no Kyojin 2nd Season" are `shingekinokyojin2`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

__all__ = ["Word", "has_cjk", "is_cjk", "is_kana", "is_romaji", "key_of", "romanised", "words_of"]


@dataclass(frozen=True, slots=True)
class Word:
    """A word in its one spelling, and where the text says it: `text[start:end]`."""

    text: str
    start: int
    end: int


_CJK: Final = (
    r"\u3005-\u3007\u3041-\u3096\u30a1-\u30fa\u30fc-\u30ff"
    r"\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff"
)
_IS_CJK: Final = re.compile(rf"[{_CJK}]")
# A base character with the marks that belong to it, half-width voicing marks among them.
_CLUSTER: Final = re.compile(r"(?s).[\u0300-\u036f\u3099\u309a\uff9e\uff9f]*")
_ACCENT: Final = re.compile(r"[\u0300-\u036f]")
_KATAKANA_TO_HIRAGANA: Final = {code: code - 0x60 for code in range(0x30A1, 0x30F7)}
_WORD: Final = re.compile(
    rf"[{_CJK}]|(?P<written>[^\W_{_CJK}]+(?:['’`´][^\W_{_CJK}]+)*)|(?P<and>[&+])|(?P<cross>×)"
)
_POSSESSIVE: Final = re.compile(r"['’`´]s$")
_APOSTROPHE: Final = re.compile(r"['’`´]")

_KANA_ONLY: Final = re.compile(r"[\u3041-\u3096\u30fc]+")

_ROMAN: Final = dict(zip(["ii", "iii", "iv", "vi", "vii", "viii", "ix"], "2346789", strict=True))
_SPELT: Final = {
    **_ROMAN,
    **dict(zip(["first", "second", "third", "fourth", "fifth", "sixth"], "123456", strict=True)),
    **dict(zip(["one", "two", "three", "four", "five", "six"], "123456", strict=True)),
    **dict(zip(["ichi", "ni", "san", "yon", "go", "roku"], "123456", strict=True)),
    **dict(zip("一二三四五六", "123456", strict=True)),
}
_COUNT: Final = rf"\d+|{'|'.join(_SPELT)}"
_NUMBERING: Final = re.compile(
    r"(?<!\S)(?:"
    rf"(?:season|し ー ず ん) ({_COUNT})|(?:the )?({_COUNT}) (?:season|し ー ず ん)"
    rf"|(?:dai|第) ({_COUNT}) (?:ki|期)|({_COUNT}) 期"
    rf"|(?P<part>(?:part|cour|ぱ ー と) ({_COUNT})|(?:第 )?({_COUNT}) (?:part|cour|く ー る))"
    r")(?!\S)"
)
_ORDINAL: Final = re.compile(r"(?:s0*)?([1-9]\d?)|([1-9]\d?)(?:st|nd|rd|th)")
_LONG_VOWEL: Final = re.compile(r"([aiueo])\1+|(o)u")


def words_of(text: str) -> list[Word]:
    """The words of a name or a question in order, each in its one spelling."""
    folded, starts, ends = _folded(text)
    words = [
        Word(_spelling(found), starts[found.start()], ends[found.end() - 1])
        for found in _WORD.finditer(folded)
    ]
    return _numbered(words)


def key_of(words: Iterable[Word]) -> str:
    """What two spellings of one name share; blanks do not tell "Bokura no" from "Bokurano"."""
    return "".join(word.text for word in words)


def is_cjk(word: str) -> bool:
    """Whether a word is a Chinese, Japanese or Korean character."""
    return len(word) == 1 and has_cjk(word)


def has_cjk(text: str) -> bool:
    """Whether any Chinese, Japanese or Korean character is in it."""
    return not text.isascii() and _IS_CJK.search(text) is not None


def is_kana(text: str) -> bool:
    """Whether it is kana alone, so that it can be read aloud by a table."""
    return not text.isascii() and _KANA_ONLY.fullmatch(text) is not None


def _folded(text: str) -> tuple[str, Sequence[int], Sequence[int]]:
    """The text in one width and case, and for each character where it stood."""
    if text.isascii():
        return text.lower(), range(len(text)), range(1, len(text) + 1)
    parts: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    for cluster in _CLUSTER.finditer(text):
        part = _folded_cluster(cluster[0])
        parts.append(part)
        starts += [cluster.start()] * len(part)
        ends += [cluster.end()] * len(part)
    return "".join(parts), starts, ends


@lru_cache(maxsize=20_000)
def _folded_cluster(cluster: str) -> str:
    bare = _ACCENT.sub("", unicodedata.normalize("NFKD", cluster)).casefold()
    return unicodedata.normalize("NFC", bare).translate(_KATAKANA_TO_HIRAGANA)


def _spelling(found: re.Match[str]) -> str:
    if found["and"]:
        return "and"
    if found["cross"]:
        return "x"
    if not found["written"]:
        return found[0]
    return _one_spelling(found["written"])


@lru_cache(maxsize=50_000)
def _one_spelling(written: str) -> str:
    word = _APOSTROPHE.sub("", _POSSESSIVE.sub("", written))
    if ordinal := _ORDINAL.fullmatch(word):
        return ordinal[1] or ordinal[2]
    if word in _ROMAN:
        return _ROMAN[word]
    return "o" if word == "wo" else _LONG_VOWEL.sub(r"\1\2", word)


def _numbered(words: list[Word]) -> list[Word]:
    """Writes "season 2", "2nd season" and "第2期" as "2", "cour 2" and "第2クール" as "part2".

    "Season 1" is left out: the first season has the bare name.
    """
    line = " ".join(word.text for word in words)
    result: list[Word] = []
    done = 0
    for found in _NUMBERING.finditer(line):
        first = line.count(" ", 0, found.start())
        last = first + found[0].count(" ")
        count = next(group for group in found.groups()[::-1] if group)
        number = _SPELT.get(count, count)
        result += words[done:first]
        if found["part"] or number != "1":
            text = f"part{number}" if found["part"] else number
            result.append(Word(text, words[first].start, words[last].end))
        done = last + 1
    return result + words[done:]


_ROWS: Final = (
    ("", "あいうえお"), ("k", "かきくけこ"), ("g", "がぎぐげご"), ("s", "さしすせそ"),
    ("z", "ざじずぜぞ"), ("t", "たちつてと"), ("d", "だぢづでど"), ("n", "なにぬねの"),
    ("h", "はひふへほ"), ("b", "ばびぶべぼ"), ("p", "ぱぴぷぺぽ"), ("m", "まみむめも"),
    ("r", "らりるれろ"),
)  # fmt: skip
_KANA: Final = {
    **{kana: row + vowel for row, line in _ROWS for kana, vowel in zip(line, "aiueo", strict=True)},
    **{"や": "ya", "ゆ": "yu", "よ": "yo", "わ": "wa", "ゐ": "i", "ゑ": "e", "を": "o", "ん": "n"},
    **{"し": "shi", "じ": "ji", "ち": "chi", "ぢ": "ji", "つ": "tsu", "づ": "zu", "ふ": "fu"},
    "ゔ": "vu",
}
_SMALL: Final = {
    **dict(zip("ぁぃぅぇぉ", "aiueo", strict=True)),
    **{"ゃ": "ya", "ゅ": "yu", "ょ": "yo"},
}
_SOFT: Final = ("sh", "ch", "j")


def romanised(kana: str) -> str:
    """Kana in Hepburn's letters, long vowels short; other characters are left out.

    Expects hiragana, as `words_of` gives it: しゃーろっく is `sharokku`.
    """
    letters = ""
    doubled = False
    for character in kana:
        if character == "っ":
            doubled = True
        elif character in _SMALL:
            letters = _joined(letters, _SMALL[character])
        elif syllable := _KANA.get(character):
            letters += syllable[0] + syllable if doubled and letters else syllable
            doubled = False
    return _LONG_VOWEL.sub(r"\1\2", letters)


def _joined(letters: str, small: str) -> str:
    """A syllable with a small kana: ki + ya is kya, shi + ya is sha, fu + a is fa."""
    before = letters[:-1] if letters.endswith(tuple("aiueo")) else letters
    return before + (small[-1] if before.endswith(_SOFT) else small)


_ROMAJI: Final = re.compile(
    r"(?:(?:[kgsztdnhbpmr]y?|sh|ch|ts|[jfyw])?[aiueo]|n(?![aiueoy])|([kstpc])(?=\1|ch))+"
)


def is_romaji(word: str) -> bool:
    """Whether a word is made of Japanese syllables, as `naruto` is and `monster` is not."""
    return _ROMAJI.fullmatch(word) is not None
