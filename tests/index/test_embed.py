"""Nodes to vectors as a stream: each text once, each vector at its own node, nothing paid twice."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path

import numpy as np
import pytest

from rag_lab.errors import ModelError
from rag_lab.gateway import Embedded, VectorCache
from rag_lab.index.embed import NodeVectors, embed_nodes
from rag_lab.index.failed import FailedTexts
from rag_lab.index.nodes import Node, NodeStore, NodeWriter
from rag_lab.index.report import Progress
from scripted import Scripted


class Bench:
    """A folder with nodes, a cache and what had failed before, to embed in again and again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.progress: list[Progress] = []

    def spool(self, texts: Sequence[str]) -> list[str]:
        """Makes a node of each text; returns what an embedder is given for them."""
        with NodeWriter(self.folder) as spool:
            for place, text in enumerate(texts):
                spool.add(Node(f"n{place}", f"n{place}", ("Name",), "", text))
        return [f"Name\n{text}" for text in texts]

    async def embed(self, embedder: Scripted) -> NodeVectors:
        with (
            closing(NodeStore(self.folder)) as nodes,
            VectorCache(self.folder / "cache.sqlite") as cache,
        ):
            failed = FailedTexts(self.folder / "failed.json")
            file = self.folder / "vectors.npy"
            return await embed_nodes(nodes, embedder, cache, file, failed, self.progress.append)

    @property
    def kept(self) -> int:
        """Vectors on disk."""
        with VectorCache(self.folder / "cache.sqlite") as cache:
            return len(cache)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    folder = tmp_path / "bench"
    folder.mkdir()
    return Bench(folder)


def numbered(count: int) -> list[str]:
    return [f"text number {place} of them all" for place in range(count)]


def right(texts: Sequence[str], embedder: Scripted) -> np.ndarray:
    return np.stack([embedder.vector(text) for text in texts])


@pytest.mark.parametrize("dimensions", [None, 32])
async def test_every_node_gets_the_vector_of_its_text(bench: Bench, dimensions: int | None) -> None:
    texts, embedder = bench.spool(numbered(1_300)), Scripted(items=50, dimensions=dimensions)
    made = await bench.embed(embedder)
    np.testing.assert_array_equal(made.rows, right(texts, embedder))
    assert (made.embedded, made.calls, made.failed) == (1_300, len(embedder.batches), {})
    assert bench.kept == 1_300


async def test_replies_may_come_in_any_order(bench: Bench) -> None:
    waiting: list[asyncio.Future[None]] = []

    async def last_comes_first(texts: Sequence[str]) -> None:
        future = asyncio.get_running_loop().create_future()
        waiting.append(future)
        if len(waiting) == 5:
            for place, other in enumerate(reversed(waiting)):
                asyncio.get_running_loop().call_later(0.002 * place, other.set_result, None)
            waiting.clear()
        await future

    texts = bench.spool(numbered(100))
    embedder = Scripted(concurrency=20, items=5, before_answer=last_comes_first)
    made = await bench.embed(embedder)
    np.testing.assert_array_equal(made.rows, right(texts, embedder))


async def test_a_slow_batch_holds_up_no_other(bench: Bench) -> None:
    texts, others = bench.spool(numbered(80)), asyncio.Event()

    async def first_waits_for_all(asked: Sequence[str]) -> None:
        if texts[0] in asked:
            await others.wait()
        elif texts[-1] in asked:
            others.set()

    embedder = Scripted(before_answer=first_waits_for_all)
    made = await bench.embed(embedder)
    np.testing.assert_array_equal(made.rows, right(texts, embedder))


async def test_what_is_known_is_not_asked_for(bench: Bench) -> None:
    bench.spool(numbered(30))
    await bench.embed(Scripted())
    texts, embedder = bench.spool(numbered(34)), Scripted()
    made = await bench.embed(embedder)
    assert sorted(embedder.asked) == sorted(texts[30:])
    assert made.embedded == 4
    np.testing.assert_array_equal(made.rows, right(texts, embedder))


async def test_equal_texts_are_asked_for_once(bench: Bench) -> None:
    texts, embedder = bench.spool(["one", "two", "one", "three"] * 300), Scripted()
    made = await bench.embed(embedder)
    assert embedder.asked == dict.fromkeys(texts[:2] + texts[3:4], 1)
    assert made.embedded == 3
    np.testing.assert_array_equal(made.rows, right(texts, embedder))


async def test_calls_under_way_follow_what_the_embedder_says(bench: Bench) -> None:
    bench.spool(numbered(200))
    allowed: list[int] = []

    async def change(texts: Sequence[str]) -> None:
        calls = len(embedder.batches)
        embedder.concurrency = 9 if 10 <= calls < 40 else 1
        allowed.append(embedder.under_way)
        await asyncio.sleep(0.01)

    embedder = Scripted(items=2, concurrency=1, before_answer=change)
    await bench.embed(embedder)
    assert max(allowed[:10]) <= 3  # one and two spare
    assert 3 < embedder.most_under_way <= 11
    assert max(allowed[60:]) <= 3
    assert set(embedder.asked.values()) == {1}


