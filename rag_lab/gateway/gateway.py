"""The one way to remote models: every embedding and chat call goes through a `Gateway`.

From outside to inside, each for a reason:

    cache           what was paid for once is never asked again; so it comes before all else
    single flight   what is being asked already is waited for, not asked twice
    batch           questions that wait for a slot ride together; known work is cut beforehand
    retry … call    one request: see `lane.py`, which holds that order
"""

from __future__ import annotations

import asyncio
import logging
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np

from rag_lab.errors import ModelError, ProviderError
from rag_lab.gateway.batch import Batcher
from rag_lab.gateway.cache import (
    ANSWERS_FILE,
    VECTORS_FILE,
    AnswerCache,
    InputKind,
    VectorCache,
    answer_key,
    cache_key,
)
from rag_lab.gateway.call import CallSettings, Endpoint
from rag_lab.gateway.chat import ChatModel, Message
from rag_lab.gateway.embedded import Embedded
from rag_lab.gateway.embedding import EmbeddingModel, Ridden
from rag_lab.gateway.explain import Purpose, host_of
from rag_lab.gateway.flight import SingleFlight
from rag_lab.gateway.lane import Lane
from rag_lab.gateway.loops import PerLoop
from rag_lab.gateway.plan import BatchLimits, estimated_tokens, plan_batches
from rag_lab.gateway.reply import ChatReply
from rag_lab.gateway.waiters import Priority
from rag_lab.records import Usage
from rag_lab.settings import GatewaySettings
from rag_lab.telemetry import Health, LoopLag, health_of
from rag_lab.telemetry.trace import Trace, ride, spend

_LOOKUPS = 500

C = TypeVar("C", VectorCache, AnswerCache)
T = TypeVar("T")
_log = logging.getLogger(__name__)


