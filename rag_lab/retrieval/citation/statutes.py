"""What a corpus holds of the laws that a question cites: the named Pasal, or why there is none."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

from rag_lab.corpora.law import law_name
from rag_lab.retrieval.citation.law_names import LawNames
from rag_lab.retrieval.citation.law_numbers import law_key
from rag_lab.retrieval.citation.parse import (
    Article,
    Citation,
    LawMention,
    Run,
    bind,
    clean_question,
    find_articles,
)
from rag_lab.retrieval.citation.reasons import LAW_KEY, SAYINGS, Language, no_law, no_pasal

Row = tuple[str, str, str, str, str]

_JOINING = re.compile(r"(?:\W|\b(?:of|the|dari|dalam|pada|jo|juncto|dan|and)\b)*")


@dataclass(frozen=True, slots=True)
class Resolved:
    """What the citations of a question come to in a corpus.

    Attributes:
        citations: what was named.
        document_ids: the named Pasal in the order named; further pieces and explanations of them
            come after all of them.
        missing: a reason for each law, Pasal or ayat that the corpus does not have.
        candidates: the Pasal named without a law, of every law that has it.
        laws: document keys of the laws named without a Pasal.
        rest: the question without its citations.
        reasons: why a name stands for several laws, or a Pasal is taken from another law.
    """

    citations: tuple[Citation, ...] = ()
    document_ids: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    candidates: tuple[str, ...] = ()
    laws: tuple[str, ...] = ()
    rest: str = ""
    reasons: tuple[str, ...] = ()


@dataclass(slots=True)
class _Law:
    """One law of the corpus: its document keys, its name, and the documents of its Pasal."""

    docs: list[str]
    name: str
    documents: dict[str, list[str]] = field(default_factory=dict)

    @property
    def numbers(self) -> list[int]:
        return sorted({int(found[0]) for key in self.documents if (found := _digits(key))})


@dataclass(slots=True)
class _Finding:
    """What has been found so far."""

    language: Language
    first: list[str] = field(default_factory=list)
    further: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    candidates: list[str] = field(default_factory=list)
    laws: list[str] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)

    def lacks(self, what: str, **told: object) -> None:
        self.missing.append(SAYINGS[self.language][what].format(**told))

    def explain(self, why: str, **told: object) -> None:
        self.reasons.append(SAYINGS[self.language][why].format(**told))


class Statutes:
    """The laws of a corpus: who bears which name, and which Pasal each has."""

    def __init__(
        self, laws: Mapping[str, _Law], names: LawNames, ayat: Mapping[str, Sequence[str]]
    ) -> None:
        self._laws = laws
        self._names = names
        self._ayat = ayat
        self._bearers: dict[str, list[str]] = defaultdict(list)
        for law in laws.values():
            for pasal, documents in law.documents.items():
                self._bearers[pasal].append(documents[0])

    @classmethod
    def of(cls, rows: Iterable[Row], ayat: Mapping[str, Sequence[str]] | None = None) -> Statutes:
        """Reads one row a document, bodies before their explanations.

        Args:
            rows: (document id, document key, law, title, Pasal); rows without a key or a Pasal
                are passed over.
            ayat: document id → the ayat it has, where they are known.
        """
        laws: dict[str, _Law] = {}
        titles: dict[str, str] = {}
        keys: dict[tuple[str, str], str] = {}
        folded: dict[str, str] = {}
        for document_id, doc, name, title, pasal in rows:
            if not doc or not pasal:
                continue
            if (key := keys.get((doc, name))) is None:
                key = keys[doc, name] = _law_identity(doc, name)
                law = laws.setdefault(key, _Law([], name or law_name(doc)))
                law.docs += [doc] if doc not in law.docs else []
                titles[key] = titles.get(key) or title
            if (number := folded.get(pasal)) is None:
                number = folded[pasal] = _fold(pasal)
            laws[key].documents.setdefault(number, []).append(document_id)
        return cls(laws, LawNames(titles), ayat or {})

    def read(self, question: str) -> tuple[Citation, ...]:
        """The citations of a question; a name that fits several laws gives one for each."""
        text = clean_question(question)
        return self._citations(text, *self._parse(text))

    def resolve(self, question: str, language: Language = "en") -> Resolved:
        """Finds what a question cites.

        Args:
            question: any text.
            language: of the reasons.
        """
        text = clean_question(question)
        runs, laws, bound = self._parse(text)
        found = _Finding(language)
        for run, law in zip(runs, bound, strict=True):
            for article in run.articles:
                self._find(article, law, found)
        for law in laws:
            if law not in bound:
                self._find_law(law, found)
        return Resolved(
            citations=self._citations(text, runs, laws, bound),
            document_ids=_once(found.first, found.further),
            missing=_once(found.missing),
            candidates=_once(found.candidates),
            laws=_once(found.laws),
            rest=_without(text, [*runs, *(law for law in laws if law.keys or law in bound)]),
            reasons=_once(found.reasons),
        )

    def _parse(self, text: str) -> tuple[list[Run], list[LawMention], list[LawMention | None]]:
        runs, laws = find_articles(text), self._names.find(text)
        return runs, laws, bind(text, runs, laws)

    def _citations(
        self,
        text: str,
        runs: Sequence[Run],
        laws: Sequence[LawMention],
        bound: Sequence[LawMention | None],
    ) -> tuple[Citation, ...]:
        articles = (
            Citation(key, one.pasal, one.ayat, one.huruf, _said(text, run, law), one.angka)
            for run, law in zip(runs, bound, strict=True)
            for one in run.articles
            for key in self._keys(law, one.pasal)
        )
        named = (law for law in laws if law not in bound and law.keys)
        alone = (Citation(key, "", "", "", law.name) for law in named for key in self._keys(law))
        return tuple(dict.fromkeys(chain(articles, alone)))

    def _keys(self, law: LawMention | None, pasal: str = "") -> tuple[str, ...]:
        """The laws meant: those that have the Pasal, else those here, else the likeliest."""
        if law is None:
            return ("",)
        if not law.keys:
            return (law.name.lower(),)
        here = [key for key in law.keys if key in self._laws]
        with_pasal = [key for key in here if _fold(pasal) in self._laws[key].documents]
        kept = (with_pasal if pasal else []) or here
        return tuple(self._laws[key].docs[0] for key in kept) or law.keys[:1]

    def _find(self, article: Article, law: LawMention | None, found: _Finding) -> None:
        number = _fold(article.pasal)
        if law is None:
            found.candidates += self._bearers.get(number, ())
            if number not in self._bearers:
                found.lacks("nowhere", pasal=article.pasal)
            return
        here = self._here(law, found)
        bearing = [one for one in here if number in one.documents]
        if not bearing and here:
            bearing = self._changing(article, law, found)
        if not bearing:
            self._lacks_pasal(article, law, here, found)
            return
        documents = [one.documents[number] for one in bearing]
        last = self._last_ayat(list(chain(*documents)))
        if last and (asked := _digits(article.ayat)) and int(asked[0]) > last:
            told = {"pasal": article.pasal, "ayat": article.ayat}
            found.lacks("ayat", law=bearing[0].name, last=last, **told)
            return
        found.first += [ids[0] for ids in documents]
        found.further += chain(*(ids[1:] for ids in documents))
        _explain_several(law, bearing, found)

    def _lacks_pasal(
        self, article: Article, law: LawMention, here: Sequence[_Law], found: _Finding
    ) -> None:
        if here and not law.chain and law.keys[0] not in self._laws:
            # Only a law that changes the one named is here.
            found.missing.append(no_law(law, found.language))
        for one in here[:1]:
            told = (one.name, article.pasal, one.numbers, len(one.documents))
            found.missing.append(no_pasal(*told, found.language))

    def _find_law(self, law: LawMention, found: _Finding) -> None:
        if law.keys:
            here = self._here(law, found)
            found.laws += chain(*(one.docs for one in here))
            _explain_several(law, here, found)

    def _here(self, law: LawMention, found: _Finding) -> list[_Law]:
        """The laws of a mention that the corpus has; what it has not is recorded."""
        for one in law.chain or (law,):
            if not any(key in self._laws for key in one.keys):
                found.missing.append(no_law(one, found.language))
        return [self._laws[key] for key in law.keys if key in self._laws]

    def _changing(self, article: Article, law: LawMention, found: _Finding) -> list[_Law]:
        """The newest law that inserted the Pasal into the one named."""
        for base in filter(self._laws.__contains__, law.keys):
            for key in self._names.changes.get(base, ()):
                change = self._laws[key]
                if _fold(article.pasal) in change.documents:
                    told = {"law": self._laws[base].name, "change": change.name}
                    found.explain("changed", pasal=article.pasal, **told)
                    return [change]
        return []

    def _last_ayat(self, document_ids: Sequence[str]) -> int:
        """The highest ayat of a Pasal; 0 where one of its documents has none that is known."""
        lasts = []
        for document_id in document_ids:
            numbers = (_digits(number) for number in self._ayat.get(document_id, ()))
            lasts.append(max((int(number[0]) for number in numbers if number), default=0))
        return max(lasts) if all(lasts) else 0


def _explain_several(law: LawMention, laws: Sequence[_Law], found: _Finding) -> None:
    if len(laws) > 1 and not law.chain:
        found.explain("several", name=law.name, laws=", ".join(one.name for one in laws))


def _law_identity(doc: str, name: str) -> str:
    """One key for all spellings of a law: `uu-2007-40`."""
    doc = doc.lower()
    return doc if LAW_KEY.fullmatch(doc) else law_key(clean_question(name)) or doc


def _fold(pasal: str) -> str:
    return re.sub(r"\s+", "", pasal).upper()


def _digits(number: str) -> re.Match[str] | None:
    return re.match(r"\d+", number)


def _said(text: str, run: Run, law: LawMention | None) -> str:
    """The words of a citation: of one stretch if its law stands beside it."""
    words = text[run.start : run.end]
    if law is None:
        return words
    start, end = min(run.start, law.start), max(run.end, law.end)
    apart = end - start - (run.end - run.start) - (law.end - law.start)
    return text[start:end] if apart < 12 else f"{words} {law.name}"


def _without(text: str, cited: Iterable[Run | LawMention]) -> str:
    """The text without the places cited, what joins them, and the punctuation left over."""
    kept, place = [], 0
    for cut in sorted(cited, key=lambda cut: cut.start):
        between = text[place : max(place, cut.start)]
        kept.append("" if place and _JOINING.fullmatch(between) else between)
        place = max(place, cut.end)
    joined = re.sub(r"(?<!\w)[()/]+(?!\w)", " ", " ".join((*kept, text[place:])))
    return re.sub(r"\s+([,.?!;:])", r"\1", " ".join(joined.split())).strip(" ,;:")


def _once(*ids: Iterable[str]) -> tuple[str, ...]:
    """All of them in order, each once."""
    return tuple(dict.fromkeys(chain(*ids)))
