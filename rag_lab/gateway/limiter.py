"""The limit on calls in flight for one provider and model, as an `async with`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from rag_lab.gateway.concurrency import Concurrency
from rag_lab.gateway.rounds import Call, End, LimitChange, LimiterSettings, Phase
from rag_lab.gateway.waiters import Priority, Waiter, WaitingLine

__all__ = ["AdaptiveLimiter", "LimitChange", "LimiterSettings", "LimiterSnapshot", "Slot"]


@dataclass(frozen=True, slots=True)
class LimiterSnapshot:
    """The limiter at one moment."""

    limit: int
    in_flight: int
    waiting: int
    phase: Phase
    items_per_s: float
    """What the limit earned when it was last used up; 0 if it never was."""
    reason: str
    """Why the limit is what it is."""


class Slot:
    """The right to one call. Say how the call ended; who says nothing has learned nothing."""

    __slots__ = ("_call", "_core", "_freed", "_open", "waited_s")

    def __init__(self, core: Concurrency, freed: Callable[[], None]) -> None:
        self._core = core
        self._freed = freed
        self._call: Call = core.begin()
        self._open = True
        self.waited_s = 0.0
        """Seconds from asking for the slot to having it."""

    def succeeded(self, latency_s: float | None = None, items: int = 1) -> None:
        """The call brought `items` texts or answers. Latency: since the slot, if not given."""
        self._end("ok", latency_s, items)

    def throttled(self, retry_after_s: float = 0.0) -> None:
        """The provider answered 429."""
        self._end("throttled", retry_after_s=retry_after_s)

    def timed_out(self) -> None:
        """No answer came in time."""
        self._end("timed_out")

    def failed(self) -> None:
        """The provider failed (5xx) or could not be reached."""
        self._end("failed")

    def give_back(self) -> None:
        """Frees the slot, if that has not been done; the call says nothing about the provider."""
        if self._open:
            self._open = False
            self._core.drop(self._call)
            self._freed()

    def _end(
        self,
        end: End,
        latency_s: float | None = None,
        items: int = 1,
        retry_after_s: float = 0.0,
    ) -> None:
        if self._open:
            self._open = False
            self._core.end(self._call, end, latency_s, items, retry_after_s)
            self._freed()


class AdaptiveLimiter:
    """Slots for calls, as many as are worth it; `Concurrency` says how that is found out.

    It belongs to no event loop. Slots and waiters of a loop that was closed are dropped.
    """

    def __init__(
        self,
        settings: LimiterSettings | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._core = Concurrency(settings or LimiterSettings(), clock)
        self._clock = clock
        self._line = WaitingLine()
        self._granted: dict[Waiter, Slot] = {}
        self._held: dict[asyncio.AbstractEventLoop, set[Slot]] = {}

    @property
    def limit(self) -> int:
        """Calls that may be in flight at once."""
        return self._core.limit

    @property
    def in_flight(self) -> int:
        """Slots that are taken."""
        return self._core.in_flight

    @property
    def waiting(self) -> int:
        """Callers that wait for a slot."""
        return len(self._line)

    @property
    def history(self) -> Sequence[LimitChange]:
        """Every change of the limit with its time and reason, oldest first."""
        return tuple(self._core.history)

    def fix(self, limit: int) -> None:
        """Holds the limit at this number until `adapt`; calls in flight are not disturbed.

        Raises:
            SettingsError: the number is below 1 or above the maximum.
        """
        self._core.fix(limit)
        self._admit()

    def adapt(self) -> None:
        """Lets the limit find its own way again."""
        self._core.adapt()

    def snapshot(self) -> LimiterSnapshot:
        """The figures of this moment."""
        core = self._core
        return LimiterSnapshot(
            limit=core.limit,
            in_flight=core.in_flight,
            waiting=self.waiting,
            phase=core.phase,
            items_per_s=core.last.goodput if core.last else 0.0,
            reason=core.history[-1].reason,
        )

    @asynccontextmanager
    async def slot(self, *, priority: Priority = "bulk") -> AsyncIterator[Slot]:
        """Waits for a slot and holds it inside the block.

        Interactive callers go first, yet every eighth slot goes to bulk work that waits. The slot
        is free again as soon as the outcome is told, at the latest at the end of the block.
        """
        asked = self._clock()
        waiter = self._line.join(priority)
        slot: Slot | None = None
        try:
            self._admit()
            await waiter.wait()
            slot = self._granted.pop(waiter)
            slot.waited_s = self._clock() - asked
            yield slot
        finally:
            self._line.leave(waiter)
            slot = slot or self._granted.pop(waiter, None)
            if slot is not None:
                self._held.get(waiter.loop, set()).discard(slot)
                slot.give_back()

    def _admit(self) -> None:
        """Serves who waits, as far as there are slots."""
        for loop in [loop for loop in self._held if loop.is_closed()]:
            for lost in [waiter for waiter in self._granted if waiter.loop is loop]:
                del self._granted[lost]
            for slot in self._held.pop(loop):
                slot.give_back()
        while self._core.in_flight < self._core.limit and (waiter := self._line.first()):
            slot = Slot(self._core, self._admit)
            self._granted[waiter] = slot
            self._held.setdefault(waiter.loop, set()).add(slot)
            self._line.serve(waiter)