class Gateway:
    """Remote models at the speed of their providers.

    It belongs to no event loop: every cell run and every test may bring its own.

    Args:
        settings: how models are called; the defaults need no tuning.
        cache_folder: where vectors and answers are kept; None: they are not.

    Attributes:
        lanes: what is known of each provider and model, by name.
    """

    def __init__(
        self, settings: GatewaySettings | None = None, cache_folder: Path | None = None
    ) -> None:
        self.settings = settings or GatewaySettings()
        self.lanes: dict[str, Lane] = {}
        self._cache_hits = 0
        self._vectors = _OnFirstUse(VectorCache, cache_folder and cache_folder / VECTORS_FILE)
        self._answers = _OnFirstUse(AnswerCache, cache_folder and cache_folder / ANSWERS_FILE)
        self._queries: SingleFlight[bytes, Ridden] = SingleFlight()
        self._chats: SingleFlight[bytes, tuple[ChatReply, Trace]] = SingleFlight()
        self._turns: PerLoop[asyncio.Lock] = PerLoop(asyncio.Lock)
        self._lookups: Batcher[bytes, np.ndarray | None] = Batcher(
            self._look_up, self._turn, BatchLimits(items=_LOOKUPS)
        )
        self._unkept: PerLoop[_Unkept] = PerLoop(_Unkept)
        self._asked: PerLoop[dict[bytes, asyncio.Future[np.ndarray | str]]] = PerLoop(dict)

    def lane(self, endpoint: Endpoint, purpose: Purpose) -> Lane:
        """What all calls to this provider and model share.

        Embeddings and answers never do, were their models called the same: one limit for calls of
        such different length would fit neither.
        """
        name = f"{purpose} model {endpoint.model} at {host_of(endpoint.base_url)}"
        # Two threads may ask at once: whoever comes second takes the lane of the first.
        return self.lanes.get(name) or self.lanes.setdefault(name, Lane(name, self.settings))

    def embedding_model(
        self,
        endpoint: Endpoint,
        limits: BatchLimits | None = None,
        settings: CallSettings | None = None,
    ) -> EmbeddingModel:
        """An embedding model to ask through this gateway."""
        price = self.settings.prices.get(endpoint.model)
        return EmbeddingModel(
            endpoint,
            self.lane(endpoint, "embedding"),
            settings or CallSettings(),
            limits or BatchLimits(),
            price,
        )

    def chat_model(self, endpoint: Endpoint, settings: CallSettings | None = None) -> ChatModel:
        """A chat model to ask through this gateway."""
        price = self.settings.prices.get(endpoint.model)
        return ChatModel(endpoint, self.lane(endpoint, "chat"), settings or CallSettings(), price)

    @property
    def usage(self) -> Usage:
        """Everything that was used through this gateway; shared calls count once."""
        return sum((lane.usage for lane in self.lanes.values()), Usage(cache_hits=self._cache_hits))

    def health(self, loop: LoopLag | None = None) -> Health:
        """Whether the providers, and the event loop if given, are well, and what to do if not."""
        return health_of([lane.figures() for lane in self.lanes.values()], loop)

    async def embed_query(self, model: EmbeddingModel, text: str) -> np.ndarray:
        """The vector of a question, float32 of shape (dimensions,).

        Raises:
            ModelError: it was refused; `ProviderError`: the provider fails for now.
        """
        key = self._key(model, "query", text)
        known = await self._lookups.submit(key) if self.settings.cache_queries else None
        if known is not None:
            self._hit(1)
            return known

        async def ask() -> Ridden:
            ridden = await model.one(text)
            if self.settings.cache_queries:
                self._keep_soon(key, ridden.vector)
            return ridden

        ridden = await self._queries.run(key, ask)
        ride(ridden.trace, 1 / ridden.company)
        return ridden.vector

    async def embed_batch(self, model: EmbeddingModel, texts: Sequence[str]) -> Embedded:
        """The vectors of a batch of documents that its caller has looked up and cut.

        Raises:
            ModelError: nothing can be embedded now; see `EmbeddingModel.batch`.
        """
        return await model.batch(texts)

    async def embed(self, model: EmbeddingModel, texts: Sequence[str]) -> Embedded:
        """The vectors of any number of documents: looked up, cut into batches, kept.

        Raises:
            ModelError: nothing can be embedded now; what was answered is kept.
        """
        if not texts:
            return Embedded(np.zeros((0, 0), np.float32), calls=0)
        keys = [self._key(model, "document", text) for text in texts]
        wanted = dict(zip(keys, texts, strict=True))
        found: dict[bytes, np.ndarray | str] = {**await self._known(list(wanted))}
        self._hit(sum(key in found for key in keys))
        calls = 0
        while missing := {key: text for key, text in wanted.items() if key not in found}:
            asked = self._asked.get()
            others = {key: asked[key] for key in missing if key in asked}
            ours = {key: text for key, text in missing.items() if key not in others}
            if ours:
                calls += await self._embed_missing(model, ours, found)
            for key, future in others.items():
                await asyncio.wait([future])
                if not future.cancelled():  # whoever asked may have been stopped
                    found[key] = future.result()
        return await asyncio.to_thread(Embedded.of, [found[key] for key in keys], calls)

    async def _embed_missing(
        self, model: EmbeddingModel, texts: Mapping[bytes, str], found: dict[bytes, Any]
    ) -> int:
        """Asks for texts nobody asks for yet; returns the calls it took."""
        loop, asked = asyncio.get_running_loop(), self._asked.get()
        futures = {key: loop.create_future() for key in texts}
        asked.update(futures)
        calls = 0

        async def ask(keys: Sequence[bytes]) -> None:
            nonlocal calls
            try:
                embedded = await model.batch([texts[key] for key in keys])
            except ModelError as error:
                if not isinstance(error, ProviderError):  # what is refused here is so everywhere
                    for task in set(tasks) - {asyncio.current_task()}:
                        task.cancel()
                raise
            calls += embedded.calls
            rows = {
                key: embedded.failed.get(place, embedded.matrix[place])
                for place, key in enumerate(keys)
            }
            good = {key: row for key, row in rows.items() if not isinstance(row, str)}
            if good:
                await self._put(good)
            for key, row in rows.items():
                found[key] = row
                futures[key].set_result(row)

        wanted = list(texts)
        ranges = plan_batches(
            [estimated_tokens(texts[key]) for key in wanted],
            slots=model.lane.limiter.limit,
            limits=model.limits,
            size_bytes=[len(texts[key].encode("utf-8", "surrogatepass")) for key in wanted],
        )
        tasks = [asyncio.create_task(ask(wanted[part.start : part.stop])) for part in ranges]
        try:
            # The others come in before an error is raised: what is paid for is kept.
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            for key, future in futures.items():
                future.cancel()
                asked.pop(key, None)
        for outcome in outcomes:
            if isinstance(outcome, Exception):
                raise outcome
        return calls

    async def chat(
        self,
        model: ChatModel,
        messages: Sequence[Message],
        options: Mapping[str, Any] | None = None,
        *,
        repeat: int | None = None,
    ) -> ChatReply:
        """One answer.

        Args:
            model: of `chat_model`.
            messages: `{"role": …, "content": …}` each.
            options: of the request, e.g. `{"temperature": 0, "max_tokens": 256}`.
            repeat: if given, the answer is kept under this number, and asked for only once. Other
                numbers are other answers: repeats are real. Without it nothing is kept.

        Raises:
            ModelError: it was refused; `ProviderError`: the provider fails for now.
        """
        chosen = dict(options or {})
        if repeat is None:
            trace = Trace()
            try:
                return await model.answer(messages, chosen, trace)
            finally:
                ride(trace)
        key = answer_key(model.endpoint.identity, messages, chosen, repeat)
        known = await asyncio.to_thread(self._answers.call, AnswerCache.get, key)
        if known is not None:
            self._hit(1)
            return ChatReply(**known)

        async def ask() -> tuple[ChatReply, Trace]:
            trace = Trace()
            reply = await model.answer(messages, chosen, trace)
            kept = asdict(replace(reply, headers={}))
            await asyncio.to_thread(self._answers.call, AnswerCache.put, key, kept)
            return reply, trace

        reply, trace = await self._chats.run(key, ask)
        ride(trace)
        return reply

    async def aclose(self) -> None:
        """Closes the caches; connections are closed with their event loop."""
        await asyncio.gather(*self._unkept.get().tasks)
        self.close()

    def close(self) -> None:
        """Closes the caches; the next call opens them again."""
        self._vectors.close()
        self._answers.close()

    def _key(self, model: EmbeddingModel, kind: InputKind, text: str) -> bytes:
        return cache_key(model.endpoint.identity, model.endpoint.dimensions, kind, text)

    def _hit(self, count: int) -> None:
        if count:
            self._cache_hits += count
            spend(Usage(cache_hits=count))

    @asynccontextmanager
    async def _turn(self, _: Priority) -> AsyncIterator[None]:
        async with self._turns.get():
            yield

    async def _look_up(self, keys: list[bytes]) -> Sequence[np.ndarray | None]:
        """Many questions' vectors in one read."""
        found = await self._known(keys)
        return [found.get(key) for key in keys]

    async def _known(self, keys: list[bytes]) -> dict[bytes, np.ndarray]:
        return await asyncio.to_thread(self._vectors.call, VectorCache.get, keys) or {}

    async def _put(self, rows: Mapping[bytes, np.ndarray]) -> None:
        await asyncio.to_thread(self._vectors.call, VectorCache.put, list(rows), [*rows.values()])

    def _keep_soon(self, key: bytes, vector: np.ndarray) -> None:
        """Keeps a question's vector without making anybody wait; many go in one write."""
        unkept = self._unkept.get()
        unkept.rows[key] = vector
        if not unkept.tasks:
            task = asyncio.create_task(self._keep(unkept.rows))
            unkept.tasks.add(task)
            task.add_done_callback(unkept.tasks.discard)

    async def _keep(self, rows: dict[bytes, np.ndarray]) -> None:
        while rows:
            some = dict(rows)
            rows.clear()
            try:
                await self._put(some)
            except ModelError as error:  # the answers do not depend on it
                _log.warning("questions' vectors are not kept: %s", error)

    def __repr__(self) -> str:
        return f"Gateway({', '.join(self.lanes) or 'no model called yet'})"


class _Unkept:
    """Questions' vectors of one event loop that are to be kept, and the task that does it."""

    def __init__(self) -> None:
        self.rows: dict[bytes, np.ndarray] = {}
        self.tasks: set[asyncio.Task[None]] = set()


class _OnFirstUse(Generic[C]):
    """A cache that is opened when it is first used, and closed when nobody can use it any more."""

    def __init__(self, make: Callable[[Path], C], path: Path | None) -> None:
        self._make: Callable[[Path], C] = make
        self._path = path
        self._lock = threading.Lock()
        self._cache: C | None = None
        self._closed_with_us: weakref.finalize[..., Any] | None = None

    def call(self, method: Callable[..., T], *args: Any) -> T | None:
        """Calls a method of the cache; None if there is none. Blocks: use a thread."""
        if self._path is None:
            return None
        with self._lock:  # for the whole call: nobody may close the file meanwhile
            if self._cache is None:
                self._cache = self._make(self._path)
                self._closed_with_us = weakref.finalize(self, self._cache.close)
            return method(self._cache, *args)

    def close(self) -> None:
        """Closes it, if it was opened."""
        with self._lock:
            if self._closed_with_us is not None:
                self._closed_with_us()
            self._cache = self._closed_with_us = None
