"""The keyword index: BM25 by bm25s, with the analyser of the corpus language."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from rag_lab.corpora.analysis import Analyzer
from rag_lab.index.nodes import Node


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
        import bm25s

        vocabulary: dict[str, int] = {}
        ids = [
            [vocabulary.setdefault(token, len(vocabulary)) for token in tokens]
            for tokens in documents
        ]
        engine = bm25s.BM25(method="lucene", k1=k1, b=b)
        if vocabulary:
            engine.index((ids, dict(vocabulary)), create_empty_token=False, show_progress=False)
        return cls(engine, vocabulary, len(ids))

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
        return cls(engine, engine.vocab_dict, size)


def best(scores: np.ndarray, k: int) -> list[tuple[int, float]]:
    """The k highest positive scores as (position, score), highest first, ties by position."""
    k = min(k, len(scores))
    if k <= 0:
        return []
    # Taking all that tie with the k-th before sorting keeps the cut stable.
    threshold = np.partition(scores, -k)[-k]
    candidates = np.flatnonzero((scores >= threshold) & (scores > 0))
    order = np.lexsort((candidates, -scores[candidates]))[:k]
    return [(int(position), float(scores[position])) for position in candidates[order]]


def index_tokens(analyzer: Analyzer, node: Node, header_weight: int) -> list[str]:
    """The tokens a node is found by: its names `header_weight` times, its context, its text."""
    names = [token for name in node.names for token in analyzer.tokens(name)]
    return names * header_weight + analyzer.tokens(f"{node.context}\n{node.text}")
