"""Single flight: what is being asked already is not asked again.

The work runs in a task of its own, so that it belongs to all who wait for it and to none of
them: it ends when it is done, or when the last of them has gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

from rag_lab.gateway.loops import PerLoop

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class _Flight(Generic[V]):
    """One piece of work and who waits for it."""

    __slots__ = ("task", "waiters")

    def __init__(self, task: asyncio.Task[V]) -> None:
        self.task = task
        self.waiters: set[asyncio.Future[None]] = set()

    def land(self, task: asyncio.Task[V]) -> None:
        """Wakes everyone; each then reads the outcome from the task."""
        if not task.cancelled():
            task.exception()  # looked at: a failure nobody waits for any more is no warning
        for waiter in self.waiters:
            if not waiter.done():
                waiter.set_result(None)


class SingleFlight(Generic[K, V]):
    """Asks for the same key once, however many want it at the same time.

    The work of a key runs in the context (`contextvars`) of the caller who began it. Callers in
    different event loops do not share.

    Attributes:
        started: how often work was begun.
        shared: how often a caller joined work that was under way.
    """

    def __init__(self) -> None:
        self.started = 0
        self.shared = 0
        self._flights: PerLoop[dict[K, _Flight[V]]] = PerLoop(dict)

    async def run(self, key: K, factory: Callable[[], Awaitable[V]]) -> V:
        """The value for the key, from work under way or else from `factory()`.

        Cancelling one caller leaves the others waiting; cancelling the last cancels the work.

        Raises:
            Exception: what the work raised, the same for every caller.
            asyncio.CancelledError: this caller was cancelled, or the work was from outside.
        """
        flights = self._flights.get()
        flight = flights.get(key)
        if flight is None or flight.task.done():
            flight = flights[key] = self._start(key, factory, flights)
            self.started += 1
        else:
            self.shared += 1
        waiter = asyncio.get_running_loop().create_future()
        flight.waiters.add(waiter)
        try:
            await waiter
        finally:
            flight.waiters.discard(waiter)
            if not flight.waiters and not flight.task.done():
                _forget(flights, key, flight)
                flight.task.cancel()
        return flight.task.result()

    def _start(
        self, key: K, factory: Callable[[], Awaitable[V]], flights: dict[K, _Flight[V]]
    ) -> _Flight[V]:
        async def work() -> V:
            return await factory()

        flight = _Flight(asyncio.get_running_loop().create_task(work()))

        def landed(task: asyncio.Task[V]) -> None:
            _forget(flights, key, flight)
            flight.land(task)

        flight.task.add_done_callback(landed)
        return flight

    @property
    def in_flight(self) -> int:
        """Keys that are being asked now."""
        return sum(map(len, self._flights.all()))

    def __repr__(self) -> str:
        return f"SingleFlight(started={self.started}, shared={self.shared})"


def _forget(flights: dict[K, _Flight[V]], key: K, flight: _Flight[V]) -> None:
    if flights.get(key) is flight:  # a later flight may have taken the key
        del flights[key]
