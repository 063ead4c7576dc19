"""Calls tried again: what may pass, a few times, within a time and a budget shared by all calls.

stamina runs the attempts. The decision is made here, in its backoff hook, because it needs more
than the exception: the deadline, the shared budget, and what the provider asked for.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import time
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TypeVar

import stamina

from rag_lab.errors import SettingsError
from rag_lab.gateway.outcomes import (
    MAX_RETRY_AFTER_S,
    Outcome,
    classify,
    classify_status,
    parse_retry_after,
    retry_after,
    retry_after_of,
)

__all__ = [
    "Attempt",
    "Outcome",
    "RetryBudget",
    "RetryPolicy",
    "classify",
    "classify_status",
    "parse_retry_after",
    "retry_after",
    "retry_after_of",
    "with_retries",
]

T = TypeVar("T")


_ours: ContextVar[bool] = ContextVar("rag_lab_retries", default=False)

# stamina warns of every retry. Ours are counted, and told where people look; others' stay.
logging.getLogger("stamina").addFilter(lambda record: not _ours.get())


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and for how long one call is tried.

    Attributes:
        attempts: in all, the first included; refusals (429) do not use them up.
        throttled_attempts: in all, for calls that are refused.
        total_s: no attempt begins later than this after the first failure.
        backoff_s: the longest wait before the first retry; it doubles up to `max_backoff_s`. The
            wait is drawn evenly between 0 and that (full jitter).
        max_retry_after_s: what a provider may ask for at most.
    """

    attempts: int = 5
    throttled_attempts: int = 12
    total_s: float = 120.0
    backoff_s: float = 0.25
    max_backoff_s: float = 8.0
    max_retry_after_s: float = MAX_RETRY_AFTER_S

    def __post_init__(self) -> None:
        if self.attempts < 1 or self.throttled_attempts < self.attempts:
            raise SettingsError(
                "a call needs 1 ≤ attempts ≤ throttled_attempts, got "
                f"{self.attempts} and {self.throttled_attempts}."
            )

    def ceiling_s(self, failures: int) -> float:
        """The longest wait after so many failures."""
        return min(self.max_backoff_s, self.backoff_s * 2.0 ** min(failures - 1, 60))


