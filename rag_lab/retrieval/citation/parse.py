"""Citations of Indonesian law in a question: the articles it names, and the law of each.

Text work alone; `law_names` finds the laws a question names, `statutes` knows what a corpus holds.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace

MAX_RANGE = 100
"""Articles that a range may stand for; of a longer one only the ends are taken."""
MAX_ARTICLES = 200
"""Articles read of one question, give or take a range."""
MAX_CHARS = 4_000
"""Characters read of a question; a document pasted as one is read no further."""


@dataclass(frozen=True, slots=True)
class Citation:
    """One article, or one law, that a question names.

    Attributes:
        law: document key such as `uu-2007-40`; "" when no law is named; the words in lower case
            of a name that no known law bears.
        pasal: "15", "28D", "I"; "" when only a law is named.
        ayat: "1", "1a"; "" when none is named.
        huruf: "a"; "" when none is named.
        said: the words of the question.
        angka: an item, e.g. of the definitions in a Pasal 1; "" when none is named.
    """

    law: str
    pasal: str
    ayat: str
    huruf: str
    said: str
    angka: str = ""


@dataclass(frozen=True, slots=True)
class Article:
    """An article as named, without its law."""

    pasal: str
    ayat: str = ""
    huruf: str = ""
    angka: str = ""


@dataclass(frozen=True, slots=True)
class Run:
    """Articles named in one breath ("Pasal 3, 5 dan 7"), and their place in the question."""

    start: int
    end: int
    articles: tuple[Article, ...]


@dataclass(frozen=True, slots=True)
class LawMention:
    """A law as named, and its place in the question.

    Attributes:
        keys: the laws it may mean, likeliest first; empty for a name that no known law bears.
        name: what it was called.
        chain: the laws of a chain ("UU 31/1999 jo. UU 20/2001"), one by one.
    """

    start: int
    end: int
    keys: tuple[str, ...]
    name: str
    chain: tuple[LawMention, ...] = ()


_AND_WORDS = r"dan/atau|dan|atau|serta|and|or|juncto|junto|jo|yo"
_AND = rf"(?:\s*,\s*(?:(?:{_AND_WORDS})\b\.?\s*)?|\s*[&;]\s*|\s+(?:{_AND_WORDS})\b\.?\s*)"
_TO = r"\s*(?:-|\bs\s?[./]\s?d\b\.?|\bsampai(?:\s+(?:dengan|ke))?\b|\b(?:hingga|to|until)\b)\s*"
_PASAL_WORD = r"(?:pasal\s?-\s?pasal|pasal|psl\.?|articles?|art\.|ps\.?)"
_MARK = re.compile(rf"(?<!\w){_PASAL_WORD}\s*(?=[\divx])", re.IGNORECASE)


def _pasal(apart: str) -> re.Pattern[str]:
    return re.compile(
        r"(?P<number>\d{1,4})(?!\d|\s?[./]\s?\d|\s*%)(?P<letters>[A-Za-z]{1,2}(?!\w))?"
        rf"(?:\s(?P<apart>{apart})(?=[\s,;:?!)(]|\.(?!\s?\w)|$))?"
        r"|(?P<roman>(?i:I{1,3}|IV|V))(?!\w)"
        r"(?:\s*\(?\s*(?P<rules>(?i:aturan\s+(?:peralihan|tambahan)))\)?)?"
    )


_PASAL, _ARTICLE = _pasal("[A-Za-z]"), _pasal("[A-Z]")
_COUNTED = re.compile(
    r"\s*(?:hari|orang|tahun|bulan|minggu|jam|kali|persen|ribu|juta|miliar|milyar|rupiah|saksi|hal|"
    r"syarat|unsur|pihak|jenis|macam|days?|years?|months?|people|persons?|times|percent)\b",
    re.IGNORECASE,
)
_AYAT_WORD = r"(?:ayat|paragraphs?|para\.?)\s*"
_HURUF_WORD = r"(?:huruf|letter|point|butir)\s*"
_ANGKA_WORD = r"(?:angka|nomor|item|number|point|butir)\s*"
_IN_BRACKETS, _BARE_AYAT = r"\(\s*(\d{1,2}\s?[a-z]?)\s*\)", r"(\d{1,2}[a-z]?)(?![\w/])"
_LETTER, _ITEM = r"\(?([a-z])(?:\)|(?!\w))", r"\(?(\d{1,3}[a-z]?)(?:\)|(?![\w/]))"
_BEFORE = re.compile(
    rf"(?<!\w)(?:{_HURUF_WORD}{_LETTER}\s+(?:of\s+)?)?{_AYAT_WORD}(?:{_IN_BRACKETS}|{_BARE_AYAT})"
    r"\s+(?:dari\s+|pada\s+|of\s+)?$",
    re.IGNORECASE,
)
_GAP = r"\s*(?:,\s*)?"


def _series(word: str, value: str, *, opening: str = "") -> tuple[re.Pattern[str], re.Pattern[str]]:
    """How a list of parts begins, and how it goes on."""
    more = rf"(?:(?P<range>{_TO})|{_AND})(?:{word})?{value}"
    return (
        re.compile(_GAP + (opening or word) + value, re.IGNORECASE),
        re.compile(more, re.IGNORECASE),
    )


_PARTS = (
    ("ayat", *_series(_AYAT_WORD, _IN_BRACKETS, opening=rf"(?:{_AYAT_WORD})?")),
    ("ayat", *_series(_AYAT_WORD, _BARE_AYAT)),
    ("huruf", *_series(_HURUF_WORD, _LETTER)),
    ("angka", *_series(_ANGKA_WORD, _ITEM)),
)
_NEXT_AYAT = re.compile(rf"{_AND}(?={_AYAT_WORD})", re.IGNORECASE)
_NEXT = re.compile(rf"(?:(?P<range>{_TO})|{_AND})(?P<word>{_PASAL_WORD}\s*)?(?=[\divx])", re.I)


def clean_question(text: str) -> str:
    """One line of NFKC text: no control characters, plain dashes, single spaces, `MAX_CHARS`."""
    folded = unicodedata.normalize("NFKC", text[:MAX_CHARS])
    folded = re.sub(r"[\u2010-\u2015\u2212]", "-", folded)
    return " ".join(re.sub(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\ufeff]", " ", folded).split())


def find_articles(text: str) -> list[Run]:
    """The articles that a cleaned question names, in order."""
    runs: list[Run] = []
    end = 0
    for mark in _MARK.finditer(text):
        if mark.start() < end or sum(len(run.articles) for run in runs) >= MAX_ARTICLES:
            continue
        # "Article 15 a company": a lower-case letter apart is a letter in Indonesian only.
        number = _ARTICLE if mark[0].lower().startswith("art") else _PASAL
        articles, stop = _articles_at(text, mark.end(), number)
        if not articles:
            continue
        start = mark.start()
        before = _BEFORE.search(text[max(end, start - 60) : start])
        if before and not articles[0].ayat:
            ayat = (before[2] or before[3]).replace(" ", "").lower()
            articles[0] = replace(articles[0], ayat=ayat, huruf=(before[1] or "").lower())
            start -= before.end() - before.start()
        end = stop
        runs.append(Run(start, end, tuple(articles)))
    return runs


def _articles_at(text: str, place: int, pattern: re.Pattern[str]) -> tuple[list[Article], int]:
    """The articles listed from a place on, and where the list ends."""
    found: list[Article] = []
    end, in_range, marked = place, False, True
    while len(found) < MAX_ARTICLES and (number := pattern.match(text, place)):
        if not marked and _COUNTED.match(text, number.end()):
            break
        pasal = _pasal_number(number)
        if in_range:
            found += [Article(between) for between in _between(found[-1].pasal, pasal)]
        parts, end = _parts_at(text, number.end())
        found += [replace(part, pasal=pasal) for part in parts]
        more = _NEXT.match(text, end)
        if not more:
            break
        place, in_range, marked = more.end(), more["range"] is not None, more["word"] is not None
    return found, end


def _pasal_number(match: re.Match[str]) -> str:
    if match["roman"]:
        rules = f" ({' '.join(match['rules'].split()).title()})" if match["rules"] else ""
        return match["roman"].upper() + rules
    return f"{int(match['number'])}{(match['letters'] or match['apart'] or '').upper()}"


def _between(first: str, last: str) -> list[str]:
    """The articles strictly between two: of numbers, or of letters after the same number."""
    low, high = (re.fullmatch(r"(\d+)([A-Z]?)", end) for end in (first, last))
    if not low or not high:
        return []
    if low[1] == high[1] and low[2] and high[2]:
        return [f"{low[1]}{chr(code)}" for code in range(ord(low[2]) + 1, ord(high[2]))]
    if int(high[1]) - int(low[1]) > MAX_RANGE:
        return []
    return [str(number) for number in range(int(low[1]) + 1, int(high[1]))]


def _parts_at(text: str, place: int) -> tuple[list[Article], int]:
    """The ayat, huruf and angka named after an article's number; at least one entry."""
    parts = [Article("")]
    while True:
        part, values, end = _next_part(text, place)
        if values:
            parts[-1:] = [replace(parts[-1], **{part: value}) for value in values]
            place = end
        elif following := _NEXT_AYAT.match(text, place):
            parts, place = [*parts, Article("")], following.end()
        else:
            return parts, place


