"""Texts that wait for their vectors, and the batches they are asked in."""

from __future__ import annotations

import asyncio
from array import array
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from rag_lab.gateway.plan import BatchLimits, estimated_tokens, plan_batches

_PLANNED_WAVES = 4
_SLOTS_MOVED = 8


def _numbers() -> array[int]:
    return array("q")


@dataclass(frozen=True, slots=True, eq=False)
class Sizes:
    """Texts by the place of their node, with what a call pays for them."""

    places: array[int] = field(default_factory=_numbers)
    tokens: array[int] = field(default_factory=_numbers)
    size_bytes: array[int] = field(default_factory=_numbers)

    def add(self, place: int, text: str) -> None:
        """Measures one more text."""
        self.places.append(place)
        self.tokens.append(estimated_tokens(text))
        self.size_bytes.append(len(text.encode("utf-8", "surrogatepass")))

    def extend(self, more: Sizes) -> None:
        """Appends other texts."""
        self.places.extend(more.places)
        self.tokens.extend(more.tokens)
        self.size_bytes.extend(more.size_bytes)

    def __len__(self) -> int:
        return len(self.places)


class Backlog:
    """A queue of texts from which batches are taken, in order.

    Far from its end they are as large as may be, whatever comes after. The last four waves are
    planned, so that all slots finish together, and planned again when there are other slots.
    """

    def __init__(self) -> None:
        self._all = Sizes()
        self._next = 0
        self._tokens_left = 0
        self._bytes_left = 0
        self._plan: deque[range] = deque()
        self._planned_for = 0
        self.closed = False
        """Set it when no more will be added: the end is planned then."""

    def add(self, more: Sizes) -> None:
        """Appends texts."""
        self._all.extend(more)
        self._tokens_left += sum(more.tokens)
        self._bytes_left += sum(more.size_bytes)

    def __len__(self) -> int:
        return len(self._all) - self._next

    async def take(self, slots: int, limits: BatchLimits) -> Sequence[int]:
        """The places of the next batch; none while it cannot be told how large it should be."""
        if self._is_far_from_end(slots, limits):
            self._plan.clear()
            return self._cut(self._full_end(limits))
        if not self.closed or not len(self):
            return ()
        if not self._plan or abs(slots - self._planned_for) * _SLOTS_MOVED > self._planned_for:
            await self._make_plan(slots, limits)
        return self._cut(self._plan.popleft().stop)

    def _is_far_from_end(self, slots: int, limits: BatchLimits) -> bool:
        full_batches = max(
            len(self) / limits.items,
            self._tokens_left / limits.tokens,
            self._bytes_left / limits.size_bytes,
        )
        return full_batches > _PLANNED_WAVES * slots

    def _full_end(self, limits: BatchLimits) -> int:
        """Where the largest batch from here ends; a text that is too large by itself is one."""
        tokens = size = 0
        last = min(self._next + limits.items, len(self._all))
        for place in range(self._next, last):
            tokens += self._all.tokens[place]
            size += self._all.size_bytes[place]
            if place > self._next and (tokens > limits.tokens or size > limits.size_bytes):
                return place
        return last

    async def _make_plan(self, slots: int, limits: BatchLimits) -> None:
        start = self._next
        planned = await asyncio.to_thread(
            plan_batches,
            self._all.tokens[start:],
            slots=slots,
            limits=limits,
            size_bytes=self._all.size_bytes[start:],
        )
        self._plan = deque(range(start + batch.start, start + batch.stop) for batch in planned)
        self._planned_for = slots

    def _cut(self, end: int) -> Sequence[int]:
        batch = slice(self._next, end)
        self._tokens_left -= sum(self._all.tokens[batch])
        self._bytes_left -= sum(self._all.size_bytes[batch])
        self._next = end
        return self._all.places[batch]
