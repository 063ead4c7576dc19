"""What all calls to one provider and model share, and how one of them is made.

From outside to inside, each for a reason:

    retry        outermost: every attempt pays everything below again, and waits outside a slot
    hedge        a second attempt beside a late one is an attempt like any other
    breaker      looked at before the wait, so that nobody queues for a provider that is down,
                 and again after it, for it may have gone down meanwhile
    rate budget  before the slot: what waits for the minute to pass holds no slot; only the tokens
                 of questions are asked for later, for they are known once they ride together
    limit        last: a slot is held only while a call is on its way
    call         the request itself
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
import openai

from rag_lab.errors import ProviderError
from rag_lab.gateway.breaker import Breaker, Permit
from rag_lab.gateway.budget import BudgetSettings, RateBudget, Taken
from rag_lab.gateway.hedge import Hedger, HedgeSettings
from rag_lab.gateway.limiter import AdaptiveLimiter, Slot
from rag_lab.gateway.outcomes import Outcome, classify, retry_after
from rag_lab.gateway.retry import Attempt, RetryBudget, RetryPolicy, with_retries
from rag_lab.gateway.waiters import Priority
from rag_lab.records import Stage, Usage
from rag_lab.settings import GatewaySettings
from rag_lab.telemetry import ProviderFigures
from rag_lab.telemetry.trace import Trace, clock

WINDOW_S = 60.0
"""How far back the figures of `recent` reach."""
_RECENT = 2_000
_LEARNT = 0.5
_LEARNT_FROM = 1_000
_TOKENS_MARGIN = 1.02


class Reply(Protocol):
    """What a lane reads of a reply."""

    @property
    def headers(self) -> Mapping[str, str]:
        """Of the response."""
        ...

    @property
    def decode_s(self) -> float:
        """Seconds from bytes to values."""
        ...


R = TypeVar("R", bound=Reply)


@dataclass(frozen=True, slots=True)
class Recent:
    """A call that ended: when (on `time.monotonic`), how, and after how many seconds."""

    at: float
    outcome: Outcome
    seconds: float


@dataclass(slots=True)
class Ticket:
    """The right to send one request: a slot, a request of the rate budget, and tokens of it."""

    slot: Slot
    taken: Taken
    tokens: float
    spans: Mapping[Stage, tuple[float, float]]
    sent: bool = False


@dataclass(frozen=True, slots=True)
class Ask:
    """What a request is, apart from the request itself.

    Attributes:
        kind: which requests it is like, for comparing latencies.
        tokens: estimated tokens of the prompt, and of the answer where there is one.
        items: texts, or 1.
        hedge: whether a second one may be sent if it is late.
    """

    kind: Hashable
    priority: Priority
    tokens: float
    items: int = 1
    hedge: bool = False


class Lane:
    """One provider and model. Bound to no event loop.

    Attributes:
        name: model and host, for people.
        usage: what was used; a call shared by several requests counts once.
        answered: calls that brought an answer.
        last_answer_at: when the last one came, on `time.monotonic`.
        tokens_factor: tokens as the provider counts them, for one that we estimate.
    """

    def __init__(self, name: str, settings: GatewaySettings) -> None:
        self.name = name
        self.settings = settings
        self.limiter = AdaptiveLimiter()
        if settings.concurrency is not None:
            self.limiter.fix(settings.concurrency)
        self.budget = RateBudget(
            BudgetSettings(settings.requests_per_minute, settings.tokens_per_minute)
        )
        self.breaker = Breaker()
        self.retry_budget = RetryBudget()
        self.hedger = Hedger(HedgeSettings())
        self.usage = Usage()
        self.answered = 0
        self.last_answer_at = time.monotonic()
        self.tokens_factor = 1.0
        self._recent: deque[Recent] = deque(maxlen=_RECENT)

    @property
    def recent(self) -> list[Recent]:
        """The calls that ended within the last minute."""
        since = time.monotonic() - WINDOW_S
        return [call for call in self._recent if call.at >= since]

    @asynccontextmanager
    async def admit(self, priority: Priority, tokens: float | None = None) -> AsyncIterator[Ticket]:
        """Waits until one request may be sent.

        Args:
            priority: whom it may overtake.
            tokens: of the request. If None, `request` asks the budget for them before it sends.

        Raises:
            ProviderFailingError: the provider is failing; nothing was waited for.
            ProviderError: its limits let no question through for longer than one may wait.
            BudgetError: the request is larger than what is allowed in a minute.
        """
        self.breaker.check()
        if priority == "interactive":
            self._check_patience(tokens or 0.0)
        asked = clock()
        taken = await self.budget.acquire(tokens or 0.0, priority=priority)
        within_budget = clock()
        ticket: Ticket | None = None
        try:
            while True:
                async with self.limiter.slot(priority=priority) as slot:
                    if self._paused_s() <= 0:
                        spans: dict[Stage, tuple[float, float]] = {
                            "budget": (asked, within_budget),
                            "limiter": (within_budget, clock()),
                        }
                        ticket = Ticket(slot, taken, tokens or 0.0, spans)
                        yield ticket
                        return
                # A pause that began while it stood in the limiter's line holds for it too.
                await asyncio.sleep(self._paused_s())
        finally:
            if ticket is None or not ticket.sent:
                self.budget.give_back(ticket.tokens if ticket else tokens or 0.0)

    async def request(
        self,
        call: Callable[[], Awaitable[R]],
        ask: Ask,
        trace: Trace,
        *,
        patience_s: float,
        attempts: int | None = None,
        ticket: Ticket | None = None,
    ) -> R:
        """One request, tried until it succeeds or may not be tried again.

        Args:
            call: the request itself.
            ask: what it is.
            trace: gets the spans, retries and hedges.
            patience_s: no attempt begins later than this after the first failure.
            attempts: at most; those of the settings if None.
            ticket: for the first attempt, if the caller has one; its tokens are not paid yet.

        Raises:
            Exception: that of the last attempt, as `openai` or `reply.py` raises it;
                ProviderFailingError, BudgetError.
        """
        tokens = self._tokens(ask)

        async def first(sent: Callable[[], None]) -> R:
            nonlocal ticket
            held, ticket = ticket, None  # a retry takes one of its own
            if held is None:
                return await another(sent)
            asked = clock()
            held.taken = await self.budget.acquire(tokens, requests=0.0, priority=ask.priority)
            held.tokens = tokens
            trace.add("budget", asked, clock())
            return await self._send(call, ask, trace, held, sent)

        async def another(sent: Callable[[], None]) -> R:
            async with self.admit(ask.priority, tokens) as fresh:
                return await self._send(call, ask, trace, fresh, sent)

        async def hedge(sent: Callable[[], None]) -> R:
            def noted() -> None:
                self.spend(trace, Usage(hedges=1))
                sent()

            return await another(noted)

        async def attempt() -> R:
            if not ask.hedge:
                return await first(_unheard)
            return await self.hedger.run(
                first, hedge, kind=ask.kind, size=ask.items, may_hedge=self._may_hedge
            )

        def note(tried: Attempt) -> None:
            if tried.backoff_s is not None:
                self.spend(trace, Usage(retries=1))
                trace.add("backoff", clock(), clock() + tried.backoff_s)

        most = attempts or self.settings.attempts
        policy = RetryPolicy(most, throttled_attempts=max(12, most), total_s=patience_s)
        return await with_retries(
            attempt, policy, budget=self.retry_budget, on_attempt=note, pause=_paused
        )

    async def _send(
        self,
        call: Callable[[], Awaitable[R]],
        ask: Ask,
        trace: Trace,
        ticket: Ticket,
        sent: Callable[[], None],
    ) -> R:
        """One attempt with a ticket; everyone who learns from its outcome is told."""
        for stage, (began, ended) in ticket.spans.items():
            trace.add(stage, began, ended)
        with self.breaker.guard() as permit:
            ticket.sent = True
            sent()
            began = clock()
            try:
                reply = await call()
            except BaseException as error:
                trace.add("call", began, clock())
                self._failed(error, clock() - began, ask, ticket, permit)
                raise
            ended = clock() - reply.decode_s
            trace.add("call", began, ended)
            trace.add("decode", ended, clock())
            ticket.slot.succeeded(ended - began, ask.items)
            permit.succeeded()
            self.budget.learn(reply.headers, ticket.taken)
            self._note(Outcome.OK, ended - began)
            self.answered += 1
            self.last_answer_at = time.monotonic()
            return reply

    def _failed(
        self, error: BaseException, seconds: float, ask: Ask, ticket: Ticket, permit: Permit
    ) -> None:
        outcome = classify(error)
        if outcome in (Outcome.CANCELLED, Outcome.UNKNOWN):
            return  # the slot and the permit go back unused: nothing was learned
        self._note(outcome, seconds)
        asked_s = retry_after(error, time.time()) or 0.0
        if asked_s and outcome.may_pass:  # first, for what is learned may let others through
            self._pause(asked_s, f"the provider asked for it ({outcome})")
        if isinstance(error, openai.APIStatusError):
            refused = outcome is Outcome.THROTTLED
            self.budget.learn(error.response.headers, ticket.taken, refused=refused)
        if outcome.provider_failed:
            permit.failed(outcome)
        else:
            permit.succeeded()  # it answered
        match outcome:
            case Outcome.THROTTLED if self._used_up(self._tokens(ask)):
                ticket.slot.give_back()  # fewer at once would not help
            case Outcome.THROTTLED:
                ticket.slot.throttled(asked_s)
            case Outcome.TIMEOUT:
                ticket.slot.timed_out()
            case Outcome.CONNECTION | Outcome.SERVER_ERROR:
                ticket.slot.failed()
            case _:
                ticket.slot.give_back()

    def spend(self, trace: Trace, usage: Usage) -> None:
        """Counts something used, for this lane and for the request."""
        self.usage += usage
        trace.spend(usage)

    def figures(self) -> ProviderFigures:
        """The figures of this moment, for judging its health."""
        recent = self.recent
        answered = [call.seconds for call in recent if call.outcome is Outcome.OK]
        failed = sum(call.outcome.provider_failed for call in recent)
        throttled = sum(call.outcome is Outcome.THROTTLED for call in recent)
        left = self.budget.left()
        retry_at = self.breaker.retry_at
        return ProviderFigures(
            name=self.name,
            limit=self.limiter.limit,
            in_flight=self.limiter.in_flight,
            waiting=self.limiter.waiting,
            calls=len(recent),
            error_share=failed / len(recent) if recent else 0.0,
            throttled_share=throttled / len(recent) if recent else 0.0,
            breaker=self.breaker.state,
            breaker_reason=self.breaker.history[-1].reason,
            retry_in_s=None if retry_at is None else max(0.0, retry_at - time.monotonic()),
            requests_left_share=_share(left.requests, left.requests_per_minute),
            tokens_left_share=_share(left.tokens, left.tokens_per_minute),
            paused_s=left.paused_s,
            p50_s=_quantile(answered, 0.5),
            p95_s=_quantile(answered, 0.95),
        )

    def counted(self, estimated: float, tokens: int | None) -> None:
        """Learns what the provider counts for an estimate; a small one says little."""
        if tokens and estimated:
            weight = _LEARNT * min(1.0, estimated / _LEARNT_FROM)
            self.tokens_factor += weight * (tokens / estimated - self.tokens_factor)

    def _tokens(self, ask: Ask) -> float:
        """What to ask of the budget; a little more, for a little less is refused as a whole."""
        return _TOKENS_MARGIN * self.tokens_factor * ask.tokens

    def _note(self, outcome: Outcome, seconds: float) -> None:
        self._recent.append(Recent(time.monotonic(), outcome, seconds))

    def _check_patience(self, tokens: float) -> None:
        wait_s = self.budget.wait_s(tokens)
        if wait_s > self.settings.question_patience_s:
            raise ProviderError(
                f"{self.name} lets nothing through for {wait_s:.0f} s (its rate limit), and a "
                f"question waits for {self.settings.question_patience_s:g} s at most "
                "(RAG_LAB_GATEWAY_QUESTION_PATIENCE_S)."
            )

    def _may_hedge(self) -> bool:
        """Only with a free slot that nobody waits for, at a provider in good health."""
        limiter = self.limiter
        return (
            self.breaker.state == "working"
            and not limiter.waiting
            and limiter.in_flight < limiter.limit
            and self.budget.wait_s(0) <= 0
        )

    def _used_up(self, tokens: float) -> bool:
        """Whether what is known to be left of the minute does not reach for such a request."""
        left = self.budget.left()
        return (left.requests is not None and left.requests < 1) or (
            left.tokens is not None and left.tokens < tokens
        )

    def _pause(self, seconds: float, reason: str) -> None:
        self.budget.pause_until(time.monotonic() + seconds, reason)

    def _paused_s(self) -> float:
        return self.budget.paused_until - time.monotonic()

    def __repr__(self) -> str:
        return f"Lane({self.name!r}, limit={self.limiter.limit}, {self.breaker.state})"


def _unheard() -> None:
    """For attempts that are not hedged."""


def _paused(seconds: float, reason: str) -> None:
    """For `with_retries`: whoever saw the failure has paused everyone."""


def _share(left: float | None, limit: float | None) -> float | None:
    return None if left is None or not limit else left / limit


def _quantile(values: list[float], q: float) -> float | None:
    return float(np.quantile(values, q)) if values else None