def _next_part(text: str, place: int) -> tuple[str, list[str], int]:
    """The field named at a place, its values, and where they end; no values if there is none."""
    for part, opening, more in _PARTS:
        values, end = _values(text, place, opening, more)
        if values:
            return part, values, end
    return "", [], place


def _values(
    text: str, place: int, opening: re.Pattern[str], more: re.Pattern[str]
) -> tuple[list[str], int]:
    values: list[str] = []
    match = opening.match(text, place)
    while match and not (values and _COUNTED.match(text, match.end())):
        value = match[match.re.groups].replace(" ", "").lower()
        if values and match["range"] is not None and value.isdigit() and values[-1].isdigit():
            values += [str(number) for number in range(int(values[-1]) + 1, int(value))]
        values.append(value)
        place = match.end()
        match = more.match(text, place)
    return values, place


_BLANK = re.compile(r"\s*")
_INTRODUCED = re.compile(r"\s*[,:(-]?\s*")
_OF = re.compile(
    r"(?:\s*(?:\b(?:dari|dalam|pada|di|of|in|under|the|menurut|tentang|tersebut|ini|itu)\b|\())*\s*",
    re.IGNORECASE,
)


def bind(text: str, runs: Sequence[Run], laws: Sequence[LawMention]) -> list[LawMention | None]:
    """The law that each run of articles belongs to; None when the question names none.

    What stands right before ("UU 40/2007 pasal 15") or right after ("Pasal 15 UU 40/2007") wins;
    else a law named earlier that has no article yet, a later one, the one before that.
    """
    bound: list[LawMention | None] = []
    for number, run in enumerate(runs):
        limit = runs[number + 1].start if number + 1 < len(runs) else len(text)
        later = [law for law in laws if law.start >= run.end]
        after = later[0] if later and later[0].start < limit else None
        before = next((law for law in reversed(laws) if law.end <= run.start), None)
        free = before if before not in bound else None
        bound.append(_nearest(text, run, free, after) or before or next(iter(later), None))
    return bound


def _nearest(
    text: str, run: Run, before: LawMention | None, after: LawMention | None
) -> LawMention | None:
    gap_before = text[before.end : run.start] if before else ""
    gap_after = text[run.end : after.start] if after else ""
    if before and _BLANK.fullmatch(gap_before):
        return before
    if after and _OF.fullmatch(gap_after):
        return after
    if before and _INTRODUCED.fullmatch(gap_before):
        return before
    if after and _INTRODUCED.fullmatch(gap_after):
        return after
    return before or after
