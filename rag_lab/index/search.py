"""Searches that ride together: questions asked at once share FAISS calls and turns of a thread.

A thread for each query would have them fight for the interpreter, and the event loop with them.
So a search that finds others under way waits for its turn with those that came meanwhile; a lone
one starts at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, cast

import numpy as np

from rag_lab.errors import IndexStateError
from rag_lab.gateway.batch import Batcher
from rag_lab.gateway.loops import PerLoop
from rag_lab.gateway.plan import BatchLimits

if TYPE_CHECKING:
    from rag_lab.corpora.analysis import Analyzer
    from rag_lab.index.keyword import KeywordIndex
    from rag_lab.index.vectors import FaissVectors

Hits: TypeAlias = list[tuple[int, float]]
"""Positions of nodes with their scores, best first."""

_MANY = BatchLimits(items=64)
_FEW = BatchLimits(items=16)
"""What costs tenths of a millisecond each: a turn stays short, and so does the wait for one."""

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True, eq=False)
class _VectorQuery:
    vector: np.ndarray
    k: int
    allowed: np.ndarray | None


@dataclass(frozen=True, slots=True, eq=False)
class _KeywordQuery:
    text: str
    k: int
    allowed: np.ndarray | None


class Searcher:
    """Runs the searches of one snapshot in two threads of its own.

    One searches vectors, where FAISS leaves the interpreter free; one does all that is Python.
    """

    def __init__(self, vectors: FaissVectors, keyword: KeywordIndex, analyzer: Analyzer) -> None:
        self._vectors = vectors
        self._keyword = keyword
        self._analyzer = analyzer
        self._pool = ThreadPoolExecutor(2, thread_name_prefix="rag-lab-search")
        self._closed = False
        near, other = PerLoop(_one_turn), PerLoop(_one_turn)
        self._nearest = self._batcher(self._search_vectors, near, _MANY)
        self._matching = self._batcher(self._search_keywords, other, _FEW)
        self._jobs = self._batcher(_run_each, other, _FEW)

    async def nearest(self, vector: np.ndarray, k: int, allowed: np.ndarray | None) -> Hits:
        """The k nearest to a vector among the allowed positions."""
        return await self._nearest.submit(_VectorQuery(vector, k, allowed))

    async def matching(self, text: str, k: int, allowed: np.ndarray | None) -> Hits:
        """The k best of a text's words among the allowed positions."""
        return await self._matching.submit(_KeywordQuery(text, k, allowed))

    async def run(self, work: Callable[[], R]) -> R:
        """The result of some work on the snapshot that would block the event loop."""
        return cast(R, await self._jobs.submit(work))

    def close(self) -> None:
        """Waits for what is under way; the threads end."""
        self._closed = True
        self._pool.shutdown()

    def _batcher(
        self,
        work: Callable[[Sequence[T]], list[R | Exception]],
        turns: PerLoop[asyncio.Semaphore],
        limits: BatchLimits,
    ) -> Batcher[T, R]:
        async def in_thread(items: list[T]) -> list[R | Exception]:
            if self._closed:
                raise IndexStateError("the index is closed: open it again with open_index.")
            return await asyncio.get_running_loop().run_in_executor(self._pool, work, items)

        return Batcher(in_thread, lambda priority: turns.get(), limits)

    def _search_vectors(self, queries: Sequence[_VectorQuery]) -> list[Hits | Exception]:
        """One FAISS call for all that ask alike; those with a filter have one each."""
        groups: dict[Hashable, list[int]] = {}
        for place, query in enumerate(queries):
            filtered = None if query.allowed is None else place
            groups.setdefault((query.k, query.vector.shape, filtered), []).append(place)
        found: list[Hits | Exception] = [[]] * len(queries)
        for places in groups.values():
            outcomes = self._search_alike([queries[place] for place in places])
            for place, outcome in zip(places, outcomes, strict=True):
                found[place] = outcome
        return found

    def _search_alike(self, queries: Sequence[_VectorQuery]) -> Sequence[Hits | Exception]:
        first = queries[0]
        rows = np.stack([query.vector for query in queries])
        if len(rows) == 1:
            # FAISS has another way for a single row, whose last bits differ: the same question
            # would be answered otherwise in company. On a large index a pair is faster, too.
            rows = np.repeat(rows, 2, axis=0)
        allowed = None if first.allowed is None else np.flatnonzero(first.allowed)
        try:
            return self._vectors.search(rows, first.k, allowed)[: len(queries)]
        except Exception as error:
            return [error] * len(queries)

    def _search_keywords(self, queries: Sequence[_KeywordQuery]) -> list[Hits | Exception]:
        return [_outcome(partial(self._match, query)) for query in queries]

    def _match(self, query: _KeywordQuery) -> Hits:
        return self._keyword.search(self._analyzer.tokens(query.text), query.k, query.allowed)


def _one_turn() -> asyncio.Semaphore:
    return asyncio.Semaphore(1)


def _run_each(jobs: Sequence[Callable[[], Any]]) -> list[Any]:
    return [_outcome(job) for job in jobs]


def _outcome(work: Callable[[], R]) -> R | Exception:
    """What the work gives, or how it failed: one that fails does not fail its company."""
    try:
        return work()
    except Exception as error:
        return error
