"""Nodes to vectors: from the cache where they are known, else from the model, as one stream.

Looking up, asking and keeping go on side by side, and none waits for the whole of another. In
memory are the texts and vectors under way, and a few numbers for each text to ask for.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from rag_lab.errors import ModelError
from rag_lab.gateway import Embedded
from rag_lab.gateway.cache import VECTORS_FILE, VectorCache, cache_keys
from rag_lab.index.backlog import Backlog, Sizes
from rag_lab.index.failed import FailedTexts
from rag_lab.index.nodes import NodeStore
from rag_lab.index.report import Progress
from rag_lab.index.threads import in_thread
from rag_lab.models import Embedder

_WINDOW = 512
_TEXTS_AT_HAND = 4_096
"""Texts that are kept from the lookup until they are asked for; others are read again."""
_SPARE = 2
"""Batches under way beyond the calls in flight, so that a slot that gets free never waits."""


@dataclass(frozen=True, slots=True, eq=False)
class NodeVectors:
    """The vectors of all nodes.

    Attributes:
        rows: float32 of shape (nodes, dimensions) in the order of the nodes, mapped from a file;
            the row of a failed node is zero. Without columns if no length is known.
        failed: why a node has no vector, by its place.
        embedded: texts that the model has embedded in this run.
        calls: requests that took.
    """

    rows: np.ndarray
    failed: Mapping[int, str]
    embedded: int
    calls: int


async def embed_nodes(
    nodes: NodeStore,
    embedder: Embedder,
    cache: VectorCache,
    file: Path,
    failed_texts: FailedTexts,
    progress: Callable[[Progress], None],
    under_way: asyncio.Event | None = None,
) -> NodeVectors:
    """A vector for every node; each text is asked for once, however many nodes have it.

    Args:
        nodes: what to embed.
        embedder: asked for what the cache does not know.
        cache: gets each vector as soon as it is there. It may be closed once this has ended, also
            by an error or a cancellation: nothing goes on in the background.
        file: where the rows are kept, as `.npy`.
        failed_texts: not asked for again; gets those that fail now.
        progress: called in the event loop with every step.
        under_way: set as soon as other work does not hold up the first requests.

    Raises:
        ModelError: nothing can be embedded now, or vectors differ in length. What was under way
            has come in and is in the cache.
    """
    rows = _Rows(file, len(nodes), embedder.identity)
    embedding = _Embedding(
        nodes, embedder, cache, rows, failed_texts, progress, under_way or asyncio.Event()
    )
    return await embedding.run()


class _Rows:
    """The rows of all nodes in a mapped file, made when the length of a vector is known."""

    def __init__(self, file: Path, count: int, model: str) -> None:
        self._file = file
        self._count = count
        self._model = model
        self._made: np.ndarray | None = None
        self._lock = threading.Lock()  # lookups and replies may be the first at the same time

    def of_length(self, length: int) -> np.ndarray:
        """The array, if vectors are of that length.

        Raises:
            ModelError: others were of another length.
        """
        with self._lock:
            if self._made is None:
                self._made = np.lib.format.open_memmap(
                    self._file, mode="w+", dtype=np.float32, shape=(self._count, length)
                )
        if self._made.shape[1] != length:
            lengths = sorted((self._made.shape[1], length))
            raise ModelError(
                f"{self._model} gave vectors of {' and '.join(map(str, lengths))} dimensions: it "
                "is not the model that earlier vectors are from. Give it another name, or delete "
                f"{VECTORS_FILE} in the cache folder."
            )
        return self._made

    def flush(self) -> None:
        """Returns when what is there is on the disk."""
        if isinstance(self._made, np.memmap):
            self._made.flush()

    @property
    def array(self) -> np.ndarray:
        """All rows; without columns if there was no vector at all."""
        return np.zeros((self._count, 0), np.float32) if self._made is None else self._made


@dataclass(frozen=True, slots=True, eq=False)
class _LookedUp:
    """Some nodes: how many are settled, the first ones of new texts, and their twins."""

    settled: int
    failed: dict[int, str]
    to_ask: Sizes
    twins: dict[int, int]
    texts: dict[int, tuple[str, bytes]]


@dataclass(frozen=True, slots=True, eq=False)
class _Reply:
    places: Sequence[int]
    keys: Sequence[bytes]
    embedded: Embedded


@dataclass(slots=True, eq=False)
class _Transaction:
    """What several replies bring, to be written at once."""

    places: list[int] = field(default_factory=list)
    keys: list[bytes] = field(default_factory=list)
    parts: list[np.ndarray] = field(default_factory=list)
    failed: dict[bytes, str] = field(default_factory=dict)


class _Embedding:
    """One run of `embed_nodes`. Only the event loop changes its counts."""

    def __init__(
        self,
        nodes: NodeStore,
        embedder: Embedder,
        cache: VectorCache,
        rows: _Rows,
        failed_texts: FailedTexts,
        progress: Callable[[Progress], None],
        under_way: asyncio.Event,
    ) -> None:
        self._nodes = nodes
        self._embedder = embedder
        self._dimensions = embedder.dimensions  # a part of every key: one value a run
        self._cache = cache
        self._rows = rows
        self._failed_texts = failed_texts
        self._progress = progress
        self._under_way = under_way
        self._backlog = Backlog()
        self._first: dict[bytes, int] = {}
        self._twins: dict[int, int] = {}
        self._failed: dict[int, str] = {}
        self._settled = self._embedded = self._calls = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._asks: set[asyncio.Task[None]] = set()
        self._texts: dict[int, tuple[str, bytes]] = {}  # with their keys, until they are asked for
        self._replies: list[_Reply] = []
        self._unkept = 0
        self._keeping = False
        self._reader = asyncio.Lock()
        self._errors: list[BaseException] = []
        self._stopped = False
        self._moved = asyncio.Event()

    async def run(self) -> NodeVectors:
        if self._dimensions is not None:
            self._rows.of_length(self._dimensions)
        self._begin(self._look_up_all())
        try:
            while True:
                self._moved.clear()
                await self._fill()
                if self._asks or self._backlog.closed:
                    self._under_way.set()
                if not self._tasks:
                    break
                await self._moved.wait()
        except BaseException:
            await self._give_up()
            raise
        if self._errors:
            raise self._errors[0]
        await in_thread(self._settle_twins)
        self._tell(len(self._twins))
        return NodeVectors(self._rows.array, self._failed, self._embedded, self._calls)

    def _begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._asks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._errors.append(error)
        self._moved.set()

    async def _give_up(self) -> None:
        """Cancels what is on its way; what has come in is kept."""
        self._stopped = True
        for ask in self._asks:
            ask.cancel()
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _tell(self, settled: int) -> None:
        if settled:
            self._settled += settled
            self._progress(Progress("embed", self._settled, len(self._nodes), self._calls))

    def _texts_and_keys(self, places: Sequence[int]) -> tuple[list[str], list[bytes]]:
        texts = [node.embedded_text for node in self._nodes.read(places)]
        return texts, cache_keys(self._embedder.identity, self._dimensions, "document", texts)

    async def _look_up_all(self) -> None:
        for start in range(0, len(self._nodes), _WINDOW):
            window = range(start, min(start + _WINDOW, len(self._nodes)))
            found = await in_thread(self._look_up, window)
            if self._errors or self._stopped:
                return
            self._failed.update(found.failed)
            self._twins.update(found.twins)
            self._backlog.add(found.to_ask)
            if len(self._texts) < _TEXTS_AT_HAND:
                self._texts.update(found.texts)
            self._tell(found.settled)
            self._moved.set()
        self._first.clear()
        self._backlog.closed = True

    def _look_up(self, window: range) -> _LookedUp:
        """Puts known vectors into their rows; measures the texts of the others."""
        texts, keys = self._texts_and_keys(window)
        known = {key: row for key, row in self._cache.get(keys).items() if row.any()}
        for length in {len(row) for row in known.values()}:
            self._rows.of_length(length)
        found = _LookedUp(0, {}, Sizes(), {}, {})
        here = [place for place, key in zip(window, keys, strict=True) if key in known]
        if here:
            vectors = np.stack([known[key] for key in keys if key in known])
            self._rows.of_length(vectors.shape[1])[here] = vectors
        for place, key, text in zip(window, keys, texts, strict=True):
            if key in known:
                continue
            if (reason := self._failed_texts.reason(key)) is not None:
                found.failed[place] = reason
            elif (first := self._first.setdefault(key, place)) != place:
                found.twins[place] = first
            else:
                found.to_ask.add(place, text)
                found.texts[place] = (text, key)
        return replace(found, settled=len(here) + len(found.failed))

    async def _fill(self) -> None:
        """Begins as many batches as there is room for."""
        while not self._errors:
            slots = max(1, self._embedder.concurrency)
            room = slots + _SPARE
            if len(self._asks) >= room or self._unkept >= room:
                return
            places = await self._backlog.take(slots, self._embedder.batch_limits)
            if not places:
                return
            self._asks.add(self._begin(self._ask(places)))

    async def _ask(self, places: Sequence[int]) -> None:
        at_hand = [self._texts.pop(place) for place in places if place in self._texts]
        if len(at_hand) == len(places):
            texts, keys = map(list, zip(*at_hand, strict=True))
        else:
            async with self._reader:  # side by side they would only hold up each other
                texts, keys = await in_thread(self._texts_and_keys, places)
        embedded = await self._embedder.embed_documents(texts)
        self._calls += embedded.calls
        if len(embedded.failed) < len(texts):
            self._rows.of_length(embedded.matrix.shape[1])  # before it is kept
        self._failed.update({places[bad]: reason for bad, reason in embedded.failed.items()})
        self._replies.append(_Reply(places, keys, embedded))
        self._unkept += 1
        if not self._keeping:
            self._keeping = True
            self._begin(self._keep())

    async def _keep(self) -> None:
        """Keeps replies; those that come in during one transaction share the next."""
        try:
            while self._replies:
                replies, self._replies = self._replies, []
                kept = await in_thread(self._store, replies)
                self._unkept -= len(replies)
                self._embedded += kept
                self._moved.set()
                self._tell(sum(len(reply.places) for reply in replies))
                if self._asks and not self._replies:
                    await in_thread(self._write_behind)
        finally:
            self._keeping = False

    def _write_behind(self) -> None:
        """Has the disk do, while others are waited for, what would have to be done at the end."""
        self._rows.flush()
        self._cache.tidy()

    def _store(self, replies: Sequence[_Reply]) -> int:
        """Writes replies into the cache, then into the rows; how many vectors that was."""
        new = _Transaction()
        for reply in replies:
            failed = reply.embedded.failed
            good = [place for place in range(len(reply.places)) if place not in failed]
            new.failed.update({reply.keys[bad]: reason for bad, reason in failed.items()})
            if good:
                new.places += [reply.places[place] for place in good]
                new.keys += [reply.keys[place] for place in good]
                new.parts.append(reply.embedded.matrix[good] if failed else reply.embedded.matrix)
        if new.keys:
            matrix = np.concatenate(new.parts)
            self._cache.put(new.keys, matrix)
            self._rows.of_length(matrix.shape[1])[new.places] = matrix
        if new.failed:
            self._failed_texts.add(new.failed)
        return len(new.keys)

    def _settle_twins(self) -> None:
        """Gives nodes of equal texts what the first of them got."""
        rows = self._rows.array
        for place, first in self._twins.items():
            rows[place] = rows[first]
            if first in self._failed:
                self._failed[place] = self._failed[first]
