"""What a provider allows: requests and tokens a minute, and calls at once.

Time is passed in as modelled seconds, so that tests need no clock.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

from rag_lab.simulate.settings import SimulatorSettings

_ROUNDING = 1e-9


class TokenBucket:
    """Holds at most `size`, gains `per_second`, and starts full."""

    def __init__(self, per_second: float, size: float) -> None:
        self.per_second = per_second
        self.size = size
        self._level = size
        self._at_s = 0.0

    def level(self, now_s: float) -> float:
        """What it holds now."""
        gained = max(0.0, now_s - self._at_s) * self.per_second
        return min(self.size, self._level + gained)

    def wait_s(self, amount: float, now_s: float) -> float:
        """How long until it holds an amount; for ever if it is larger than the bucket."""
        if amount > self.size + _ROUNDING:
            return math.inf
        return max(0.0, amount - _ROUNDING - self.level(now_s)) / self.per_second

    def take(self, amount: float, now_s: float) -> None:
        """Takes an amount that is there."""
        self._level = self.level(now_s) - amount
        self._at_s = max(now_s, self._at_s)


@dataclass(frozen=True, slots=True)
class Excess:
    """A request that is over a budget.

    Attributes:
        budget: "requests" or "tokens".
        wait_s: modelled seconds until it would pass; infinite if it never will.
    """

    budget: str
    wait_s: float
    limit: float
    asked: float


class RateLimits:
    """The budgets of a provider. A refused request takes nothing."""

    def __init__(self, settings: SimulatorSettings) -> None:
        self._scale = settings.time_scale
        self._retry_after = settings.retry_after
        self._real_minutes = settings.limit_headers == "per-minute"
        self._buckets = {
            name: TokenBucket(per_minute / 60, per_minute * settings.burst_s / 60)
            for name, per_minute in (
                ("requests", settings.requests_per_minute),
                ("tokens", settings.tokens_per_minute),
            )
            if per_minute
        }

    def take(self, tokens: int, now_s: float) -> Excess | None:
        """Takes one request of so many tokens, or says which budget it is over."""
        needs = {"requests": 1, "tokens": tokens}
        waits = {name: b.wait_s(needs[name], now_s) for name, b in self._buckets.items()}
        longest = max(waits, key=waits.__getitem__, default="")
        if longest and waits[longest] > 0:
            size = self._buckets[longest].size
            return Excess(longest, waits[longest], size, needs[longest])
        for name, bucket in self._buckets.items():
            bucket.take(needs[name], now_s)
        return None

    def headers(self, now_s: float) -> dict[str, str]:
        """`x-ratelimit-*`: limit, what is left, and real time until the bucket is full."""
        headers = {}
        for name, bucket in self._buckets.items():
            left = bucket.level(now_s)
            limit = bucket.per_second * 60 / self._scale if self._real_minutes else bucket.size
            full_s = (bucket.size - left) / bucket.per_second * self._scale
            headers[f"x-ratelimit-limit-{name}"] = str(math.floor(limit + _ROUNDING))
            headers[f"x-ratelimit-remaining-{name}"] = str(math.floor(left + _ROUNDING))
            headers[f"x-ratelimit-reset-{name}"] = duration(full_s)
        return headers

    def retry_headers(self, wait_s: float) -> dict[str, str]:
        """`retry-after` for a wait in modelled seconds, told in the client's time.

        A provider rounds up to whole seconds; scaled time scales its rounding too.
        """
        if self._retry_after == "none" or math.isinf(wait_s):
            return {}
        real_s = math.ceil(wait_s - _ROUNDING) * self._scale
        match self._retry_after:
            case "seconds":
                return {"retry-after": f"{real_s:.12g}"}
            case "milliseconds":
                exact_ms = math.ceil(wait_s * self._scale * 1000)
                return {"retry-after": f"{real_s:.12g}", "retry-after-ms": str(exact_ms)}
            case "date":
                when = datetime.now(UTC) + timedelta(seconds=math.ceil(real_s))
                return {"retry-after": format_datetime(when, usegmt=True)}
            case literally:
                return {"retry-after": literally}


def duration(seconds: float) -> str:
    """A duration as OpenAI writes it: 0s, 250ms, 1.5s, 6m0s."""
    if seconds < 1:
        return f"{math.ceil(seconds * 1000 - _ROUNDING)}ms" if seconds > _ROUNDING else "0s"
    minutes, rest = divmod(round(seconds, 3), 60)
    return f"{minutes:.0f}m{rest:g}s" if minutes else f"{rest:g}s"


class Slots:
    """Calls at once: first come, first served; the number can change while calls wait."""

    def __init__(self, capacity: int | None) -> None:
        self._capacity = capacity
        self._waiting: deque[asyncio.Future[None]] = deque()
        self.busy = 0

    @property
    def full(self) -> bool:
        """Whether a call would have to wait."""
        return self._capacity is not None and self.busy >= self._capacity

    def resize(self, capacity: int | None) -> None:
        """Sets the number; calls above it finish, nobody takes their place."""
        self._capacity = capacity
        self._admit()

    async def take(self) -> None:
        """Waits for a slot and holds it until `free`."""
        if not self.full:
            self.busy += 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.free()  # the slot came together with the cancellation
            raise

    def free(self) -> None:
        """Gives a slot back."""
        self.busy -= 1
        self._admit()

    def _admit(self) -> None:
        while self._waiting and not self.full:
            turn = self._waiting.popleft()
            if not turn.done():
                self.busy += 1
                turn.set_result(None)
