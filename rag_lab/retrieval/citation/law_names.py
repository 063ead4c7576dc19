"""Laws as a question names them: by number, by title, by nickname or abbreviation."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from rag_lab.corpora.analysis import ENGLISH_STOP_WORDS, INDONESIAN_STOP_WORDS
from rag_lab.retrieval.citation.known_laws import CODES, NICKNAMES
from rag_lab.retrieval.citation.law_numbers import law_key, narrowed, numbered_laws
from rag_lab.retrieval.citation.parse import LawMention

MAX_NAME_WORDS = 14
MAX_MEANINGS = 8

_WORD = re.compile(r"\w+")
_PREFIXES = {
    "uu": "uu", "undang undang": "uu", "undang2": "uu", "pp": "pp", "peraturan pemerintah": "pp",
    "perpres": "perpres", "peraturan presiden": "perpres", "perppu": "perppu", "perpu": "perppu",
}  # fmt: skip
_REGULATIONS = ("pp-", "perpres-", "keppres-", "inpres-", "perda-", "permen")
_FIRST_OF_CODES = frozenset(name.split()[0] for name in CODES)
_FILLERS = frozenset(("tentang", "mengenai", "ri"))
_GLUED = re.compile(r"UU([A-CE-Z][A-Z]{1,5})")
_UNKNOWN = re.compile(r"\s[A-Z]\w*(?:\s(?:dan\s)?(?!Pasal|Ps|Nomor|No\b|Tahun|Ayat)[A-Z]\w*){0,6}")
_CHAIN = re.compile(
    r"\s?,?\s?\(?(?:jo|juncto|junto|yo|(?:sebagaimana )?(?:telah )?(?:diubah|dirubah)"
    r"(?: terakhir)?(?: kali)?(?: dengan| oleh)?|as (?:last )?amended by)\.?\s?",
    re.IGNORECASE,
)
_TITLED = re.compile(r"\s?,?\s?(?:tentang|mengenai|on|about|concerning)\s", re.IGNORECASE)
_PARTS_OF_TITLE = re.compile(r"\s+[—–]\s+|[()]")
_GENERIC = frozenset(
    _WORD.findall(
        """negara republik indonesia nasional daerah pembentukan pengelolaan penyelenggaraan sistem
        tindak pidana tahun anggaran kabupaten kota provinsi propinsi perubahan penetapan pengesahan
        pemerintah peraturan perundang undang undangan hukum umum badan lembaga komisi hak dasar
        pokok ketentuan tata cara perlindungan pelindungan pencegahan pemberantasan penanganan baru
        usaha pertama kedua ketiga atas"""
    )
)
"""Words that name no law by themselves."""
_SINGULAR = ("Pengesahan ", "Pembentukan Kabupaten", "Pembentukan Pro", "Pembentukan Kota")
"""Titles that no part of is used as a name."""
_NOT_IN_NAMES = INDONESIAN_STOP_WORDS | ENGLISH_STOP_WORDS | {
    "pasal", "ps", "psl", "nomor", "no", "tahun", "indonesia", "ri", "republik", "ayat", "article",
    "uu", "pp", "jo", "juncto", "huruf", "butir", "angka", "apakah",
}  # fmt: skip


@dataclass(frozen=True, slots=True, order=True)
class _Fit:
    """How well a name fits a law; tier 0 is its whole title. The least is the likeliest."""

    tier: int
    is_change: bool
    age: int
    key: str


class LawNames:
    """The names of laws: those everybody knows, and those learned from titles.

    A title gives its whole, its initials (ITE), its beginning, its end and what lies between,
    in this order; of laws a name fits equally well, one that changes another comes after it, and
    newer ones come first.

    Args:
        titles: law key → its title.
    """

    def __init__(self, titles: Mapping[str, str]) -> None:
        self.changes: dict[str, list[str]] = defaultdict(list)
        self._learned: dict[str, dict[str, _Fit]] = defaultdict(dict)
        for key, title in titles.items():
            self._learn(key, title)
        for changing in self.changes.values():
            changing.sort(key=_year, reverse=True)

    def _learn(self, key: str, title: str) -> None:
        changed = [law.keys[0] for law in numbered_laws(title) if law.keys[0] != key]
        for base in changed:
            self.changes[base].append(key)
        subjects = [re.split(r"\b[Tt]entang\b", part)[-1] for part in _PARTS_OF_TITLE.split(title)]
        for subject in map(str.strip, subjects):
            if not subject or law_key(subject):
                continue
            words = [word.lower() for word in _WORD.findall(subject)]
            whole = subject.startswith(_SINGULAR) or len(words) > MAX_NAME_WORDS
            for tier, name in [(0, " ".join(words))] if whole else _names(words):
                fit = _Fit(tier, bool(changed), -_year(key), key)
                self._learned[name][key] = min(fit, self._learned[name].get(key, fit))

    def meanings(self, name: str, kind: str = "uu") -> tuple[str, ...]:
        """The keys of the laws that a name in lower case may mean, likeliest first."""
        known = CODES.get(name) or (NICKNAMES.get(name, ()) if kind == "uu" else ())
        fits = sorted(
            fit
            for key, fit in self._learned.get(name, {}).items()
            if key.startswith(f"{kind}-") or (kind == "uu" and not key.startswith(_REGULATIONS))
        )
        best = 0 if known else fits[0].tier if fits else 0
        learned = (fit.key for fit in fits if fit.tier == best)
        return tuple(dict.fromkeys((*known, *learned)))[:MAX_MEANINGS]

    def find(self, text: str) -> list[LawMention]:
        """The laws that a cleaned question names, in order; a chain ("jo.") is one mention."""
        found: list[LawMention] = []
        numbered = [self._with_title(text, law) for law in numbered_laws(text)]
        for law in sorted((*numbered, *self._named(text)), key=lambda law: law.start):
            if not found or law.start >= found[-1].end:
                found[-1:] = _joined(text, found[-1], law) if found else [law]
        return found

    def _with_title(self, text: str, law: LawMention) -> LawMention:
        """The mention with the title that follows it: "UU 8/1999 tentang Perlindungan Konsumen"."""
        titled = _TITLED.match(text, law.end)
        if not titled:
            return law
        words = list(_WORD.finditer(text, titled.end(), titled.end() + 300))
        _, size = _longest(words, 0, lambda name: law.keys[0] in self._learned.get(name, ()))
        return replace(law, end=words[size - 1].end()) if size else law

    def _named(self, text: str) -> Iterator[LawMention]:
        words = list(_WORD.finditer(text))
        place = 0
        while place < len(words):
            law = self._name_at(text, words, place)
            place += 1
            if law:
                law = narrowed(text, law)
                yield law
                while place < len(words) and words[place].start() < law.end:
                    place += 1

    def _name_at(self, text: str, words: Sequence[re.Match[str]], place: int) -> LawMention | None:
        if words[place][0].lower() in _FIRST_OF_CODES:
            code, size = _longest(words, place, CODES.get)
            if code:
                return _mention(text, words, place, place + size, self.meanings(code))
        if glued := _GLUED.fullmatch(words[place][0]):
            keys = self.meanings(glued[1].lower())
            return _mention(text, words, place, place + 1, keys) if keys else None
        kind, start = _prefix(words, place)
        if not kind:
            return None
        name, size = _longest(words, start, lambda name: self.meanings(name, kind))
        if name and not _goes_on(text, words, start + size):
            return _mention(text, words, place, start + size, self.meanings(name, kind))
        unknown = _UNKNOWN.match(text, words[start - 1].end())
        if unknown and unknown[0].split()[0].lower() not in _NOT_IN_NAMES:
            begin, end = words[place].start(), unknown.end()
            return LawMention(begin, end, (), text[begin:end])
        return None


def _names(words: Sequence[str]) -> Iterator[tuple[int, str]]:
    """What the law with a title may be called, with how well it fits."""
    yield 0, " ".join(words)
    content = [word for word in words if word not in INDONESIAN_STOP_WORDS]
    if len(content) > 1:
        yield 1, "".join(word[0] for word in content)
    for start in range(len(words)):
        for end in range(start + 1, len(words) + 1):
            part = words[start:end]
            if part[0] in INDONESIAN_STOP_WORDS or part[-1] in INDONESIAN_STOP_WORDS:
                continue
            tier = 2 if start == 0 else 3 if end == len(words) else 4
            if not _GENERIC.issuperset(part):
                yield tier, " ".join(part)
            if tier < 4 and 2 < sum(word not in INDONESIAN_STOP_WORDS for word in part) < 6:
                yield tier, "".join(w[0] for w in part if w not in INDONESIAN_STOP_WORDS)


def _longest(
    words: Sequence[re.Match[str]], start: int, bears: Callable[[str], object]
) -> tuple[str, int]:
    """The longest name that begins at a word, and how many words it has; "" and 0 for none."""
    for size in range(min(MAX_NAME_WORDS, len(words) - start), 0, -1):
        name = " ".join(word[0].lower() for word in words[start : start + size])
        if bears(name):
            return name, size
    return "", 0


def _prefix(words: Sequence[re.Match[str]], place: int) -> tuple[str, int]:
    """The kind of law that a word (or two) announces, and where its name begins."""
    for size in (2, 1) if place + 1 < len(words) else (1,):
        kind = _PREFIXES.get(" ".join(word[0].lower() for word in words[place : place + size]))
        if kind:
            start = place + size
            while start < len(words) and words[start][0].lower() in _FILLERS:
                start += 1
            return kind, start
    return "", place


def _goes_on(text: str, words: Sequence[re.Match[str]], place: int) -> bool:
    """Whether a capitalised word follows: "UU Kesehatan Jiwa" is not the "UU Kesehatan"."""
    if place >= len(words) or text[words[place - 1].end() : words[place].start()] != " ":
        return False
    word = words[place][0].rstrip("0123456789")
    return word.istitle() and len(word) > 2 and word.lower() not in _NOT_IN_NAMES


def _mention(
    text: str, words: Sequence[re.Match[str]], first: int, end: int, keys: tuple[str, ...]
) -> LawMention:
    start, stop = words[first].start(), words[end - 1].end()
    return LawMention(start, stop, keys, text[start:stop])


def _joined(text: str, last: LawMention, law: LawMention) -> list[LawMention]:
    """Two laws that follow each other; one if the second continues or explains the first."""
    gap = text[last.end : law.start]
    if _CHAIN.fullmatch(gap):
        keys = tuple(dict.fromkeys((*last.keys, *law.keys)))
        chain = (*(last.chain or (last,)), law)
        return [LawMention(last.start, law.end, keys, text[last.start : law.end], chain)]
    same = tuple(key for key in last.keys if key in law.keys) if last.keys else law.keys
    if gap.strip() == "(" and same:
        end = law.end + text.startswith(")", law.end)
        return [LawMention(last.start, end, same, text[last.start : end])]
    return [last, law]


def _year(key: str) -> int:
    year = re.search(r"-(\d{4})(?:-|$)", key)
    return int(year[1]) if year else 0
