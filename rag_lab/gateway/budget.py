"""Requests and tokens a minute: set, or learned from what the provider says of itself.

Each budget is a token bucket. A reply's `x-ratelimit-*` headers bound what the bucket can hold
now: no more than the provider said plus what has flowed in since that request was sent, no less
than it said minus all that was sent after it. Within these bounds our own count is kept, so stale
headers of slow replies do no harm and errors of the count do not add up.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from rag_lab.errors import ModelError, SettingsError
from rag_lab.gateway.outcomes import parse_duration, parse_number
from rag_lab.gateway.waiters import Priority, Waiter, WaitingLine

_ROUNDING = 1e-6
_MIN_WAIT_S = 0.001
_OPENING = 2
_OPENING_GAP_S = 0.0015
"""A provider that has said nothing yet gets this many requests at once, then one in each gap: of
a refusal, and of the limits in its headers, we then know before all the others are refused too."""


class BudgetError(ModelError):
    """One request asks for more than the whole budget: no waiting would help."""


@dataclass(frozen=True, slots=True)
class BudgetSettings:
    """What the provider allows, as far as it is known; headers tell the rest.

    Attributes:
        requests_per_minute: None: unlimited until the provider says otherwise.
        tokens_per_minute: likewise.
        time_scale: a "minute" lasts 60 × this many seconds (a simulator in a hurry).
        history: changes kept.
    """

    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    time_scale: float = 1.0
    history: int = 1_000

    def __post_init__(self) -> None:
        for name in ("requests_per_minute", "tokens_per_minute", "time_scale"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise SettingsError(
                    f"{name} must be above 0, got {value}. Leave it out if unknown."
                )


@dataclass(frozen=True, slots=True)
class BudgetChange:
    """A limit that was learned, or a pause."""

    at: float
    reason: str


@dataclass(frozen=True, slots=True)
class BudgetLeft:
    """What could be sent now; None where no limit is known."""

    requests: float | None
    tokens: float | None
    requests_per_minute: float | None
    tokens_per_minute: float | None
    paused_s: float
    waiting: int


@dataclass(frozen=True, slots=True)
class Taken:
    """A request that was let through, to hand to `learn` with its reply's headers."""

    at: float
    requests: float
    tokens: float


class Bucket:
    """One budget: what is left of it, and how fast it fills."""

    def __init__(self, set_limit: float | None, minute_s: float) -> None:
        self.limit = set_limit
        self.sent = 0.0
        self._most = set_limit if set_limit is not None else math.inf
        self._minute_s = minute_s
        self._size = self._level = self._most
        self._at = -math.inf

    @property
    def per_second(self) -> float:
        """What flows in."""
        return math.inf if self.limit is None else self.limit / self._minute_s

    def level(self, now: float) -> float:
        """What is there now; below 0 after a request was let through on credit."""
        if self.limit is not None and now > self._at:
            if self._level < self._size:
                gained = (now - self._at) * self.per_second if self._at > -math.inf else 0.0
                self._level = min(self._size, self._level + gained)
            self._at = now
        return self._level

    def wait_s(self, amount: float, now: float) -> float:
        """How long until an amount is there, or the bucket as full as it gets."""
        missing = min(amount, self._size) - self.level(now)
        return missing / self.per_second if missing > _ROUNDING else 0.0

    def take(self, amount: float, now: float) -> None:
        """Takes an amount, whether it is there or not."""
        self._level = self.level(now) - amount
        self.sent += amount

    def learn(
        self,
        now: float,
        sent_s_ago: float,
        sent_since: float,
        limit: float | None,
        left: float | None,
        reset_s: float | None,
    ) -> bool:
        """Takes over the provider's view; True if the limit is another now."""
        before, known = self.limit, self.level(now)
        if limit is not None and limit > 0:
            self.limit = min(limit, self._most)
        if self.limit is None:
            return False
        if before is None:
            # Nothing better is known than that all that was sent since has still to be counted.
            known = self.limit - self.sent if left is None else left - sent_since
            self._at = now
        self._size = self.limit
        if left is not None and reset_s is not None:
            self._size = min(self._size, max(left + reset_s * self.per_second, 1.0))
        if left is not None:
            at_most = left + sent_s_ago * self.per_second
            known = min(max(known, left - sent_since), at_most)
        self._level = min(known, self._size)
        return self.limit != before


