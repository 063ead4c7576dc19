"""Laws named by kind, number and year: "UU No. 40 Tahun 2007", "Law 40/2007", "PP 24/2018"."""

from __future__ import annotations

import re
from collections.abc import Iterator

from rag_lab.retrieval.citation.parse import LawMention

_KINDS = (
    ("perppu", r"peraturan pemerintah pengganti undang[ -]{0,3}undang|perp{1,2}u"),
    ("perppu", r"government regulation in lieu of law"),
    ("uudrt", r"(?:undang[ -]{0,3}undang|uu) darurat"),
    ("uu", r"undang[ -]{0,3}undang|undang2|u ?u\.?|law|act"),
    ("pp", r"peraturan pemerintah|p\.?p\.?|government regulation"),
    ("perpres", r"peraturan presiden|perpres\.?|presidential (?:regulation|decree)"),
    ("keppres", r"keputusan presiden|keppres\.?"),
    ("inpres", r"instruksi presiden|inpres\.?"),
    ("perda", r"peraturan daerah|perda\.?"),
    ("permen", r"(?:peraturan|keputusan) menteri(?: [a-z]+){1,6}?|permen[a-z]*|kepmen[a-z]*|pmk"),
)
_KIND = "|".join(f"(?P<k{place}>{pattern})" for place, (_, pattern) in enumerate(_KINDS))
_STATE = r"(?:\s?\(?(?:negara )?(?:republik indonesia|r\.?i\.?)\)?)?"
_NUMBER_WORD = r"(?:nomor|nomer|number|no|nr)?\s?[.:]?\s?"
_YEAR_WORD = r"(?:\s?[/-]\s?(?:tahun\s?)?|\s?,?\s?(?:tahun|thn|th|of|year)\s?\.?\s?)"
_NUMBER_AND_YEAR = (
    r"(?P<number>\d{1,3}[a-z]?)"
    rf"(?:(?:{_YEAR_WORD}|\s)(?P<year>(?:1[89]|20)\d\d)|{_YEAR_WORD}'?(?P<short>\d\d))(?!\w)"
)
_YEAR_AND_NUMBER = (
    r"(?:tahun|thn)\s?(?P<first_year>(?:19|20)\d\d)\s(?:nomor|no)\s?\.?\s?(?P<last>\d{1,3})(?!\w)"
)
_NUMBERED = re.compile(
    rf"(?<!\w)(?:{_KIND})(?![-\w]*[a-z]){_STATE}\s?,?\s?"
    rf"(?:{_NUMBER_WORD}{_NUMBER_AND_YEAR}|{_YEAR_AND_NUMBER})",
    re.IGNORECASE,
)
_AND = r"\s?,?\s?(?:,|dan|and|serta|jo|juncto)\b\.?\s?"
_AGAIN = re.compile(
    rf"(?:{_AND}|\s?,\s?)(?P<said>{_NUMBER_WORD}(?=\d+\s?(?:/|tahun)\s?\d{{4}}){_NUMBER_AND_YEAR})",
    re.IGNORECASE,
)
_ADDED = re.compile(rf"\s?\(?\s?{_NUMBER_WORD}{_NUMBER_AND_YEAR}\)?", re.IGNORECASE)
_YEAR = re.compile(r"\s(?:tahun\s|of\s)?(?P<year>(?:19|20)\d\d)(?!\w)", re.IGNORECASE)


def law_key(text: str) -> str:
    """The key of the first law that a text names by number and year; "" if it names none."""
    return next((mention.keys[0] for mention in numbered_laws(text)), "")


def numbered_laws(text: str) -> Iterator[LawMention]:
    """The laws that a cleaned text names by number, in order."""
    for match in _NUMBERED.finditer(text):
        kind = _kind(match)
        yield LawMention(match.start(), match.end(), (_key(kind, match),), match[0])
        while again := _AGAIN.match(text, match.end()):
            match = again
            start, end = again.span("said")
            yield LawMention(start, end, (_key(kind, again),), again["said"])


def _kind(match: re.Match[str]) -> str:
    kind, said = next(
        (kind, said) for place, (kind, _) in enumerate(_KINDS) if (said := match[f"k{place}"])
    )
    # Each ministry counts its own: `permenaker-2016-6` is not `permendag-2016-6`.
    return said.lower() if kind == "permen" and " " not in said else kind


def _key(kind: str, match: re.Match[str]) -> str:
    said = match.groupdict()
    year = said["year"] or said.get("first_year")
    if not year:
        year = f"{'19' if int(said['short']) > 44 else '20'}{said['short']}"
    number = said["number"] or said["last"]
    return f"{kind}-{year}-{number.lstrip('0').lower()}"


def narrowed(text: str, law: LawMention) -> LawMention:
    """A law named by name, with the number or year that follows: "UU Tipikor 31/1999"."""
    if number := _ADDED.match(text, law.end):
        kind = law.keys[0].partition("-")[0] if law.keys else "uu"
        kind = kind if any(kind == known for known, _ in _KINDS) else "uu"
        return _said(text, law, number.end(), (_key(kind, number),))
    if year := _YEAR.match(text, law.end):
        keys = tuple(key for key in law.keys if key.split("-")[1:2] == [year["year"]])
        if keys:
            return _said(text, law, year.end(), keys)
    return law


def _said(text: str, law: LawMention, end: int, keys: tuple[str, ...]) -> LawMention:
    return LawMention(law.start, end, keys, text[law.start : end])
