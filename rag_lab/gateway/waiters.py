"""Callers that wait their turn: interactive before bulk, first come first served within each.

Nothing is bound to an event loop: each waiter carries the loop it waits in. A waiter whose loop
was closed is dropped; one whose loop stands still (between two notebook cells) keeps its place
and is passed over.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Literal, get_args

Priority = Literal["interactive", "bulk"]
_PRIORITIES: tuple[Priority, ...] = get_args(Priority)

BULK_SHARE = 8
"""Every eighth turn goes to bulk work that waits, so a stream of queries cannot starve it."""


class Waiter:
    """One caller that waits in the loop it was made in; for how much, where that matters."""

    __slots__ = ("_future", "granted", "loop", "priority", "requests", "tokens")

    def __init__(self, priority: Priority, requests: float, tokens: float) -> None:
        self.loop = asyncio.get_running_loop()
        self.priority = priority
        self.requests = requests
        self.tokens = tokens
        self.granted = False
        self._future: asyncio.Future[None] = self.loop.create_future()

    @property
    def gone(self) -> bool:
        """Its loop is closed, or its task was cancelled and has not come round to say so."""
        return self.loop.is_closed() or self._future.cancelled()

    @property
    def asleep(self) -> bool:
        """Its loop is not running: it could not use a turn."""
        return not self.loop.is_running()

    def grant(self) -> None:
        """Ends the wait; the caller that is granted owns what it waited for."""
        self.granted = True
        if _running_loop() is self.loop:
            self._settle()
        else:
            self.loop.call_soon_threadsafe(self._settle)

    def _settle(self) -> None:
        if not self._future.done():
            self._future.set_result(None)

    async def wait(self) -> None:
        """Returns once granted. If cancelled, look at `granted`: what was given must go back."""
        await self._future


class WaitingLine:
    """The waiters of one resource, in the order in which they are served."""

    def __init__(self) -> None:
        self._lines: dict[Priority, deque[Waiter]] = {name: deque() for name in _PRIORITIES}
        self._since_bulk = 0

    def __len__(self) -> int:
        return sum(not waiter.gone for line in self._lines.values() for waiter in line)

    def join(self, priority: Priority, *, requests: float = 1.0, tokens: float = 0.0) -> Waiter:
        """Puts the caller at the end of its line."""
        waiter = Waiter(priority, requests, tokens)
        self._lines[priority].append(waiter)
        return waiter

    def leave(self, waiter: Waiter) -> None:
        """Takes a waiter out, wherever it stands."""
        if not waiter.granted and waiter in self._lines[waiter.priority]:
            self._lines[waiter.priority].remove(waiter)

    def first(self) -> Waiter | None:
        """Whose turn it is; the same waiter until it is served or leaves, or a better one joins."""
        bulk = self._first_of("bulk")
        if bulk is not None and self._since_bulk >= BULK_SHARE - 1:
            return bulk
        return self._first_of("interactive") or bulk

    def serve(self, waiter: Waiter) -> None:
        """Takes the waiter out and ends its wait."""
        self._since_bulk = 0 if waiter.priority == "bulk" else self._since_bulk + 1
        self.leave(waiter)
        waiter.grant()

    def _first_of(self, priority: Priority) -> Waiter | None:
        line = self._lines[priority]
        while line and line[0].gone:
            line.popleft()
        for waiter in line:
            if not (waiter.gone or waiter.asleep):
                return waiter
        return None


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
