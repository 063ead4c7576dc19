"""Searches asked at the same time: they share calls, and nobody's result is another's."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest

from rag_lab.errors import IndexStateError
from rag_lab.index import LabIndex
from rag_lab.index.search import Searcher
from rag_lab.index.vectors import FaissVectors
from rag_lab.settings import load_settings
from small import food, indexed

WORDS = ("apple", "banana", "carrot", "durian", "fruit", "grows", "spiny markets", "red root")
ROOTS = np.array([False, False, True, False])


@pytest.fixture(params=["Flat", "HNSW32"])
async def index(request: pytest.FixtureRequest) -> AsyncIterator[LabIndex]:
    made = await indexed(food(), load_settings(index={"index_factory": request.param}))
    yield made
    made.close()


class Counted:
    """Counts the rows of each call of a search."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, searched: Any) -> None:
        self.rows: list[int] = []
        self._real = searched.search
        monkeypatch.setattr(searched, "search", self)

    def __call__(self, queries: np.ndarray, k: int, allowed: np.ndarray | None = None) -> Any:
        self.rows.append(len(queries))
        return self._real(queries, k, allowed)


async def test_in_company_a_search_gives_what_it_gives_alone(index: LabIndex) -> None:
    asked = [(word, k, allowed) for word in WORDS for k in (1, 3, 200) for allowed in (None, ROOTS)]
    for search in (index.search_dense, index.search_keywords):
        alone = [await search(*each) for each in asked]
        assert await asyncio.gather(*(search(*each) for each in asked)) == alone
        assert any(alone)


async def test_those_that_ask_alike_share_a_call(
    index: LabIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors = [await index.embedder.embed_query(word) for word in WORDS]
    counted = Counted(monkeypatch, index.vectors)
    await asyncio.gather(*(index.search_vector(vector, 3) for vector in vectors * 8))
    assert sum(counted.rows) <= len(WORDS) * 8 + 1  # a lone one brings its double
    assert len(counted.rows) <= 2
    counted.rows.clear()
    await asyncio.gather(*(index.search_vector(vectors[0], 3, ROOTS) for _ in range(4)))
    assert len(counted.rows) == 4


async def test_no_more_than_64_share_a_call(
    index: LabIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    vector = await index.embedder.embed_query("apple")
    counted = Counted(monkeypatch, index.vectors)
    await asyncio.gather(*(index.search_vector(vector, 3) for _ in range(300)))
    assert max(counted.rows) <= 64


async def test_one_that_cannot_be_searched_fails_alone(index: LabIndex) -> None:
    good = await index.embedder.embed_query("apple")
    found = await asyncio.gather(
        index.search_vector(good, 3),
        index.search_vector(good[:-1], 3),
        index.search_vector(good, 3),
        return_exceptions=True,
    )
    assert isinstance(found[1], IndexStateError)
    assert found[0] == found[2] == await index.search_vector(good, 3)


async def test_work_that_fails_fails_alone(index: LabIndex) -> None:
    def broken() -> int:
        raise ValueError("broken")

    done = await asyncio.gather(
        index.run(lambda: 1), index.run(broken), index.run(lambda: 2), return_exceptions=True
    )
    assert (done[0], done[2]) == (1, 2)
    assert isinstance(done[1], ValueError)


async def test_a_cancelled_search_does_not_cancel_its_company(index: LabIndex) -> None:
    expected = await index.search_keywords("fruit", 3)
    tasks = [asyncio.create_task(index.search_keywords("fruit", 3)) for _ in range(6)]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes[::2])
    assert outcomes[1::2] == [expected] * 3


async def test_work_is_done_in_threads_of_the_index_which_end_with_it() -> None:
    index = await indexed()
    thread = await index.run(threading.current_thread)
    assert thread is not threading.current_thread()
    assert thread.is_alive()
    index.close()
    assert not thread.is_alive()
    with pytest.raises(IndexStateError, match=r"closed: open it again"):
        await index.search_keywords("apple", 1)


async def test_an_index_serves_one_event_loop_after_another(index: LabIndex) -> None:
    async def both() -> Any:
        return await asyncio.gather(index.search_dense("apple", 2), index.search_keywords("a", 2))

    here = await both()
    elsewhere = await asyncio.gather(*(asyncio.to_thread(asyncio.run, both()) for _ in range(3)))
    assert elsewhere == [here] * 3


async def test_scores_have_the_same_last_bits_alone_and_in_company() -> None:
    # FAISS multiplies a single row in another way; it shows on an index of this size.
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((10_000, 96), np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    keyword: Any = None
    analyzer: Any = None
    searcher = Searcher(FaissVectors.build(rows, load_settings().index), keyword, analyzer)
    queries = rows[:40] + rows[40:80]
    alone = [await searcher.nearest(query, 50, None) for query in queries]
    together = await asyncio.gather(*(searcher.nearest(query, 50, None) for query in queries))
    searcher.close()
    assert together == alone
