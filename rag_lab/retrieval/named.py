"""What a question names comes first: a show by any of its names, an article by its citation.

Names are looked up, not searched for: no model is asked. What is named and does not exist is told
as such; nothing else is returned in its place.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import compress
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import numpy as np

from rag_lab.gateway.loops import PerLoop
from rag_lab.index.search import Hits
from rag_lab.index.snapshot import LabIndex
from rag_lab.retrieval.alias import AliasHit, AliasIndex
from rag_lab.retrieval.alias.names import has_cjk, key_of, words_of
from rag_lab.retrieval.citation import Citation, Statutes
from rag_lab.retrieval.hybrid import HybridRetriever, Ranking, Searched
from rag_lab.telemetry import note, stage

NAMED = "named"
"""The search that finds what is named, among the scores of a node."""
LAW = "law"
"""The search that finds all of a law that is named as a whole."""
ALIKE = "alike"
"""The search that finds shows whose names resemble the question, or the name in it."""
ALIKE_WEIGHT = 0.5
ALIKE_WEIGHT_CJK = 2.0
"""What a resemblance of 0 to about 1 counts beside a fused score from 0 to 1: more if no name was
found and there are Chinese, Japanese or Korean characters, for those stand in names alone."""
LAW_BONUS = 0.4
"""What an article of a law named as a whole gets on top of a fused score from 0 to 1."""


_ABOVE_ALL = 2.0
_ALIKE = 50
_KNOWN = 4_096
"""Questions whose names are remembered: an answer needs them after the retrieval."""
_SERIES_CHARS = 6
"""Other names begin with a shorter one by chance."""


@dataclass(frozen=True, slots=True)
class Named:
    """What a question names.

    Attributes:
        first: document ids that are meant without doubt, in the order named.
        among: document ids one of which is meant; what else is asked tells which.
        within: document ids of the laws named as a whole.
        alike: document ids whose names resemble the question, best first, and what that counts.
        missing: what is named and does not exist, and what does.
        notes: how the names were understood.
        citations: of articles and laws, as they were read.
        rest: the question without its citations.
    """

    first: tuple[str, ...] = ()
    among: tuple[str, ...] = ()
    within: tuple[str, ...] = ()
    alike: tuple[tuple[str, float], ...] = ()
    missing: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    citations: tuple[Citation, ...] = ()
    rest: str = ""

    @property
    def nothing_left(self) -> bool:
        """Whether all that is named does not exist."""
        return bool(self.missing) and not (self.first or self.among or self.within)


class Names(Protocol):
    """Anything that knows what a question names."""

    def named(self, question: str) -> Named:
        """What a question names. It may take some milliseconds: use a thread."""
        ...


class ShowNames:
    """Shows by any of their names; `names` are pairs of document id and name."""

    def __init__(self, names: Iterable[tuple[str, str]]) -> None:
        pairs = list(names)
        self._aliases = AliasIndex.build(pairs)
        self._by_key = sorted((key_of(words_of(name)), document_id) for document_id, name in pairs)

    def named(self, question: str) -> Named:
        """The shows that bear a name, and those whose names begin with it: its other seasons."""
        hits = self._aliases.find(question)
        bearers = [each for hit in hits for each in hit.document_ids]
        others = [each for hit in hits for each in self._begun_by(hit.alias)]
        return Named(
            among=tuple(dict.fromkeys([*bearers, *others])),
            alike=self._alike(question, found=bool(hits)),
            notes=tuple(map(_told, hits)),
            rest=question,
        )

    def _alike(self, question: str, *, found: bool) -> tuple[tuple[str, float], ...]:
        unknown = has_cjk(question) and not found
        weight = ALIKE_WEIGHT_CJK if unknown else ALIKE_WEIGHT
        ranked = self._aliases.rank(question, _ALIKE)
        return tuple((document_id, weight * score) for document_id, score in ranked)

    def _begun_by(self, alias: str) -> Iterator[str]:
        key = key_of(words_of(alias))
        if len(key) < _SERIES_CHARS:
            return
        for found, document_id in self._by_key[bisect_left(self._by_key, (key, "")) :]:
            if not found.startswith(key):
                return
            yield document_id


class ArticleNames:
    """Articles by citation, and laws by name.

    Args:
        rows: (document id, document key, law, title, Pasal) of every article.
        ayat: document id → the ayat it has.
        language: of the reasons.
    """

    def __init__(
        self,
        rows: Iterable[tuple[str, str, str, str, str]],
        ayat: Mapping[str, list[str]],
        language: str,
    ) -> None:
        kept = list(rows)
        self._statutes = Statutes.of(kept, ayat)
        self._documents: dict[str, list[str]] = {}
        for document_id, key, *_ in kept:
            self._documents.setdefault(key, []).append(document_id)
        self._language = language

    def named(self, question: str) -> Named:
        """The cited articles; the candidates, if no law is named; all of a law named alone."""
        found = self._statutes.resolve(question, "id" if self._language == "id" else "en")
        return Named(
            first=found.document_ids,
            among=found.candidates,
            within=tuple(each for law in found.laws for each in self._documents.get(law, ())),
            missing=found.missing,
            notes=(*(f"{_cited(each)}: {each.said!r}" for each in found.citations), *found.reasons),
            citations=found.citations,
            rest=found.rest,
        )


class NoNames:
    """For documents that nobody calls by name."""

    def named(self, question: str) -> Named:
        """Nothing."""
        return Named(rest=question)


class Lookup:
    """What questions name in one index. The names are read with the first question."""

    def __init__(self) -> None:
        self._names: Names | None = None
        self._reading: PerLoop[asyncio.Lock] = PerLoop(asyncio.Lock)
        self._known: OrderedDict[str, Named] = OrderedDict()

    async def named(self, index: LabIndex, question: str) -> Named:
        """What a question names; it is looked up once, in the index's thread."""
        names = self._names or await self._read(index)
        if isinstance(names, NoNames):
            return names.named(question)
        if question not in self._known:
            with stage("lookup"):
                self._known[question] = await index.run(partial(names.named, question))
            if len(self._known) > _KNOWN:
                self._known.popitem(last=False)
        return self._known[question]

    async def _read(self, index: LabIndex) -> Names:
        async with self._reading.get():  # many first questions may come at once
            if self._names is None:
                with stage("lookup"):
                    self._names = await index.run(partial(read_names, index))
        return self._names


