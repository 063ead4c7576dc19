"""Citations made up from real laws: forms that lawyers use, and places that do not exist."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from rag_lab.records import Question
from rag_lab.retrieval.citation.statutes import Row

Place = tuple[str, str, str]
"""(document key, Pasal, ayat)"""

_KEY = re.compile(r"(uu|pp)-(\d{4})-(\d+)")
_NUMBERED = {
    "uu": (
        "UU {n}/{y}", "UU No. {n} Tahun {y}", "UU Nomor {n} Tahun {y}", "uu no {n} tahun {y}",
        "UU No.{n}/{y}", "UU RI No. {n} Tahun {y}", "Undang-Undang Nomor {n} Tahun {y}",
        "Undang-Undang Republik Indonesia Nomor {n} Tahun {y}", "undang undang no {n} th {y}",
        "UNDANG-UNDANG NOMOR {n} TAHUN {y}", "UU  No . {n}  Tahun {y}", "UU {n} tahun {y}",
    ),
    "pp": (
        "PP {n}/{y}", "PP No. {n} Tahun {y}", "Peraturan Pemerintah Nomor {n} Tahun {y}",
        "pp no {n} tahun {y}", "PP RI Nomor {n} Tahun {y}",
    ),
}  # fmt: skip
_ENGLISH = {
    "uu": ("Law {n}/{y}", "Law No. {n} of {y}", "Law Number {n} of {y}"),
    "pp": ("Government Regulation No. {n} of {y}",),
}
_NAMED = {
    "kuhperdata": ("KUHPerdata", "KUH Perdata", "Kitab Undang-Undang Hukum Perdata"),
    "uud-1945": ("UUD 1945", "UUD NRI 1945", "UUD NRI Tahun 1945", "Undang-Undang Dasar 1945"),
    "uu-2023-1": ("KUHP", "KUHP baru", "Kitab Undang-Undang Hukum Pidana"),
}
_ARTICLES = (
    ("Pasal {p}", ""), ("pasal {p}", ""), ("Ps. {p}", ""), ("PASAL {p}", ""), ("Pasal{p}", ""),
    ("Pasal {p} ayat (1)", "1"), ("pasal {p} ayat 2", "2"), ("Ps. {p} ayat ( 3 )", "3"),
    ("ayat (2) Pasal {p}", "2"), ("Pasal {p}(1)", "1"), ("Pasal {p} ayat (1) huruf b", "1"),
    ("Pasal {p} huruf a", ""), ("Pasal {p} angka 3", ""), ("psl {p}", ""),
)  # fmt: skip
_ENGLISH_ARTICLES = (("article {p}", ""), ("Article {p} paragraph (1)", "1"), ("Art. {p}", ""))
_WHOLE = (
    "{article} {law}", "{law} {article}", "Apa isi {article} {law}?", "{law}, {article}",
    "Menurut {law}, apa yang diatur {article}?", "jelaskan {article} dari {law}",
    "Tolong bacakan {article} dalam {law} untuk saya", "Apa kata {article} menurut {law}?",
    "Bagaimana {article} ({law}) mengatur tenggat 30 hari?", "{law} {article} bunyinya apa ya",
    "Dalam {law} apa maksud {article}, dan berapa tahun berlakunya?",
)  # fmt: skip
_ENGLISH_WHOLE = ("What does {article} of {law} say?", "{article} of {law}", "{law}, {article}")
_SEVERAL = (
    "Pasal {0}, {1} dan {2} {law}", "Pasal {0} , Pasal {1} dan Pasal {2} {law}",
    "{law} pasal {0}, {1}, dan {2}", "Pasal {0} jo. Pasal {1} jo. Pasal {2} {law}",
    "Apa isi Pasal {0} serta Pasal {1} dan Pasal {2} {law}?",
)  # fmt: skip
_RANGES = (
    "Pasal {0} sampai dengan Pasal {2} {law}", "Pasal {0}-{2} {law}", "{law} pasal {0} s/d {2}",
    "Pasal {0} – Pasal {2} {law}", "Pasal {0} hingga {2} {law}", "pasal {0} s.d. pasal {2} {law}",
)  # fmt: skip
_TWO = (
    "Pasal {p} {law} jo. Pasal {q} {other}", "Apa beda Pasal {p} {law} dan Pasal {q} {other}?",
    "{law} Pasal {p} dan {other} Pasal {q}", "Menurut {law} Pasal {p}, lalu Pasal {q} {other}?",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Form:
    """A question made up, and the places it cites."""

    question: Question
    places: frozenset[Place]


@dataclass(frozen=True, slots=True)
class NoPlace:
    """A question that cites what does not exist, and what the reason must name."""

    question: Question
    named: str


@dataclass(slots=True)
class _Source:
    """One law to make citations of."""

    doc: str
    title: str
    pasal: list[str] = field(default_factory=list)

    @property
    def whole(self) -> list[int]:
        return sorted({int(number) for number in self.pasal if number.isdigit()})


def make_forms(rows: Iterable[Row], count: int, prefix: str, seed: int = 4) -> list[Form]:
    """Citations of Pasal that exist, by templates: one, several, ranges, and of two laws.

    Args:
        rows: of the corpus, as `Statutes.of` takes them.
        count: how many.
        prefix: of the questions' ids.
        seed: of the choice.
    """
    sources, chance = _sources(rows), random.Random(seed)
    makers = (_one, _one, _one, _one_in_english, _several, _range, _of_two)
    forms: list[Form] = []
    while len(forms) < count:
        text, places = makers[len(forms) % len(makers)](chance, sources)
        if text:
            question = Question(f"{prefix}-{len(forms):04d}", text)
            forms.append(Form(question, frozenset(places)))
    return forms


def make_no_places(rows: Iterable[Row], count: int, prefix: str, seed: int = 4) -> list[NoPlace]:
    """Citations of a Pasal above the last, of a letter no law has, and of laws that are not there.

    The arguments are those of `make_forms`.
    """
    sources, chance = _sources(rows), random.Random(seed)
    makers = (_above_the_last, _with_unused_letter, _of_no_law)
    made: list[NoPlace] = []
    while len(made) < count:
        pasal, law, named = makers[len(made) % len(makers)](chance, sources)
        text = chance.choice(_WHOLE).format(article=f"Pasal {pasal}", law=law)
        made.append(NoPlace(Question(f"{prefix}-{len(made):04d}", text), named))
    return made


def _above_the_last(chance: random.Random, sources: Sequence[_Source]) -> tuple[str, str, str]:
    source = chance.choice(sources)
    last = max(source.whole, default=1)
    # A law that changes this one may have inserted a Pasal of a number another law has.
    others = {number for other in sources for number in other.whole}
    free = [number for number in range(last + 1, last + 4_000) if number not in others]
    pasal = str(chance.choice(free))
    return pasal, _law_words(chance, source), f"Pasal {pasal}"


def _with_unused_letter(chance: random.Random, sources: Sequence[_Source]) -> tuple[str, str, str]:
    source = chance.choice(sources)
    used = {pasal for other in sources for pasal in other.pasal}
    letters = (f"{number}{letter}" for number in source.whole for letter in "QRTWXYZ")
    pasal = chance.choice([lettered for lettered in letters if lettered not in used])
    return pasal, _law_words(chance, source), f"Pasal {pasal}"


def _of_no_law(chance: random.Random, sources: Sequence[_Source]) -> tuple[str, str, str]:
    kind, number = chance.choice(("uu", "pp")), chance.randint(1, 99)
    year = chance.choice((chance.randint(1970, 2020), chance.randint(2031, 2045)))
    if f"{kind}-{year}-{number}" in {source.doc for source in sources}:
        return _of_no_law(chance, sources)
    law = chance.choice(_NUMBERED[kind]).format(n=number, y=year)
    return str(chance.randint(1, 20)), law, f"{number}/{year}"


def _sources(rows: Iterable[Row]) -> list[_Source]:
    found: dict[str, _Source] = {}
    for _, doc, _, title, pasal in rows:
        if _KEY.fullmatch(doc) or doc in _NAMED:
            source = found.setdefault(doc, _Source(doc, title))
            if re.fullmatch(r"\d+[A-Z]?", pasal) and pasal not in source.pasal:
                source.pasal.append(pasal)
    titles = [source.title for source in found.values()]
    for source in found.values():
        # A title is a name of its own only if no other law bears it or changes its bearer.
        shared = sum(source.title in title for title in titles) > 1
        if shared or not re.fullmatch(r"[A-Za-z ]{4,60}", source.title):
            source.title = ""
    return [source for source in found.values() if len(source.pasal) > 3]


def _law_words(chance: random.Random, source: _Source, *, english: bool = False) -> str:
    if source.doc in _NAMED and not english:
        return chance.choice(_NAMED[source.doc])
    match = _KEY.fullmatch(source.doc)
    if not match:
        return source.doc.replace("-", " ").upper()
    words = (_ENGLISH if english else _NUMBERED)[match[1]]
    numbered = chance.choice(words).format(n=match[3], y=match[2])
    if not source.title or english or match[1] != "uu":
        return numbered
    titled = (f"{numbered} tentang {source.title}", f"UU {source.title} ({numbered})")
    return chance.choice((numbered, numbered, f"UU {source.title}", *titled))


Made = tuple[str, Iterable[Place]]


def _one(chance: random.Random, sources: Sequence[_Source]) -> Made:
    source = chance.choice(sources)
    pasal = chance.choice(source.pasal)
    words, ayat = chance.choice(_ARTICLES)
    said = re.sub(r"(\d)([A-Z])", r"\1 \2", pasal) if chance.random() < 0.3 else pasal
    law = _law_words(chance, source)
    text = chance.choice(_WHOLE).format(article=words.format(p=said), law=law)
    return text, [(source.doc, pasal, ayat)]


def _one_in_english(chance: random.Random, sources: Sequence[_Source]) -> Made:
    source = chance.choice(sources)
    pasal = chance.choice(source.pasal)
    words, ayat = chance.choice(_ENGLISH_ARTICLES)
    law = _law_words(chance, source, english=True)
    text = chance.choice(_ENGLISH_WHOLE).format(article=words.format(p=pasal), law=law)
    return text, [(source.doc, pasal, ayat)]


def _several(chance: random.Random, sources: Sequence[_Source]) -> Made:
    source = chance.choice(sources)
    chosen = chance.sample(source.pasal, 3)
    text = chance.choice(_SEVERAL).format(*chosen, law=_law_words(chance, source))
    return text, [(source.doc, pasal, "") for pasal in chosen]


def _range(chance: random.Random, sources: Sequence[_Source]) -> Made:
    source = chance.choice(sources)
    runs = [n for n in source.whole if {n + 1, n + 2} <= set(source.whole)]
    if not runs:
        return "", []
    first = chance.choice(runs)
    numbers = [str(first + step) for step in range(3)]
    text = chance.choice(_RANGES).format(*numbers, law=_law_words(chance, source))
    return text, [(source.doc, pasal, "") for pasal in numbers]


def _of_two(chance: random.Random, sources: Sequence[_Source]) -> Made:
    one, other = chance.sample(list(sources), 2)
    p, q = chance.choice(one.pasal), chance.choice(other.pasal)
    words = {"law": _law_words(chance, one), "other": _law_words(chance, other)}
    text = chance.choice(_TWO).format(p=p, q=q, **words)
    return text, [(one.doc, p, ""), (other.doc, q, "")]