class RateBudget:
    """Lets requests through at the rate that the provider allows. Bound to no event loop."""

    def __init__(
        self,
        settings: BudgetSettings | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settings = settings or BudgetSettings()
        self._clock = clock
        minute_s = 60 * self.settings.time_scale
        self._buckets = {
            "requests": Bucket(self.settings.requests_per_minute, minute_s),
            "tokens": Bucket(self.settings.tokens_per_minute, minute_s),
        }
        self._history: deque[BudgetChange] = deque(maxlen=self.settings.history)
        self._paused_until = -math.inf
        self._heard = False
        self._opened = 0
        self._next_opening = -math.inf
        self._line = WaitingLine()
        self._taken: dict[Waiter, Taken] = {}  # granted, and not yet resumed
        self._timers: dict[asyncio.AbstractEventLoop, asyncio.TimerHandle] = {}

    @property
    def history(self) -> Sequence[BudgetChange]:
        """Limits learned and pauses, oldest first."""
        return tuple(self._history)

    @property
    def paused_until(self) -> float:
        """The moment, on this budget's clock, before which nobody sends."""
        return self._paused_until

    def left(self) -> BudgetLeft:
        """What could be sent now."""
        now = self._clock()
        requests, tokens = self._buckets["requests"], self._buckets["tokens"]
        return BudgetLeft(
            requests=None if requests.limit is None else max(0.0, requests.level(now)),
            tokens=None if tokens.limit is None else max(0.0, tokens.level(now)),
            requests_per_minute=requests.limit,
            tokens_per_minute=tokens.limit,
            paused_s=max(0.0, self._paused_until - now),
            waiting=len(self._line),
        )

    def wait_s(self, tokens: float, requests: float = 1.0) -> float:
        """How long until a request of so many tokens could go, if nobody stood before it."""
        now = self._clock()
        needs = {"requests": requests, "tokens": tokens}
        waits = (self._buckets[name].wait_s(need, now) for name, need in needs.items())
        opening = self._next_opening if requests and not self._heard else -math.inf
        return max(0.0, self._paused_until - now, opening - now, *waits)

    def pause_until(self, at: float, reason: str) -> None:
        """Nobody sends before a moment of this budget's clock; pauses extend, never add up."""
        if at > max(self._paused_until, self._clock()):
            self._paused_until = at
            self._note(f"paused for {at - self._clock():.3g} s: {reason}")

    def learn(
        self, headers: Mapping[str, str], taken: Taken | None = None, *, refused: bool = False
    ) -> None:
        """Takes over limits and what is left from a reply's `x-ratelimit-*` headers.

        Args:
            headers: of any reply, also of a 429; names in any case.
            taken: what `acquire` gave for that request: it tells how old the headers may be.
            refused: the reply is a 429. Those come at once: what has flowed in since is nothing
                worth the next refusal.
        """
        self._heard = True
        now = self._clock()
        said = {name.lower(): value for name, value in headers.items()}
        for name, bucket in self._buckets.items():
            limit = parse_number(said.get(f"x-ratelimit-limit-{name}"))
            left = parse_number(said.get(f"x-ratelimit-remaining-{name}"))
            reset_s = parse_duration(said.get(f"x-ratelimit-reset-{name}"))
            since = max(0.0, bucket.sent - (getattr(taken, name) if taken else bucket.sent))
            age_s = now - taken.at if taken and not refused else 0.0
            if bucket.learn(now, age_s, since, limit, left, reset_s):
                self._note(f"{bucket.limit:.0f} {name} a minute, says the provider")
        self._serve()

    async def acquire(
        self, tokens: float = 0, *, requests: float = 1.0, priority: Priority = "bulk"
    ) -> Taken:
        """Waits until a request of so many tokens may go, and counts it as sent.

        Who stands first is served first, however large: nobody behind overtakes. A request whose
        tokens are known only later asks twice: for the request, then with `requests=0` for them.

        Raises:
            BudgetError: the request is larger than all that is allowed in a minute.
        """
        self._check(tokens)
        waiter = self._line.join(priority, requests=requests, tokens=tokens)
        try:
            self._serve()
            await waiter.wait()
            self._check(tokens)  # the limit may have been learned while it waited
            return self._taken.pop(waiter)
        except (asyncio.CancelledError, BudgetError):
            if self._taken.pop(waiter, None):  # nothing was sent: it goes back
                self._take(-requests, -tokens)
            self._line.leave(waiter)
            self._serve()
            raise

    def give_back(self, tokens: float = 0, *, requests: float = 1.0) -> None:
        """What was acquired was not sent after all."""
        self._take(-requests, -tokens)
        self._serve()

    def _serve(self) -> None:
        """Lets through who stands first, as far as the budget reaches; else sets the alarm."""
        while waiter := self._line.first():
            wait_s = self.wait_s(waiter.tokens, waiter.requests)
            if wait_s > 0:
                self._wake_in(wait_s)
                return
            self._taken[waiter] = self._take(waiter.requests, waiter.tokens)
            self._line.serve(waiter)

    def _take(self, requests: float, tokens: float) -> Taken:
        now = self._clock()
        if requests > 0:
            self._opened += 1
            if self._opened >= _OPENING:
                self._next_opening = now + _OPENING_GAP_S
        self._buckets["requests"].take(requests, now)
        self._buckets["tokens"].take(tokens, now)
        return Taken(now, *(bucket.sent for bucket in self._buckets.values()))

    def _wake_in(self, seconds: float) -> None:
        for loop in [loop for loop in self._timers if loop.is_closed()]:
            del self._timers[loop]
        for lost in [waiter for waiter in self._taken if waiter.loop.is_closed()]:
            del self._taken[lost]
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return  # nobody of this loop waits
        if (timer := self._timers.pop(loop, None)) is not None:
            timer.cancel()
        self._timers[loop] = loop.call_later(max(seconds, _MIN_WAIT_S), self._serve)

    def _check(self, tokens: float) -> None:
        allowed = self._buckets["tokens"].limit
        if allowed is not None and tokens > allowed:
            raise BudgetError(
                f"one request of {tokens:,.0f} tokens, but {allowed:,.0f} a minute are allowed: it "
                "would wait for ever. Make batches or texts smaller, or raise tokens_per_minute."
            )

    def _note(self, reason: str) -> None:
        self._history.append(BudgetChange(self._clock(), reason))
