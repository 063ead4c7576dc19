"""Hedging: a call that is late is made a second time; whoever answers first wins.

Late is later than 95 % of comparable calls took, of the same kind and set against what their size
lets expect. The wait counts from when the request went out, not from when it queued for a slot.
What may be hedged is bounded by a budget that calls earn by succeeding; while the provider fails,
nothing is hedged.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Hashable, Iterable
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from rag_lab.errors import ProviderError, SettingsError
from rag_lab.gateway.lateness import WINDOW, Lateness
from rag_lab.gateway.loops import PerLoop
from rag_lab.gateway.outcomes import classify
from rag_lab.gateway.receipt import Answered, HedgeReceipt
from rag_lab.gateway.retry import RetryBudget

R = TypeVar("R")

_SOONEST_S = 0.001  # from one look to the next at least
_LATEST_S = 0.05  # and at most, for what is late changes with each call that ends
_KEPT = 4_096  # calls that the receipt's percentiles are of


@dataclass(frozen=True, slots=True)
class HedgeSettings:
    """When a call is late, and how many may be made twice.

    Attributes:
        quantile: of comparable calls; who takes longer is late.
        min_samples: ended calls of a kind before one is hedged.
        share: of a hedge, earned by each call that succeeds.
        reserve: hedges that may be made at the start.
        most: hedges that can be saved up.
    """

    quantile: float = 0.95
    min_samples: int = 8
    share: float = 0.05
    reserve: float = 2.0
    most: float = 10.0

    def __post_init__(self) -> None:
        if not 0 < self.quantile < 1:
            raise SettingsError(f"quantile must be between 0 and 1, got {self.quantile}.")
        if not 1 <= self.min_samples <= WINDOW:
            raise SettingsError(
                f"min_samples must be between 1 and {WINDOW}, got {self.min_samples}."
            )


class Hedger:
    """Hedges the calls of one provider. Bound to no event loop."""

    def __init__(
        self,
        settings: HedgeSettings | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        told = settings or HedgeSettings()
        self._clock = clock
        self._budget = RetryBudget(told.share, told.reserve, told.most)
        self._failing = False
        self._kinds: defaultdict[Hashable, Lateness] = defaultdict(
            lambda: Lateness(told.quantile, told.min_samples)
        )
        self._watches: PerLoop[_Watch] = PerLoop(lambda: _Watch(clock, self._look))
        self._calls = self._hedges = self._won = 0
        self._answered: deque[Answered] = deque(maxlen=_KEPT)

    async def run(
        self,
        first: Callable[[Callable[[], None]], Awaitable[R]],
        second: Callable[[Callable[[], None]], Awaitable[R]],
        *,
        kind: Hashable,
        size: float = 1.0,
        may_hedge: Callable[[], bool],
    ) -> R:
        """The answer of `first`, or of `second` if that is late and `second` is quicker.

        If the one that ends first fails, the other decides. The one that is not needed is
        cancelled and has ended when this returns. Cancelling this cancels both. While nothing is
        late, nothing but `first` runs, in the caller's own task.

        Args:
            first: makes the request and calls what it is given when the request goes out; until
                then it is not late.
            second: makes the same request again, and tells likewise when it goes out; it runs in a
                task with the caller's context variables, and so does `may_hedge`.
            kind: calls of one kind are compared with each other, e.g. (model, "bulk"). Each kind
                is kept for good, so there should be few.
            size: above 0, e.g. the number of texts; large calls take longer.
            may_hedge: whether a second request would do no harm now; asked again as long as the
                call is late.

        Raises:
            SettingsError: the size is not above 0.
            Exception: that of `first`, if both fail.
        """
        if size <= 0:
            raise SettingsError(f"the size of a call must be above 0, got {size}.")
        self._calls += 1
        call = _Call(second, may_hedge, self._kinds[kind], size, self._watches.get())
        try:
            answer = await call.make(first)
            winner = call.hedge if call.overtaken.expired() else None
        except Exception as error:
            winner = await call.hedge_that_answers()
            if winner is None:
                self._failing |= isinstance(error, ProviderError) or classify(error).may_pass
                raise
        finally:
            await call.end_hedge()
        self._succeeded(call, hedge_won=winner is not None)
        return answer if winner is None else winner.result()

    def receipt(self) -> HedgeReceipt:
        """The figures so far."""
        return HedgeReceipt.of(self._calls, self._hedges, self._won, self._answered)

    def _succeeded(self, call: _Call[Any], *, hedge_won: bool) -> None:
        self._failing = False
        self._budget.succeeded()
        self._won += hedge_won
        if call.sent_at is not None:
            alone_s = call.ended_at - call.sent_at
            call.lateness.learn(call.size, alone_s)
            self._answered.append(Answered(self._clock() - call.sent_at, alone_s, hedge_won))

    def _look(self, watch: _Watch) -> None:
        """Hedges the call that is latest, if that may be, and looks again in time."""
        alone = [call for call in watch.calls if call.hedge is None]
        if not alone:
            return
        wait_s = math.inf
        if not self._failing and self._budget.left >= 1:
            due_in_s = self._due_in_s(watch, alone)
            late = sorted((call for call in alone if due_in_s[call] <= 0), key=due_in_s.__getitem__)
            chosen = next((call for call in late if call.context.run(call.may_hedge)), None)
            if chosen is None:
                wait_s = min((in_s for in_s in due_in_s.values() if in_s > 0), default=math.inf)
            else:
                self._budget.spend()
                chosen.begin_hedge(self._hedge_sent)
                wait_s = 0.0  # the next hedge must see the slot that this one is about to take
        watch.look_in(wait_s)

    def _due_in_s(self, watch: _Watch, alone: Iterable[_Call[Any]]) -> dict[_Call[Any], float]:
        """In how many seconds each of these calls is one to hedge; 0 or less: it is one now."""
        now = watch.clock()
        for lateness in {call.lateness for call in watch.calls}:
            lateness.judge(
                (call.size, now - sent_at)
                for call, sent_at in watch.calls.items()
                if call.lateness is lateness
            )
        hangs = self._budget.left < 2  # the last is for a call that hangs, not for one in twenty
        return {
            call: watch.calls[call] + call.lateness.late_after_s(call.size, hangs=hangs) - now
            for call in alone
        }

    def _hedge_sent(self) -> None:
        self._hedges += 1


class _Watch:
    """The calls under way in one event loop, and the moment of the next look at them.

    Attributes:
        calls: whose first request is under way, with the moment it went out.
    """

    def __init__(self, clock: Callable[[], float], look: Callable[[_Watch], None]) -> None:
        self.loop = asyncio.get_running_loop()
        self.clock = clock
        self.calls: dict[_Call[Any], float] = {}
        self._look = look
        self._timer: asyncio.TimerHandle | None = None

    def look_in(self, seconds: float) -> None:
        """Looks after about so many seconds, or sooner if that was to be."""
        at = self.loop.time() + min(max(seconds, _SOONEST_S), _LATEST_S)
        if self._timer is not None:
            if self._timer.when() <= at:
                return
            self._timer.cancel()
        self._timer = self.loop.call_at(at, self._look_now)

    def _look_now(self) -> None:
        self._timer = None
        self._look(self)


@dataclass(slots=True, eq=False)
class _Call(Generic[R]):
    """One call: its first request in the caller's own task, and a task for its hedge if it is late.

    Attributes:
        overtaken: expires when the hedge answers, and so ends the first request; a request that
            is never late costs no task.
        sent_at: when the first request went out; None until it has ended, or if it never did.
        ended_at: when it ended.
    """

    second: Callable[[Callable[[], None]], Awaitable[R]]
    may_hedge: Callable[[], bool]
    lateness: Lateness
    size: float
    watch: _Watch
    context: Context = field(default_factory=copy_context)
    overtaken: asyncio.Timeout = field(default_factory=lambda: asyncio.timeout(None))
    hedge: asyncio.Task[R] | None = None
    sent_at: float | None = None
    ended_at: float = 0.0

    async def make(self, first: Callable[[Callable[[], None]], Awaitable[R]]) -> R:
        """Makes the first request."""
        try:
            async with self.overtaken:
                return await first(self._sent)
        finally:
            self.ended_at = self.watch.clock()
            self.sent_at = self.watch.calls.pop(self, None)

    def _sent(self) -> None:
        self.watch.calls[self] = self.watch.clock()
        self.watch.look_in(self.lateness.late_after_s(self.size))

    def begin_hedge(self, sent: Callable[[], None]) -> None:
        """Makes the second request."""

        async def work() -> R:
            return await self.second(sent)

        self.hedge = self.watch.loop.create_task(work(), context=self.context)
        self.hedge.add_done_callback(self._hedge_ended)

    def _hedge_ended(self, hedge: asyncio.Task[R]) -> None:
        if _answered(hedge) and self in self.watch.calls:
            self.overtaken.reschedule(self.watch.loop.time())

    async def hedge_that_answers(self) -> asyncio.Task[R] | None:
        """The first request failed: waits for the second, if there is one and it succeeds."""
        if self.hedge is None:
            return None
        await asyncio.wait([self.hedge])
        return self.hedge if _answered(self.hedge) else None

    async def end_hedge(self) -> None:
        """Cancels the second request and waits until it has ended, whatever happens.

        In a loop that was closed nothing can be waited for: it comes to this as garbage.
        """
        if self.hedge is None or self.hedge.done() or self.watch.loop.is_closed():
            return
        self.hedge.cancel()
        cancelled = False
        while not self.hedge.done():
            try:
                await asyncio.wait([self.hedge])
            except asyncio.CancelledError:
                cancelled = True
        if cancelled:
            raise asyncio.CancelledError


def _answered(hedge: asyncio.Task[Any]) -> bool:
    """Whether it succeeded; asked of every hedge, so that asyncio complains of none that failed."""
    return not hedge.cancelled() and hedge.exception() is None
