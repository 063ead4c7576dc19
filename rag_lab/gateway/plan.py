"""Batches for work that is known beforehand: cut so that all slots finish together.

With a call's cost `fixed + tokens`, the time of `k` even batches on `slots` slots is

    waves × (fixed + total ÷ k),   waves = ⌈k ÷ slots⌉

so fewest waves and a multiple of `slots` are best, and a few calls less cost next to nothing
where the work is small. Between those, `plan_batches` takes the fewest calls.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from rag_lab.errors import SettingsError

FIXED_TOKENS = 10_000
"""What a call costs before its first token, in tokens: about 0.2 s at 20 µs each."""
_WORTH = 1.02
"""Calls are saved where that makes the work at most 2 % longer."""


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """What one call may hold; an item that is larger by itself is sent alone.

    Attributes:
        items: texts a call.
        tokens: estimated tokens a call. OpenAI takes 300,000, and an estimate of four characters
            a token may be four times too low (Japanese).
        size_bytes: UTF-8 bytes of text a call. Proxies often take no body above 1 MiB.
    """

    items: int = 96
    tokens: int = 64_000
    size_bytes: int = 900_000

    def __post_init__(self) -> None:
        for name in ("items", "tokens", "size_bytes"):
            if getattr(self, name) < 1:
                raise SettingsError(
                    f"BatchLimits.{name} must be at least 1, got {getattr(self, name)}."
                )


def estimated_tokens(text: str) -> int:
    """About how many tokens a text is: one for every four bytes of UTF-8, at least one."""
    return max(1, -(-len(text.encode("utf-8", "surrogatepass")) // 4))


def plan_batches(
    tokens: Sequence[int],
    *,
    slots: int,
    limits: BatchLimits | None = None,
    size_bytes: Sequence[int] | None = None,
    fixed_tokens: float = FIXED_TOKENS,
) -> list[range]:
    """Contiguous batches that cover every item once, in order, within the limits.

    Args:
        tokens: estimated tokens of each item.
        slots: calls that may be in flight at once.
        limits: what a batch may hold.
        size_bytes: bytes of each item, if they are to be bounded too.
        fixed_tokens: the cost of a call in itself, in tokens.

    Raises:
        SettingsError: `slots` is less than 1, or there is not one size for each item.
    """
    if slots < 1:
        raise SettingsError(f"slots must be at least 1, got {slots}.")
    if size_bytes is not None and len(size_bytes) != len(tokens):
        raise SettingsError(f"{len(tokens)} items, but {len(size_bytes)} sizes in bytes.")
    if not tokens:
        return []
    work = _Work(tokens, size_bytes, limits or BatchLimits())
    fewest = work.batches_under(work.limits.tokens)
    count = _worthwhile_count(work.total, len(tokens), fewest, slots, fixed_tokens)
    return work.cut(count)


def _worthwhile_count(total: int, items: int, fewest: int, slots: int, fixed: float) -> int:
    """The fewest batches whose time is within 2 % of that of full waves."""

    def time(count: int) -> float:
        return -(-count // slots) * (fixed + total / count)

    full = min(items, -(-fewest // slots) * slots)
    enough = _WORTH * time(full)
    return next(count for count in range(fewest, full + 1) if time(count) <= enough)


class _Work:
    """The items as running sums, so that the tokens of any stretch are one subtraction."""

    def __init__(
        self, tokens: Sequence[int], size_bytes: Sequence[int] | None, limits: BatchLimits
    ) -> None:
        self.limits = limits
        self.items = len(tokens)
        # An item of no tokens is work too; so the sums rise strictly.
        self._tokens = [0, *accumulate(max(1, count) for count in tokens)]
        self._bytes = [0, *accumulate(size_bytes)] if size_bytes is not None else None
        self.largest = max(1, *tokens)
        self.total = self._tokens[-1]

    def _end(self, start: int, cap: int) -> int:
        """Where a batch from `start` must end: the limits, `cap` tokens; one item always fits."""
        end = bisect_right(self._tokens, self._tokens[start] + cap, start + 1) - 1
        if self._bytes is not None:
            most = self._bytes[start] + self.limits.size_bytes
            end = min(end, bisect_right(self._bytes, most, start + 1) - 1)
        return max(start + 1, min(end, start + self.limits.items, self.items))

    def batches_under(self, cap: int) -> int:
        """How few batches hold everything with at most `cap` tokens each."""
        start = count = 0
        while start < self.items:
            start = self._end(start, cap)
            count += 1
        return count

    def _smallest_cap(self, count: int) -> int:
        """The least tokens of the largest batch with which `count` batches are enough."""
        low = max(-(-self.total // count), min(self.largest, self.limits.tokens)) - 1
        high = self.limits.tokens
        while high - low > 1:
            middle = (low + high) // 2
            if self.batches_under(middle) <= count:
                high = middle
            else:
                low = middle
        return high

    def cut(self, count: int) -> list[range]:
        """Exactly `count` batches: the largest as small as can be, the others even."""
        cap = self._smallest_cap(count)
        needed = self._batches_from_each(cap)
        batches, start = [], 0
        for left in range(count, 0, -1):
            share = (self.total - self._tokens[start]) / left
            end = bisect_right(self._tokens, self._tokens[start] + share + share / 1e9) - 1
            if end < self.items and self._nearer(end + 1, self._tokens[start] + share):
                end += 1
            end = max(start + 1, min(end, self._end(start, cap), self.items - left + 1))
            while needed[end] >= left:  # what is left must fit into the batches left
                end += 1
            batches.append(range(start, end))
            start = end
        return batches

    def _nearer(self, place: int, target: float) -> bool:
        """Whether cutting at `place` is nearer to the target than one item before."""
        return self._tokens[place] - target < target - self._tokens[place - 1]

    def _batches_from_each(self, cap: int) -> list[int]:
        """For each place, how few batches hold what is from there on."""
        needed = [0] * (self.items + 1)
        for start in range(self.items - 1, -1, -1):
            needed[start] = 1 + needed[self._end(start, cap)]
        return needed
