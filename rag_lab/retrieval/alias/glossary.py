"""Words that name the same shows in different languages, learned by counting.

The names of a show say one thing in several languages and scripts. Words that stand in names of
the same shows again and again are each other's translation or reading: 転生, `tensei` and
`reincarnated`. So a show is found by a name that it is not indexed with, without a dictionary.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Final

import numpy as np

from rag_lab.retrieval.alias.names import has_cjk, is_cjk

__all__ = ["Glossary", "characters_and_pairs"]

MIN_DOCUMENTS: Final = 2
MIN_DICE: Final = 0.08
LENGTH_EXPONENT: Final = -0.3


class Glossary:
    r"""Pairs of terms (words, CJK characters and character pairs) and how well each translates.

    The strength of a pair is Dice's coefficient over documents,
    :math:`dice(f, g) = 2 n_{fg} / (n_f + n_g)` (Smadja, McKeown and Hatzivassiloglou, "Translating
    Collocations for Bilingual Lexicons", Computational Linguistics 22(1), 1996), where
    :math:`n_{fg}` leaves out names that hold both. A document scores for each term of a name its
    best translation: :math:`\sum_f idf(f) \max_{g \in d} dice(f, g)`, less if it has many names.
    """

    def __init__(self, documents: Sequence[Sequence[Sequence[str]]]) -> None:
        """Learns from the names, as words, of each document."""
        self._terms: dict[str, int] = {}
        numbered = [[self._numbers(name) for name in document] for document in documents]
        names = _incidence([name for document in numbered for name in document], self._terms)
        whole = _incidence([sorted(set().union(*document)) for document in numbered], self._terms)
        spread = np.asarray(whole.sum(0)).ravel()
        self._size = len(documents)
        self._idf = np.log(1 + self._size / (1 + spread))
        self._lengths = ((np.diff(whole.indptr) + 5) / 20) ** LENGTH_EXPONENT
        self._holders = whole.T.tocsr()
        self._translations = self._learned(names, whole, spread)

    def scores(self, name: Sequence[str]) -> np.ndarray:
        """What the translations of a name's words speak for, of shape (documents,)."""
        total = np.zeros(self._size)
        for term in _terms_of(name):
            if term in self._terms:
                number = self._terms[term]
                total += self._idf[number] * self._best_translation(number)
        total *= self._lengths
        return total

    def translations(self, term: str) -> list[tuple[str, float]]:
        """The terms that stand for this one with Dice's coefficient, best first."""
        number = self._terms.get(term)
        if number is None:
            return []
        terms = list(self._terms)
        found = [(terms[other], dice) for other, dice in self._row(number)]
        return found[::-1]

    def _numbers(self, name: Sequence[str]) -> list[int]:
        known = self._terms
        return [known.setdefault(term, len(known)) for term in _terms_of(name)]

    def _row(self, number: int) -> list[tuple[int, float]]:
        matrix = self._translations
        row = slice(matrix.indptr[number], matrix.indptr[number + 1])
        pairs = zip(matrix.indices[row].tolist(), matrix.data[row].tolist(), strict=True)
        return sorted(pairs, key=lambda pair: pair[1])

    def _best_translation(self, number: int) -> np.ndarray:
        best = np.zeros(self._size)
        holders = self._holders
        for other, dice in self._row(number):  # worst first: a better one overwrites it
            best[holders.indices[holders.indptr[other] : holders.indptr[other + 1]]] = dice
        return best

    def _learned(self, names: Any, whole: Any, spread: np.ndarray) -> Any:
        """Dice's coefficient of the pairs that meet more than by chance, sparse (terms, terms)."""
        from scipy import sparse

        apart = (whole.T @ whole - names.T @ names).tocoo()
        cjk = np.fromiter(map(has_cjk, self._terms), bool, len(self._terms))
        left, right = spread[apart.row], spread[apart.col]
        dice = 2 * apart.data / (left + right)
        kept = (
            (apart.data >= MIN_DOCUMENTS)
            & (dice >= MIN_DICE)
            & (apart.data > 2 * left * right / max(self._size, 1))
            & ~(cjk[apart.row] & cjk[apart.col])
        )
        places = apart.row[kept], apart.col[kept]
        return sparse.csr_matrix((dice[kept], places), shape=apart.shape)


def characters_and_pairs(characters: str) -> list[str]:
    """Single characters and overlapping pairs, the terms of a script without blanks."""
    return [*characters, *(a + b for a, b in pairwise(characters))]


def _terms_of(name: Sequence[str]) -> set[str]:
    pairs = (a + b for a, b in pairwise(name) if is_cjk(a) and is_cjk(b))
    return {*name, *pairs}


def _incidence(rows: Sequence[Sequence[int]], terms: dict[str, int]) -> Any:
    """Which row holds which term, a sparse matrix of zeros and ones."""
    from scipy import sparse

    ends = np.cumsum([0, *map(len, rows)])
    numbers = np.fromiter((number for row in rows for number in row), np.int32, int(ends[-1]))
    ones = np.ones(len(numbers), np.float32)
    return sparse.csr_matrix((ones, numbers, ends), shape=(len(rows), len(terms)))
