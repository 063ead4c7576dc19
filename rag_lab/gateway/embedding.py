"""An embedding model behind its lane: questions ride together, known work goes as it was cut."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import numpy as np

from rag_lab.errors import ModelError, ProviderError
from rag_lab.gateway.batch import Batcher
from rag_lab.gateway.breaker import ProviderFailingError
from rag_lab.gateway.call import CallSettings, EmbeddingCall, Endpoint
from rag_lab.gateway.embedded import Embedded
from rag_lab.gateway.explain import explained
from rag_lab.gateway.lane import Ask, Lane, Ticket
from rag_lab.gateway.outcomes import classify
from rag_lab.gateway.plan import BatchLimits, estimated_tokens
from rag_lab.gateway.rejected import Verdict, bisect_rejected, verdict_of
from rag_lab.gateway.reply import EmbeddingReply, ReplyValueError
from rag_lab.gateway.waiters import Priority
from rag_lab.records import Usage
from rag_lab.settings import Price
from rag_lab.telemetry.trace import Trace, spend

Row = np.ndarray | Exception

PROBE = "A short and harmless sentence."
_VALUE_TRIES = 3
_BULK_ATTEMPTS = 2
_SUSPECT_AFTER = 5
_GUILTY_AFTER = 2
_MOST_FAILURES = 100
_LONGEST_WAIT_S = 2.0
_ticket: ContextVar[Ticket] = ContextVar("rag_lab_ticket")


@dataclass(frozen=True, slots=True)
class Ridden:
    """A text's vector, and the call that it shared with `company` texts."""

    vector: np.ndarray
    trace: Trace
    company: int


@dataclass(frozen=True, slots=True)
class _Usable:
    """A reply and, if some of its rows are not usable, which."""

    reply: EmbeddingReply
    error: ReplyValueError | None = None

    @property
    def headers(self) -> Mapping[str, str]:
        return self.reply.headers

    @property
    def decode_s(self) -> float:
        return self.reply.decode_s