async def test_a_text_that_is_refused_fails_alone_and_is_remembered(bench: Bench) -> None:
    texts = bench.spool([*numbered(20), "text number 7 of them all"])
    made = await bench.embed(Scripted(refused=[texts[7]]))
    assert dict(made.failed) == dict.fromkeys((7, 20), "refused by the script")
    assert not made.rows[[7, 20]].any()
    assert made.embedded == 19
    again = Scripted()
    remembered = await bench.embed(again)
    assert again.batches == []
    assert remembered.failed == made.failed
    FailedTexts(bench.folder / "failed.json").forget()
    retried = await bench.embed(again)
    assert again.batches == [[texts[7]]]
    assert (retried.failed, retried.embedded) == ({}, 1)
    np.testing.assert_array_equal(retried.rows, right(texts, again))


@pytest.mark.parametrize(("dimensions", "columns"), [(None, 0), (32, 32)])
async def test_all_texts_may_be_refused(bench: Bench, dimensions: int | None, columns: int) -> None:
    texts = bench.spool(numbered(6))
    made = await bench.embed(Scripted(refused=texts, dimensions=dimensions))
    assert sorted(made.failed) == list(range(6))
    assert made.rows.shape == (6, columns)
    assert (made.embedded, bench.kept) == (0, 0)


async def test_an_error_stops_the_run_once_the_others_have_come_in(bench: Bench) -> None:
    texts = bench.spool(numbered(100))

    async def third_fails(asked: Sequence[str]) -> None:
        if len(embedder.batches) == 3:
            raise ModelError("the key was refused")
        await asyncio.sleep(0.01)

    embedder = Scripted(concurrency=4, items=4, before_answer=third_fails)
    with pytest.raises(ModelError, match="the key was refused"):
        await bench.embed(embedder)
    assert len(embedder.batches) <= 6  # what was under way, and nothing after it
    paid = sum(embedder.asked.values()) - 4
    assert bench.kept == paid
    second = Scripted()
    made = await bench.embed(second)
    assert sum(second.asked.values()) == 100 - paid
    np.testing.assert_array_equal(made.rows, right(texts, second))


async def test_cancelled_it_keeps_what_has_come_in_and_leaves_nothing_running(
    bench: Bench,
) -> None:
    bench.spool(numbered(40))
    reached, never = asyncio.Event(), asyncio.Event()

    async def stall(texts: Sequence[str]) -> None:
        if len(embedder.batches) > 5:
            reached.set()
            await never.wait()

    embedder = Scripted(before_answer=stall)
    run = asyncio.create_task(bench.embed(embedder))
    await reached.wait()
    run.cancel()
    with suppress(asyncio.CancelledError):
        await run
    assert run.cancelled()
    assert asyncio.all_tasks() == {asyncio.current_task()}
    kept = bench.kept
    assert kept == 20
    second = Scripted()
    await bench.embed(second)
    assert sum(second.asked.values()) == 40 - kept


async def test_vectors_of_two_lengths_are_an_error_and_only_the_first_is_kept(
    bench: Bench,
) -> None:
    class Shrinking(Scripted):
        async def embed_documents(self, texts: Sequence[str]) -> Embedded:
            shorter = bool(self.batches)
            embedded = await super().embed_documents(texts)
            return Embedded(embedded.matrix[:, :-1] if shorter else embedded.matrix)

    bench.spool(numbered(12))
    embedder = Shrinking()
    with pytest.raises(ModelError, match="scripted gave vectors of 47 and 48 dimensions"):
        await bench.embed(embedder)
    assert bench.kept == len(embedder.batches[0])


async def test_progress_counts_every_node_once(bench: Bench) -> None:
    texts = bench.spool([*numbered(30), *numbered(30)])
    await bench.embed(Scripted(refused=texts[:1]))
    done = [progress.done for progress in bench.progress]
    assert done == sorted(done)
    assert {progress.total for progress in bench.progress} == {60}
    assert done[-1] == 60
    assert bench.progress[-1].calls > 0


async def test_a_zero_vector_in_the_cache_counts_as_unknown(bench: Bench) -> None:
    texts = bench.spool(numbered(3))
    embedder = Scripted()
    await bench.embed(embedder)
    with VectorCache(bench.folder / "cache.sqlite") as cache:
        cache._connection.execute("UPDATE vectors SET vector = zeroblob(192)")
        cache._connection.commit()
    await bench.embed(embedder)
    assert embedder.asked == dict.fromkeys(texts, 2)


def test_a_damaged_list_of_failed_texts_counts_as_empty(tmp_path: Path) -> None:
    file = tmp_path / "failed.json"
    FailedTexts(file).add({b"key": "why"})
    assert FailedTexts(file).reason(b"key") == "why"
    file.write_text('{"6b', encoding="utf-8")
    assert FailedTexts(file).reason(b"key") is None
    file.write_text("[1]", encoding="utf-8")
    assert FailedTexts(file).reason(b"key") is None
