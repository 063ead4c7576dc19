"""The keyword index: BM25 by bm25s, with the analyser of the corpus language."""

from __future__ import annotations

import math
from array import array
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from rag_lab.corpora.analysis import Analyzer
from rag_lab.index.nodes import Node

_GROUPS_EACH = 8
_MEMBERS = 4
"""The best k are sought among the groups' best where there are groups of this size for that."""


class Words:
    """Token lists in order, as numbers: 4 bytes a token."""

    def __init__(self) -> None:
        self._numbers: defaultdict[str, int] = defaultdict()
        self._numbers.default_factory = self._numbers.__len__  # a new token gets the next number
        self._ids = array("i")
        self._lengths = array("i")

    def add(self, tokens: Iterable[str]) -> None:
        """Appends a document."""
        before = len(self._ids)
        self._ids.extend(map(self._numbers.__getitem__, tokens))
        self._lengths.append(len(self._ids) - before)

    def __len__(self) -> int:
        return len(self._lengths)

    @property
    def vocabulary(self) -> dict[str, int]:
        """The number of each token, in the order in which they first came."""
        return dict(self._numbers)

    @property
    def ids(self) -> np.ndarray:
        """All tokens of all documents, int32."""
        return np.array(self._ids, np.int32)

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each document, int32."""
        return np.array(self._lengths, np.int32)


class KeywordIndex:
    """BM25 (Robertson and Walker's weighting, Lucene's form) over token lists.

    `score(d) = Σ_t idf(t) · tf / (tf + k1 · (1 - b + b · |d| / avg|d|))`; Robertson & Zaragoza,
    *The Probabilistic Relevance Framework* (2009). Ties are broken by position.
    """

    def __init__(self, engine: Any, vocabulary: dict[str, int], size: int) -> None:
        self._engine = engine
        self._vocabulary = vocabulary
        self._size = size

    @classmethod
    def build(cls, documents: Iterable[list[str]], *, k1: float, b: float) -> KeywordIndex:
        """Indexes token lists in order; their positions are the answers of `search`."""
        words = Words()
        for tokens in documents:
            words.add(tokens)
        return cls.of(words, k1=k1, b=b)

    @classmethod
    def of(cls, words: Words, *, k1: float, b: float) -> KeywordIndex:
        """Indexes the documents collected in `words`."""
        import bm25s

        engine = bm25s.BM25(method="lucene", k1=k1, b=b)
        engine.vocab_dict = vocabulary = words.vocabulary
        engine.nonoccurrence_array = None  # the BM25 variants that weigh absence have one
        if vocabulary:
            engine.scores = _weighted(words, k1, b)
        return cls(engine, vocabulary, len(words))

    def __len__(self) -> int:
        return self._size

    def scores(self, tokens: Iterable[str]) -> np.ndarray:
        """The score of every position for the query's tokens, float32 of shape (n,).

        A token counts as often as the query says it. Without a known token all scores are zero.
        """
        known = [self._vocabulary[token] for token in tokens if token in self._vocabulary]
        if not known:
            return np.zeros(self._size, np.float32)
        scores: np.ndarray = self._engine.get_scores_from_ids(known)
        return scores

    def knows(self, token: str) -> bool:
        """Whether any document holds the token."""
        return token in self._vocabulary

    def weights(self, tokens: Iterable[str]) -> dict[str, float]:
        """How telling each distinct token is: ln(1 + n / (1 + df)); unknown ones weigh most."""
        starts = self._engine.scores["indptr"] if self._vocabulary else None
        weights = {}
        for token in dict.fromkeys(tokens):
            place = self._vocabulary.get(token)
            found_in = 0 if place is None or starts is None else starts[place + 1] - starts[place]
            weights[token] = math.log(1 + self._size / (1 + int(found_in)))
        return weights

    def search(
        self, tokens: Iterable[str], k: int, allowed: np.ndarray | None = None
    ) -> list[tuple[int, float]]:
        """The k best (position, score) pairs above zero, best first.

        Args:
            tokens: the analysed query.
            k: at most this many.
            allowed: boolean mask of shape (n,) of positions that may be returned.
        """
        scores = self.scores(tokens)
        if allowed is not None:
            scores = np.where(allowed, scores, 0)
        return best(scores, k)

    def save(self, folder: Path) -> None:
        """Writes the index into a folder: NumPy arrays and JSON, no pickle."""
        folder.mkdir(parents=True)
        if self._vocabulary:
            self._engine.save(folder, show_progress=False)

    @classmethod
    def load(cls, folder: Path, size: int) -> KeywordIndex:
        """Opens an index; the arrays are mapped, not read."""
        import bm25s

        if not (folder / "params.index.json").exists():
            return cls(None, {}, size)
        engine = bm25s.BM25.load(folder, mmap=True, show_progress=False)
        # The same maps as plain arrays: cutting a `np.memmap` up doubles the cost of a search.
        engine.scores = {name: _plain(value) for name, value in engine.scores.items()}
        return cls(engine, engine.vocab_dict, size)


def best(scores: np.ndarray, k: int) -> list[tuple[int, float]]:
    """The k highest positive scores as (position, score), highest first, ties by position."""
    if k <= 0:
        return []
    least = _reached(scores, k)
    positions = np.flatnonzero(scores >= least if least > 0 else scores > 0)
    values = scores[positions]
    if len(values) > k:
        # Taking all that tie with the k-th before sorting keeps the cut stable.
        kept = values >= np.partition(values, -k)[-k]
        positions, values = positions[kept], values[kept]
    order = np.argsort(-values, kind="stable")[:k]
    return list(zip(positions[order].tolist(), values[order].tolist(), strict=True))


def _reached(scores: np.ndarray, k: int) -> float:
    """A score that at least k positions reach, found without looking at each twice; else 0.

    The k-th highest of the maxima of groups: k groups each hold a score as high.
    """
    groups = _GROUPS_EACH * k
    members = len(scores) // groups
    if members < _MEMBERS:
        return 0.0
    maxima = scores[: members * groups].reshape(members, groups).max(axis=0)
    return float(np.partition(maxima, -k)[-k])


def _weighted(words: Words, k1: float, b: float) -> dict[str, Any]:
    """The weight of each token in each document by the formula of `KeywordIndex`, as bm25s has it.

    A sparse matrix by columns (a column a token): bit for bit what `bm25s.BM25.index` makes, whose
    loop over documents takes seven times as long and holds up the event loop.
    """
    ids, lengths = words.ids, words.lengths
    size, count = len(lengths), int(ids.max()) + 1
    documents = np.repeat(np.arange(size, dtype=np.int64), lengths)
    pairs, frequencies = np.unique(ids * np.int64(size) + documents, return_counts=True)
    tokens, places = np.divmod(pairs, size)
    found_in = np.bincount(tokens, minlength=count)
    idf = np.array([math.log(1 + (size - df + 0.5) / (df + 0.5)) for df in found_in.tolist()])
    saturation = k1 * ((1 - b) + b * lengths / lengths.mean())
    weights = frequencies / (saturation[places] + frequencies)
    return {
        "data": (idf.astype(np.float32)[tokens] * weights).astype(np.float32),
        "indices": places.astype(np.int32),
        "indptr": np.concatenate([[0], np.cumsum(found_in)]),
        "num_docs": size,
    }


def _plain(value: Any) -> Any:
    return np.asarray(value) if isinstance(value, np.ndarray) else value


def index_tokens(analyzer: Analyzer, node: Node, header_weight: int) -> list[str]:
    """The tokens a node is found by: its names `header_weight` times, its context, its text."""
    names = [token for name in node.names for token in analyzer.tokens(name)]
    return names * header_weight + analyzer.tokens(f"{node.context}\n{node.text}")