_lookups: WeakKeyDictionary[LabIndex, Lookup] = WeakKeyDictionary()


async def named_in(index: LabIndex, question: str) -> Named:
    """What a question names in an index."""
    lookup = _lookups.get(index)
    if lookup is None:
        lookup = _lookups[index] = Lookup()
    return await lookup.named(index, question)


def read_names(index: LabIndex) -> Names:
    """The names in an index. Blocks, for seconds if it is large."""
    kinds, titles, *law = index.read_columns(
        "record", "titles", "doc", "law", "title", "pasal", "ayat"
    )
    whole = [a == b for a, b in zip(index.nodes.ids, index.nodes.document_ids, strict=True)]
    ids = list(compress(index.nodes.ids, whole))
    if "show" in kinds:
        given = compress(titles, whole)
        return ShowNames((key, name) for key, names in zip(ids, given, strict=True)
                         for name in names or ())  # fmt: skip
    if "pasal" in kinds:
        docs, laws, named, pasal, ayat = (list(compress(column, whole)) for column in law)
        rows = zip(ids, *(map(_text, column) for column in (docs, laws, named, pasal)), strict=True)
        return ArticleNames(
            rows,
            {key: numbers for key, numbers in zip(ids, ayat, strict=True) if numbers},
            index.analyzer.language,
        )
    return NoNames()


class NamedRetriever(HybridRetriever):
    """Hybrid search in which what the question names comes first.

    An article that is cited is there at once: no vector is asked for. A citation of what does not
    exist returns nothing, for anything else would be an answer to another question. Articles of a
    law named as a whole count a little more; no other is left out.
    """

    async def searches(self, query: str) -> Searched:
        """What is named, and both searches; no dense one beside a citation.

        Raises:
            ModelError: the question could not be embedded, and waiting would not help.
        """
        named = await named_in(self.index, query)
        for understood in named.notes:
            note(understood)
        if named.nothing_left:
            return Searched({})
        allowed = await self._allowed()
        if named.citations and named.first:
            searched = Searched({"keyword": await self._keyword(query, allowed)})
        else:
            searched = await super().searches(query)
        first = await self._first(named, query, allowed)
        within = [(place, 1.0) for place in self._places(named.within, allowed)]
        alike = [(p, bonus) for key, bonus in named.alike for p in self._places([key], allowed)]
        # What is found by search as well is shown by the node that search found: named come first.
        hits = {NAMED: first, LAW: within, ALIKE: alike, **searched.hits}
        return Searched({name: each for name, each in hits.items() if each}, searched.degraded)

    def combine(self, lists: Mapping[str, Ranking]) -> Ranking:
        """What is named first, then the others as they are fused."""
        found = {name: each for name, each in lists.items() if name not in (NAMED, LAW, ALIKE)}
        if len(found) == len(lists):
            return super().combine(found)
        scores = dict(super().combine(found)) if found else {}
        for unit, bonus in lists.get(ALIKE, ()):
            scores[unit] = scores.get(unit, 0.0) + bonus
        for unit, _ in lists.get(LAW, ()):
            if unit in scores:
                scores[unit] += LAW_BONUS
        named = [(unit, _ABOVE_ALL + score) for unit, score in lists.get(NAMED, ())]
        first = {unit for unit, _ in named}
        others = [each for each in scores.items() if each[0] not in first]
        return named + sorted(others, key=lambda each: -each[1])

    async def _first(self, named: Named, query: str, allowed: np.ndarray | None) -> Hits:
        """What is meant without doubt, then what the rest of the question makes likely."""
        sure = self._places(named.first, allowed)
        maybe = [place for place in self._places(named.among, allowed) if place not in sure]
        if maybe:
            mask = np.zeros(len(self.index), bool)
            mask[maybe] = True
            likely = await self.index.search_keywords(named.rest or query, len(maybe), mask)
            maybe = list(dict.fromkeys([*(place for place, _ in likely), *maybe]))
        places = [*sure, *maybe]
        return [(place, 1 - rank / len(places)) for rank, place in enumerate(places)]

    def _places(self, document_ids: Iterable[str], allowed: np.ndarray | None) -> list[int]:
        places = (self.index.places.get(document_id) for document_id in document_ids)
        return [
            place for place in places if place is not None and (allowed is None or allowed[place])
        ]


def _told(hit: AliasHit) -> str:
    return f"{hit.said!r} is {hit.alias!r} ({hit.reason})"


def _cited(citation: Citation) -> str:
    named = (
        ("Pasal", citation.pasal), ("ayat", citation.ayat), ("huruf", citation.huruf),
        ("angka", citation.angka), ("", citation.law or "(no law named)"),
    )  # fmt: skip
    return " ".join(f"{word} {value}".strip() for word, value in named if value)


def _text(value: Any) -> str:
    return "" if value is None else str(value)