class RetryBudget:
    """Retries that all calls together may make: a reserve, and a share of what succeeds.

    A retry is paid for when it is decided, so those that wait in backoff count. An outage uses the
    reserve up, and calls then fail after one attempt instead of multiplying the load. Refused
    calls (429) pay nothing: the limiter and the shared pause already hold them back.
    """

    def __init__(self, share: float = 0.2, reserve: float = 10.0, most: float = 100.0) -> None:
        if share < 0 or reserve < 0 or most < reserve:
            raise SettingsError(
                "a retry budget needs share ≥ 0 and most ≥ reserve ≥ 0, got "
                f"share {share}, reserve {reserve}, most {most}."
            )
        self.share, self.most = share, most
        self._left = reserve

    @property
    def left(self) -> float:
        """Retries that could be made now."""
        return self._left

    def succeeded(self) -> None:
        """A call succeeded: a share of a retry is earned."""
        self._left = min(self.most, self._left + self.share)

    def spend(self) -> bool:
        """Takes one retry, if there is one."""
        if self._left < 1 - 1e-9:
            return False
        self._left -= 1
        return True

    def give_back(self) -> None:
        """A retry that was paid for was not made."""
        self._left = min(self.most, self._left + 1)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt, for counting and for the waterfall."""

    number: int
    outcome: Outcome
    seconds: float
    error: BaseException | None = None
    backoff_s: float | None = None
    """The wait before the next attempt; None if this was the last."""
    stopped: str = ""
    """Why there is no next one: empty after a success."""


async def with_retries(
    call: Callable[[], Awaitable[T]],
    policy: RetryPolicy | None = None,
    *,
    budget: RetryBudget | None = None,
    deadline: float | None = None,
    on_attempt: Callable[[Attempt], None] | None = None,
    pause: Callable[[float, str], None] | None = None,
    clock: Callable[[], float] = time.monotonic,
    wall_clock: Callable[[], float] = time.time,
) -> T:
    """Makes a call until it succeeds, cannot succeed, or may not be tried again.

    Args:
        call: one attempt; everything that an attempt has to pay (breaker, budget, limiter) is
            inside. It is never running when this returns or raises.
        policy: how often and for how long.
        budget: shared by all calls; without one there is no shared bound.
        deadline: on `clock`; an attempt is cut off there, and none begins that would wait past it.
        on_attempt: told of every attempt as soon as it has ended, a cancelled one too.
        pause: told of a Retry-After in seconds and why, to hold *everyone* back; this call then
            adds no wait of its own. Without it the call itself waits that long.
        clock: seconds, monotonic.
        wall_clock: epoch seconds, for a Retry-After that is a date.

    Raises:
        Exception: that of the last attempt, as it was; `TimeoutError` at the deadline.
    """
    run = _Run(policy or RetryPolicy(), budget, deadline, on_attempt, pause, clock, wall_clock)
    try:
        return await run.attempt(call)
    except BaseException as error:  # stamina costs a quarter of a millisecond: only now
        run.failed = error
    caller = stamina.AsyncRetryingCaller(attempts=run.policy.throttled_attempts, timeout=None)
    token = _ours.set(True)
    try:
        return await caller(run.decide, run.go_on, call)
    finally:
        _ours.reset(token)
        run.close()


class _Run:
    """The attempts of one call."""

    def __init__(
        self,
        policy: RetryPolicy,
        budget: RetryBudget | None,
        deadline: float | None,
        on_attempt: Callable[[Attempt], None] | None,
        pause: Callable[[float, str], None] | None,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
    ) -> None:
        self.policy = policy
        self._budget = budget
        self._deadline = math.inf if deadline is None else deadline
        self._on_attempt = on_attempt
        self._pause = pause
        self._clock = clock
        self._wall_clock = wall_clock
        self._number = 0
        self._failures = 0  # 429s aside
        self._give_up_at = math.inf
        self._began = 0.0
        self._paid = False
        self.failed: BaseException | None = None
        """Of the first attempt, until it has been decided upon."""

    async def go_on(self, call: Callable[[], Awaitable[T]]) -> T:
        """The first attempt's failure, then further attempts."""
        if self.failed is not None:
            error, self.failed = self.failed, None
            try:
                raise error
            finally:
                del error  # its traceback leads here
        return await self.attempt(call)

    async def attempt(self, call: Callable[[], Awaitable[T]]) -> T:
        self._number += 1
        self._paid = False  # the retry is made: it cannot be given back
        self._began = self._clock()
        if self._deadline == math.inf:
            result = await call()
        else:
            async with asyncio.timeout(max(0.0, self._deadline - self._began)):
                result = await call()
        if self._budget is not None:
            self._budget.succeeded()
        self._report(Outcome.OK)
        return result

    def decide(self, error: BaseException) -> bool | float:
        """stamina's hook: False, or the seconds until the next attempt."""
        outcome = classify(error)
        self._failures += outcome is not Outcome.THROTTLED
        self._give_up_at = min(self._give_up_at, self._clock() + self.policy.total_s)
        backoff_s = self._backoff_s(outcome, error)
        stopped = self._why_stop(outcome, backoff_s)
        if stopped:
            self._report(outcome, error, stopped=stopped)
            return False
        self._report(outcome, error, backoff_s=backoff_s)
        return backoff_s

    def close(self) -> None:
        """Gives back what was paid for a retry that was never made (cancelled in backoff)."""
        if self._paid and self._budget is not None:
            self._budget.give_back()

    def _backoff_s(self, outcome: Outcome, error: BaseException) -> float:
        if not outcome.may_pass:
            return 0.0
        backoff_s = random.uniform(0, self.policy.ceiling_s(self._number))
        asked = retry_after(error, self._wall_clock(), self.policy.max_retry_after_s)
        if asked is None:
            return backoff_s
        if self._pause is None:
            return asked + min(backoff_s, 0.1 * asked)
        self._pause(asked, f"the provider asked for it ({outcome})")
        return 0.0

    def _why_stop(self, outcome: Outcome, backoff_s: float) -> str:
        policy, then = self.policy, self._clock() + backoff_s
        if not outcome.may_pass:
            return "cancelled" if outcome is Outcome.CANCELLED else "it would fail again"
        if self._failures >= policy.attempts or self._number >= policy.throttled_attempts:
            return f"{self._number} attempts"
        if then >= self._deadline:
            return "the deadline"
        if then > self._give_up_at:
            return f"{policy.total_s:g} s of retrying"
        if outcome is not Outcome.THROTTLED and self._budget is not None:
            if not self._budget.spend():
                return "the retry budget of all calls is used up"
            self._paid = True
        return ""

    def _report(
        self,
        outcome: Outcome,
        error: BaseException | None = None,
        *,
        backoff_s: float | None = None,
        stopped: str = "",
    ) -> None:
        if self._on_attempt is not None:
            seconds = self._clock() - self._began
            self._on_attempt(Attempt(self._number, outcome, seconds, error, backoff_s, stopped))
