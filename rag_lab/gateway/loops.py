"""State that belongs to an event loop, kept for objects that outlive loops.

Every notebook cell run and every test may bring a loop of its own. What holds futures, tasks or
connections keeps them here: made on first use in a loop, forgotten once that loop is closed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from threading import Lock
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary

S = TypeVar("S")


class PerLoop(Generic[S]):
    """One state a running event loop.

    Args:
        make: builds the state; called inside the loop it is for.
    """

    def __init__(self, make: Callable[[], S]) -> None:
        self._make = make
        self._states: WeakKeyDictionary[asyncio.AbstractEventLoop, S] = WeakKeyDictionary()
        self._lock = Lock()  # two threads may run a loop each

    def get(self) -> S:
        """The state of the running loop."""
        loop = asyncio.get_running_loop()
        state = self._states.get(loop)
        return self._add(loop) if state is None else state

    def pop(self) -> S | None:
        """Forgets the state of the running loop and returns it, if there was one."""
        with self._lock:
            return self._states.pop(asyncio.get_running_loop(), None)

    def _add(self, loop: asyncio.AbstractEventLoop) -> S:
        state = self._make()
        with self._lock:
            # A state may hold its loop, which keeps a weak key alive: dead loops go here.
            for other in [known for known in self._states if known.is_closed()]:
                del self._states[other]
            self._states[loop] = state
        return state

    def all(self) -> list[S]:
        """The states of all loops, for counting."""
        with self._lock:
            return list(self._states.values())