class EmbeddingModel:
    """One embedding model at one provider.

    Args:
        endpoint: which model, and where.
        lane: what its calls share.
        settings: how a call is made.
        limits: what one call may hold.
        price: for `Usage.cost_usd`; None if unknown.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        lane: Lane,
        settings: CallSettings,
        limits: BatchLimits,
        price: Price | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.lane = lane
        self.limits = limits
        self.price = price
        self._call = EmbeddingCall(endpoint, settings)
        self._batcher: Batcher[str, Ridden] = Batcher(self._ride, self._admit, limits)

    async def one(self, text: str) -> Ridden:
        """The vector of a text that somebody waits for; it rides with whatever else does.

        Raises:
            ModelError: it was refused, or the provider failed (`ProviderError`).
        """
        try:
            return await self._batcher.submit(
                text,
                tokens=estimated_tokens(text),
                size_bytes=len(text.encode("utf-8", "surrogatepass")),
                priority="interactive",
            )
        except Exception as error:
            raise explained(error, "embedding", self.endpoint) from None

    async def batch(self, texts: Sequence[str]) -> Embedded:
        """The vectors of a batch of bulk work, however long the provider takes to recover.

        Raises:
            ModelError: the request cannot succeed (a wrong key, an unknown model).
            ProviderError: the provider has answered nothing for `ingest_patience_s`.
        """
        trace = Trace()
        try:
            rows = await _Bulk(self, list(texts), trace).run()
        finally:
            spend(trace.usage)
        return Embedded.of(rows, trace.usage.calls)

    @asynccontextmanager
    async def _admit(self, priority: Priority) -> AsyncIterator[None]:
        """A slot for the batcher: the batch is formed once there is one."""
        async with self.lane.admit(priority) as ticket:
            token = _ticket.set(ticket)
            try:
                yield
            finally:
                _ticket.reset(token)

    async def _ride(self, texts: list[str]) -> Sequence[Ridden | Exception]:
        trace = Trace()
        rows = await self.embed(texts, "interactive", trace, ticket=_ticket.get())
        return [
            row if isinstance(row, Exception) else Ridden(row, trace, len(texts)) for row in rows
        ]

    async def embed(
        self, texts: list[str], priority: Priority, trace: Trace, *, ticket: Ticket | None = None
    ) -> list[Row]:
        """A row for each text, or why there is none; refused texts are found and left out."""

        # Bulk work is put back and waits for better weather: many tries in a row are no use.
        attempts = _BULK_ATTEMPTS if priority == "bulk" else None

        async def ask(some: list[str]) -> list[Row]:
            nonlocal ticket
            held, ticket = ticket, None
            try:
                return await self.complete(some, priority, trace, ticket=held, attempts=attempts)
            finally:
                if held is not None:
                    held.slot.give_back()  # if nothing was sent, its own parts would wait for it

        return await bisect_rejected(ask, texts, probe=PROBE)

    async def complete(
        self,
        texts: list[str],
        priority: Priority,
        trace: Trace,
        *,
        ticket: Ticket | None = None,
        attempts: int | None = None,
    ) -> list[Row]:
        """Asks until every row is usable; what is not after three tries stays an error."""
        rows: dict[int, Row] = {}
        places = list(range(len(texts)))
        for tried in range(_VALUE_TRIES):
            some = [texts[place] for place in places]
            answer = await self._request(some, priority, trace, ticket, attempts)
            rows.update(zip(places, answer.reply.matrix, strict=True))
            if answer.error is None:
                break
            ticket = None
            places = [places[bad] for bad in answer.error.places]
            rows.update(dict.fromkeys(places, answer.error))
            if tried < _VALUE_TRIES - 1:
                self.lane.spend(trace, Usage(retries=1))
        return [rows[place] for place in range(len(texts))]

    async def _request(
        self,
        texts: list[str],
        priority: Priority,
        trace: Trace,
        ticket: Ticket | None,
        attempts: int | None,
    ) -> _Usable:
        await self._call.connect()  # before a place in the budget is taken
        estimated = float(sum(map(estimated_tokens, texts)))
        settings = self.lane.settings
        answer = await self.lane.request(
            lambda: self._usable(texts),
            Ask(("embedding", priority), priority, estimated, len(texts), settings.hedge),
            trace,
            patience_s=settings.question_patience_s,
            attempts=attempts,
            ticket=ticket,
        )
        counted = answer.reply.tokens
        self.lane.counted(estimated, counted)
        tokens = round(estimated) if counted is None else counted
        cost = None if self.price is None else tokens * self.price.input / 1e6
        self.lane.spend(
            trace, Usage(calls=1, texts=len(texts), prompt_tokens=tokens, cost_usd=cost)
        )
        return answer

    async def _usable(self, texts: list[str]) -> _Usable:
        try:
            return _Usable(await self._call(texts))
        except ReplyValueError as error:
            return _Usable(error.reply, error)

    async def aclose(self) -> None:
        """Closes the connections of the running loop."""
        await self._call.aclose()


class _Bulk:
    """A batch of bulk work, put back and asked for again for as long as the provider fails."""

    def __init__(self, model: EmbeddingModel, texts: list[str], trace: Trace) -> None:
        self._model = model
        self._lane = model.lane
        self._texts = texts
        self._trace = trace
        self._began = time.monotonic()
        self._failures = 0
        self._guilty = 0

    async def run(self) -> list[np.ndarray | str]:
        """A row for each text, or why there is none."""
        rows: dict[int, np.ndarray | str] = {}
        left = list(range(len(self._texts)))
        while True:
            error: ProviderError | None = None
            for place, row in zip(left, await self._round(left), strict=True):
                if not isinstance(row, Exception):
                    rows[place] = row
                elif isinstance(known := self._explained(row), ProviderError):
                    error = known
                else:
                    rows[place] = str(known)
            left = [place for place in left if place not in rows]
            if error is None:
                return [rows[place] for place in range(len(self._texts))]
            await self._wait(error)

    async def _round(self, places: list[int]) -> list[Row]:
        texts = [self._texts[place] for place in places]
        well = False
        try:
            if self._failures >= _SUSPECT_AFTER:
                await self._model.complete([PROBE], "bulk", self._trace, attempts=1)
                well = True
            if self._guilty >= _GUILTY_AFTER:
                return await self._find_culprit(texts)
            return await self._model.embed(texts, "bulk", self._trace)
        except Exception as error:
            known = self._explained(error)
            if not isinstance(known, ProviderError):
                raise known from None
            # Something harmless is answered and this is not: one of its texts may be to blame.
            self._guilty += well
            return [known] * len(texts)

    async def _find_culprit(self, texts: list[str]) -> list[Row]:
        """Looks for texts that make the server fail, as if they had been refused."""

        async def ask(some: list[str]) -> list[Row]:
            await self._lane.breaker.wait_until_not_failing(self._give_up_at)
            return await self._model.complete(some, "bulk", self._trace, attempts=1)

        rows = await bisect_rejected(
            ask,
            texts,
            verdict=_verdict_on_suspects,
            probe=PROBE,
            known=_SuspectError(),
        )
        await ask([PROBE])  # it fails where the provider is to blame; then nothing was found out
        return [
            ModelError("the provider fails each time it is asked for this text, and for no other.")
            if isinstance(row, Exception) and _verdict_on_suspects(row) == "rejected"
            else row
            for row in rows
        ]

    async def _wait(self, error: ProviderError) -> None:
        """Until it makes sense to ask again; a breaker that lets nothing through says when."""
        if time.monotonic() > self._give_up_at or self._failures >= _MOST_FAILURES:
            raise error
        if not isinstance(error, ProviderFailingError):
            self._failures += 1
            if self._lane.breaker.state == "working":
                longest = min(_LONGEST_WAIT_S, 0.1 * 2.0**self._failures)
                await asyncio.sleep(random.uniform(0.5, 1.0) * longest)
        await self._lane.breaker.wait_until_not_failing(self._give_up_at)

    @property
    def _give_up_at(self) -> float:
        last = max(self._began, self._lane.last_answer_at)
        return last + self._lane.settings.ingest_patience_s

    def _explained(self, error: Exception) -> ModelError:
        return explained(error, "embedding", self._model.endpoint)


class _SuspectError(ModelError):
    """A batch failed again and again."""


def _verdict_on_suspects(error: Exception) -> Verdict:
    if classify(error).provider_failed or isinstance(error, _SuspectError):
        return "rejected"
    return verdict_of(error)
