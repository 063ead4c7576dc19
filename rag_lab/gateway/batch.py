"""Work-conserving batches: an idle gateway sends at once, a busy one lets what queues up ride.

Nothing waits for company. A submitted item makes sure that somebody queues for a slot; whoever
is given one takes what has gathered until then. So a lone query goes out in the loop's next
turn, and under load batches grow just as far as slots are scarce.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, Generic, TypeVar, cast, get_args

from rag_lab.errors import ModelError
from rag_lab.gateway.loops import PerLoop
from rag_lab.gateway.plan import BatchLimits
from rag_lab.gateway.waiters import Priority

T = TypeVar("T")
R = TypeVar("R")

__all__ = ["BatchCounts", "BatchLimits", "Batcher"]

_PRIORITIES: tuple[Priority, ...] = get_args(Priority)
_AT_ONCE = 8


@dataclass(slots=True)
class BatchCounts:
    """What a batcher has done."""

    submitted: int = 0
    sent: int = 0
    batches: int = 0

    @property
    def items_a_batch(self) -> float:
        """Mean size of a batch; NaN before the first."""
        return self.sent / self.batches if self.batches else float("nan")


class _Entry(Generic[T]):
    """One submitted item. `sender` is the task that carries it, once it is on its way."""

    __slots__ = ("item", "priority", "sender", "size_bytes", "tokens", "waiter")

    def __init__(self, item: T, tokens: int, size_bytes: int, priority: Priority) -> None:
        self.item = item
        self.tokens = tokens
        self.size_bytes = size_bytes
        self.priority = priority
        self.sender: _Sender[T] | None = None
        self.waiter: asyncio.Future[Any] = asyncio.get_running_loop().create_future()


class _Failure:
    """An error on its way to a submitter. As a result it is never an unretrieved exception."""

    __slots__ = ("error", "trace")

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.trace: TracebackType | None = error.__traceback__

    def raised(self) -> Exception:
        # One error may be raised for many items: none may see the others' frames.
        return self.error.with_traceback(self.trace)


class _Line(Generic[T]):
    """What waits at one priority. Cancelled entries are skipped when they come up."""

    __slots__ = ("count", "entries")

    def __init__(self) -> None:
        self.entries: deque[_Entry[T]] = deque()
        self.count = 0

    def add(self, entry: _Entry[T]) -> None:
        self.entries.append(entry)
        self.count += 1

    def drop(self) -> None:
        """One entry has been cancelled."""
        self.count -= 1
        if not self.count:
            self.entries.clear()

    def take(self, limits: BatchLimits) -> list[_Entry[T]]:
        """The next batch. What needs several is cut evenly: 97 items as 49 and 48, not 96 and 1."""
        batches = -(-self.count // limits.items)
        most = -(-self.count // batches)
        taken: list[_Entry[T]] = []
        tokens = size_bytes = 0
        while self.entries and len(taken) < most:
            entry = self.entries[0]
            if entry.waiter.done():  # cancelled
                self.entries.popleft()
                continue
            tokens += entry.tokens
            size_bytes += entry.size_bytes
            if taken and (tokens > limits.tokens or size_bytes > limits.size_bytes):
                break
            taken.append(self.entries.popleft())
        self.count -= len(taken)
        return taken


class _Sender(Generic[T]):
    """A task that queues for a slot and then carries one batch."""

    __slots__ = ("batch", "task", "waiting_for")

    def __init__(self) -> None:
        self.batch: list[_Entry[T]] = []
        self.waiting_for = 0  # submitters of the batch that have not gone
        self.task: asyncio.Task[None]


class _Lanes(Generic[T]):
    """The queues of one event loop, and who queues for a slot on behalf of each."""

    __slots__ = ("lines", "senders")

    def __init__(self) -> None:
        self.lines: dict[Priority, _Line[T]] = {name: _Line() for name in _PRIORITIES}
        self.senders: dict[Priority, _Sender[T]] = {}

    def take(self, granted: Priority, limits: BatchLimits) -> list[_Entry[T]]:
        """A batch for a slot: of the priority it was granted to, else of the most urgent."""
        order = (granted, *_PRIORITIES)
        line = next((self.lines[name] for name in order if self.lines[name].count), None)
        return line.take(limits) if line else []


class Batcher(Generic[T, R]):
    """Sends items in batches as soon as there is a slot, and gives each its own result.

    Args:
        call: sends one batch and returns a result or an exception for each item, in order.
        slot: a context manager that waits for a slot of the limiter and gives it back. The batch
            is formed once it is entered. It must be cancellable while it waits.
        limits: what one batch may hold.

    A batch holds one priority only: a query does not wait for the documents beside it. It runs
    in the context (`contextvars`) of one of its submitters, so count per question in the caller.
    """

    def __init__(
        self,
        call: Callable[[list[T]], Awaitable[Sequence[R | Exception]]],
        slot: Callable[[Priority], AbstractAsyncContextManager[Any]],
        limits: BatchLimits | None = None,
    ) -> None:
        self.limits = limits or BatchLimits()
        self.counts = BatchCounts()
        self._call = call
        self._slot = slot
        self._lanes: PerLoop[_Lanes[T]] = PerLoop(_Lanes)

    @property
    def queued(self) -> int:
        """Items that wait for a slot."""
        return sum(line.count for lanes in self._lanes.all() for line in lanes.lines.values())

    async def submit(
        self,
        item: T,
        *,
        tokens: int = 0,
        size_bytes: int = 0,
        priority: Priority = "interactive",
    ) -> R:
        """The item's result.

        If cancelled, the item is not sent, or its result is dropped; a call for which nobody
        waits any more is cancelled.

        Raises:
            Exception: what `call` returned for this item, or raised for its batch, or what
                `slot` raised instead of giving a slot.
        """
        lanes = self._lanes.get()
        entry = _Entry(item, tokens, size_bytes, priority)
        self.counts.submitted += 1
        lanes.lines[priority].add(entry)
        self._see_to_senders(lanes)
        try:
            outcome = await entry.waiter
        except asyncio.CancelledError:
            self._withdraw(lanes, entry)
            raise
        if isinstance(outcome, _Failure):
            raise outcome.raised()
        return cast(R, outcome)

    def _withdraw(self, lanes: _Lanes[T], entry: _Entry[T]) -> None:
        if entry.sender is None:
            lanes.lines[entry.priority].drop()
            self._see_to_senders(lanes)
            return
        entry.sender.waiting_for -= 1
        if not entry.sender.waiting_for:
            entry.sender.task.cancel()  # does nothing where it is done

    def _see_to_senders(self, lanes: _Lanes[T]) -> None:
        """One sender queues for a slot where items wait, none where nothing does."""
        for priority, line in lanes.lines.items():
            sender = lanes.senders.get(priority)
            if line.count and sender is None:
                sender = lanes.senders[priority] = _Sender()
                sender.task = asyncio.create_task(self._send(lanes, sender, priority))
                sender.task.add_done_callback(partial(self._sent, lanes, sender, priority))
            elif sender is not None and not line.count:
                del lanes.senders[priority]
                sender.task.cancel()

    async def _send(self, lanes: _Lanes[T], sender: _Sender[T], priority: Priority) -> None:
        outcomes: Sequence[R | Exception] | None = None
        try:
            async with self._slot(priority):
                if self._load(lanes, sender, priority):
                    outcomes = await self._call([entry.item for entry in sender.batch])
            await _deliver_in_turns(sender.batch, _checked(outcomes, len(sender.batch)))
        except Exception as error:
            # Without a slot (an open breaker, say) those fail who would have had it.
            if not sender.batch:
                self._load(lanes, sender, priority)
            _deliver(sender.batch, [error] * len(sender.batch))

    def _load(self, lanes: _Lanes[T], sender: _Sender[T], priority: Priority) -> bool:
        """Forms the batch; False if others have taken everything."""
        if lanes.senders.get(priority) is sender:
            del lanes.senders[priority]
        sender.batch = lanes.take(priority, self.limits)
        sender.waiting_for = len(sender.batch)
        for entry in sender.batch:
            entry.sender = sender
        self._see_to_senders(lanes)
        self.counts.batches += bool(sender.batch)
        self.counts.sent += len(sender.batch)
        return bool(sender.batch)

    def _sent(
        self,
        lanes: _Lanes[T],
        sender: _Sender[T],
        priority: Priority,
        task: asyncio.Task[None],
    ) -> None:
        """Whatever ended the sender, nobody is left waiting for it."""
        for entry in sender.batch:
            entry.waiter.cancel()  # does nothing where the result is delivered
        sender.batch = []  # an error's traceback leads here: let it not hold the items
        if lanes.senders.get(priority) is sender:  # cancelled from outside while it queued
            del lanes.senders[priority]
            if not task.get_loop().is_closed():
                self._see_to_senders(lanes)


async def _deliver_in_turns(batch: Sequence[_Entry[T]], outcomes: Sequence[Any]) -> None:
    """Some at a time: whoever is woken has work to do, and the event loop others to serve."""
    for start in range(0, len(batch), _AT_ONCE):
        if start:
            await asyncio.sleep(0)
        some = slice(start, start + _AT_ONCE)
        _deliver(batch[some], outcomes[some])


def _deliver(batch: Sequence[_Entry[T]], outcomes: Sequence[Any]) -> None:
    for entry, outcome in zip(batch, outcomes, strict=True):
        if not entry.waiter.done():
            failed = isinstance(outcome, Exception)
            entry.waiter.set_result(_Failure(outcome) if failed else outcome)


def _checked(outcomes: Sequence[Any] | None, expected: int) -> Sequence[Any]:
    if outcomes is not None and len(outcomes) == expected:
        return outcomes
    got = "none" if outcomes is None else len(outcomes)
    return [ModelError(f"a batch of {expected} items came back with {got} results.")] * expected
