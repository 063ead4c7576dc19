"""How far split statutes agree with a reference split."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from rag_lab.corpora.statute import Statute, cut_closing

ENOUGH_OVERLAP = 0.9


@dataclass(frozen=True, slots=True)
class StatuteAgreement:
    """Agreement on one statute; ``unmatched`` lists (number, overlap), -1 where we have none."""

    doc: str
    reference_articles: int
    found: int
    unmatched: tuple[tuple[str, float], ...]

    @property
    def matched(self) -> int:
        """Reference Pasal we have under the same number with enough word overlap."""
        return self.reference_articles - len(self.unmatched)


@dataclass(frozen=True, slots=True)
class Agreement:
    """Agreement over all statutes that both sides hold.

    Attributes:
        per_statute: Worst first (most unmatched Pasal).
        repeats: Reference rows left out because an earlier row has the same statute and number.
    """

    per_statute: tuple[StatuteAgreement, ...]
    repeats: int

    @property
    def statutes(self) -> int:
        """Statutes compared."""
        return len(self.per_statute)

    @property
    def reference_articles(self) -> int:
        """Reference Pasal compared."""
        return sum(statute.reference_articles for statute in self.per_statute)

    @property
    def found_share(self) -> float:
        """Share of reference Pasal that we have under the same number, whatever their text."""
        return self._share(sum(statute.found for statute in self.per_statute))

    @property
    def matched_share(self) -> float:
        """Share of reference Pasal found under the same number with an overlap of at least 0.9."""
        return self._share(sum(statute.matched for statute in self.per_statute))

    def _share(self, count: int) -> float:
        return count / self.reference_articles if self.reference_articles else 0.0


def word_overlap(one: str, other: str) -> float:
    """Return the Dice coefficient of two texts' words, between 0 and 1.

    Words are runs of ``a-z0-9`` after lower-casing, counted as a multiset:
    2·|A ∩ B| / (|A| + |B|). Two texts without words overlap fully.
    """
    a, b = (Counter(re.findall(r"[a-z0-9]+", text.lower())) for text in (one, other))
    total = a.total() + b.total()
    return 2 * (a & b).total() / total if total else 1.0


def compare_with(
    reference: Iterable[Mapping[str, Any]], parsed: Mapping[str, Statute]
) -> Agreement:
    """Compare split statutes with reference rows (``doc``, ``pasal``, ``kind``, ``text``).

    Only rows of kind ``pasal`` whose statute is in ``parsed`` count. A row is *found* when the
    statute has a Pasal of kind ``pasal`` under the same number, and *matched* when in addition the
    ``word_overlap`` of the two bodies is at least 0.9. The closing formula, which the reference
    keeps in the last Pasal and ``split_statute`` does not, is cut from the reference first. Where
    the reference repeats a number in one statute, its first row counts and the rest are counted in
    ``Agreement.repeats``.
    """
    rows: dict[str, dict[str, str]] = {}
    repeats = 0
    for row in reference:
        if row["kind"] != "pasal" or row["doc"] not in parsed:
            continue
        numbers = rows.setdefault(row["doc"], {})
        repeats += row["pasal"] in numbers
        numbers.setdefault(row["pasal"], cut_closing(row["text"])[0])
    compared = [_compare(doc, numbers, parsed[doc]) for doc, numbers in rows.items()]
    compared.sort(key=lambda statute: (-len(statute.unmatched), statute.doc))
    return Agreement(tuple(compared), repeats)


def _compare(doc: str, reference: Mapping[str, str], statute: Statute) -> StatuteAgreement:
    ours = {a.number: a.text for a in statute.articles if a.kind == "pasal" and a.ordinal == 1}
    overlaps = {
        number: word_overlap(ours[number], text) if number in ours else -1.0
        for number, text in reference.items()
    }
    unmatched = tuple((number, o) for number, o in overlaps.items() if o < ENOUGH_OVERLAP)
    found = sum(overlap >= 0 for overlap in overlaps.values())
    return StatuteAgreement(doc, len(reference), found, unmatched)
