"""Retries: what may pass, as often as all calls together may, and never past the deadline."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from email.utils import format_datetime

import httpx
import openai
import pytest
import stamina
from hypothesis import given
from hypothesis import strategies as st

from rag_lab.errors import SettingsError
from rag_lab.gateway.outcomes import (
    Outcome,
    classify,
    classify_status,
    parse_retry_after,
    retry_after,
    retry_after_of,
)
from rag_lab.gateway.reply import ReplyDimensionError, UnreadableReplyError
from rag_lab.gateway.retry import Attempt, RetryBudget, RetryPolicy, with_retries

REQUEST = httpx.Request("POST", "http://127.0.0.1:1/v1/embeddings")


def status_error(
    status: int, code: str | None = None, message: str = "no", **headers: str
) -> openai.APIStatusError:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    response = httpx.Response(status, headers=names, request=REQUEST)
    kind = {429: openai.RateLimitError, 400: openai.BadRequestError}.get(
        status, openai.APIStatusError
    )
    return kind(message, response=response, body={"code": code, "message": message})


@pytest.fixture
def no_waiting() -> Iterator[None]:
    with stamina.set_testing(True, attempts=100):
        yield


class Script:
    """A call that fails as told, then answers."""

    def __init__(self, *errors: BaseException) -> None:
        self.errors = list(errors)
        self.calls = 0

    async def __call__(self) -> str:
        self.calls += 1
        await asyncio.sleep(0)
        if self.errors:
            raise self.errors.pop(0)
        return "answer"


@pytest.mark.parametrize(
    ("status", "code", "message", "outcome"),
    [
        (200, None, "", "ok"),
        (400, None, "bad text", "rejected_input"),
        (400, "context_length_exceeded", "", "too_large"),
        (400, None, "This model's maximum context length is 8192 tokens", "too_large"),
        (401, None, "", "auth"),
        (402, None, "", "auth"),
        (403, None, "", "auth"),
        (404, "model_not_found", "", "not_found"),
        (408, None, "", "timeout"),
        (409, None, "", "server_error"),
        (413, None, "", "too_large"),
        (422, None, "", "rejected_input"),
        (429, "rate_limit_exceeded", "", "throttled"),
        (429, "insufficient_quota", "", "auth"),
        (429, None, "Request too large for x: Limit 30000, Requested 40000", "too_large"),
        (500, None, "", "server_error"),
        (500, None, "maximum context length", "server_error"),
        (504, None, "", "timeout"),
        (529, None, "", "server_error"),
    ],
)
def test_status(status: int, code: str | None, message: str, outcome: str) -> None:
    assert classify_status(status, code, message) == outcome
    if status >= 400:
        assert classify(status_error(status, code, message)) == outcome


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (None, "ok"),
        (asyncio.CancelledError(), "cancelled"),
        (openai.APITimeoutError(REQUEST), "timeout"),
        (openai.APIConnectionError(request=REQUEST), "connection"),
        (TimeoutError(), "timeout"),
        (ConnectionResetError(), "connection"),
        (UnreadableReplyError("cut off"), "server_error"),
        (ReplyDimensionError("3 for 4"), "rejected_input"),
        (ValueError("ours"), "unknown"),
    ],
)
def test_exceptions(error: BaseException | None, outcome: str) -> None:
    assert classify(error) == outcome


def test_what_may_pass_and_what_counts_for_the_breaker() -> None:
    assert {o for o in Outcome if o.may_pass} == {
        Outcome.THROTTLED,
        Outcome.TIMEOUT,
        Outcome.CONNECTION,
        Outcome.SERVER_ERROR,
    }
    assert {o for o in Outcome if o.may_pass and not o.provider_failed} == {Outcome.THROTTLED}


NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("3", 3),
        ("0.25", 0.25),
        (" 7 ", 7),
        ("-5", 0),
        ("3600", 60),
        ("inf", 60),
        ("1e400", 60),
        (format_datetime(NOW.replace(second=20), usegmt=True), 20),
        (format_datetime(NOW.replace(hour=11), usegmt=True), 0),
        (format_datetime(NOW.replace(year=2036), usegmt=True), 60),
        ("Thu, 01 Jan 2026 12:00:05 -0000", 5),
    ],
)
def test_retry_after(value: str, seconds: float) -> None:
    assert parse_retry_after(value, NOW.timestamp()) == pytest.approx(seconds)


@pytest.mark.parametrize("value", [None, "", "soon", "nan", "Thu, 99 Jan 2026 12:00:05 GMT"])
def test_no_retry_after(value: str | None) -> None:
    assert parse_retry_after(value, NOW.timestamp()) is None


@given(st.text(max_size=30))
def test_any_retry_after_is_bounded(value: str) -> None:
    seconds = parse_retry_after(value, NOW.timestamp())
    assert seconds is None or 0 <= seconds <= 60


def test_milliseconds_are_more_exact() -> None:
    assert retry_after_of({"Retry-After": "1", "Retry-After-Ms": "120"}, 0) == pytest.approx(0.12)
    assert retry_after(status_error(429, retry_after="2"), 0) == 2
    assert retry_after(ValueError(), 0) is None


@pytest.mark.usefixtures("no_waiting")
@pytest.mark.parametrize("error", [status_error(503), TimeoutError(), ConnectionError()])
async def test_what_may_pass_is_tried_again(error: Exception) -> None:
    call, seen = Script(error, error), list[Attempt]()
    assert await with_retries(call, on_attempt=seen.append) == "answer"
    assert [attempt.number for attempt in seen] == [1, 2, 3]
    assert [attempt.outcome for attempt in seen] == [classify(error)] * 2 + [Outcome.OK]
    assert seen[0].backoff_s is not None
    assert (seen[-1].backoff_s, seen[-1].stopped) == (None, "")


@pytest.mark.usefixtures("no_waiting")
@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422])
async def test_what_cannot_pass_fails_at_once(status: int) -> None:
    call, seen = Script(status_error(status)), list[Attempt]()
    with pytest.raises(openai.APIStatusError):
        await with_retries(call, on_attempt=seen.append)
    assert call.calls == 1
    assert [attempt.stopped for attempt in seen] == ["it would fail again"]


@pytest.mark.usefixtures("no_waiting")
async def test_our_own_errors_are_not_hidden() -> None:
    call = Script(KeyError("ours"))
    with pytest.raises(KeyError):
        await with_retries(call)
    assert call.calls == 1


@pytest.mark.usefixtures("no_waiting")
async def test_attempts_are_counted_and_refusals_more_patiently() -> None:
    policy = RetryPolicy(attempts=3, throttled_attempts=6)
    call = Script(*[status_error(503)] * 9)
    with pytest.raises(openai.APIStatusError):
        await with_retries(call, policy)
    assert call.calls == 3
    call = Script(*[status_error(429)] * 9)
    with pytest.raises(openai.RateLimitError):
        await with_retries(call, policy)
    assert call.calls == 6


async def test_total_time_is_bounded() -> None:
    times = iter(range(0, 1_000, 10))
    call = Script(*[status_error(503)] * 99)
    policy = RetryPolicy(attempts=50, throttled_attempts=50, total_s=60, backoff_s=0)
    seen: list[Attempt] = []
    with pytest.raises(openai.APIStatusError):
        await with_retries(call, policy, on_attempt=seen.append, clock=lambda: float(next(times)))
    assert seen[-1].stopped == "60 s of retrying"
    assert call.calls < 5


async def test_no_attempt_begins_that_would_wait_past_the_deadline() -> None:
    call, seen = Script(*[status_error(429, retry_after="30")] * 9), list[Attempt]()
    with pytest.raises(openai.RateLimitError):
        await with_retries(call, deadline=105.0, clock=lambda: 100.0, on_attempt=seen.append)
    assert call.calls == 1
    assert seen[0].stopped == "the deadline"


async def test_an_attempt_is_cut_off_at_the_deadline() -> None:
    seen: list[Attempt] = []
    clock = asyncio.get_running_loop().time
    with pytest.raises(TimeoutError):
        await with_retries(
            lambda: asyncio.sleep(60), deadline=clock() + 0.003, clock=clock, on_attempt=seen.append
        )
    assert [attempt.outcome for attempt in seen] == [Outcome.TIMEOUT]


@pytest.mark.usefixtures("no_waiting")
async def test_retry_after_pauses_everyone_once() -> None:
    asked: list[float] = []
    seen: list[Attempt] = []
    call = Script(status_error(429, retry_after="7"))
    await with_retries(call, pause=lambda s, why: asked.append(s), on_attempt=seen.append)
    assert asked == [7]
    assert seen[0].backoff_s == 0  # the shared pause is the wait
    call = Script(status_error(429, retry_after="7"))
    await with_retries(call, on_attempt=seen.append)
    assert seen[2].backoff_s == pytest.approx(7, abs=0.71)


def test_full_jitter() -> None:
    policy = RetryPolicy(backoff_s=1, max_backoff_s=5)
    assert [policy.ceiling_s(n) for n in (1, 2, 3, 4, 1_000)] == [1, 2, 4, 5, 5]


@given(st.lists(st.sampled_from(["ok", "503", "429", "400"]), max_size=150))
def test_the_budget_holds_over_all_calls(outcomes: list[str]) -> None:
    budget, seen = RetryBudget(), list[Attempt]()

    async def one(kind: str) -> None:
        error = status_error(int(kind)) if kind != "ok" else None
        call = Script(*[error] * 99) if error and kind != "429" else Script(*[error] * bool(error))  # type: ignore[list-item]
        await with_retries(call, budget=budget, on_attempt=seen.append)

    async def all_of_them() -> None:
        await asyncio.gather(*(one(kind) for kind in outcomes), return_exceptions=True)

    with stamina.set_testing(True, attempts=100):
        asyncio.run(all_of_them())
    paid = sum(a.backoff_s is not None and a.outcome is Outcome.SERVER_ERROR for a in seen)
    succeeded = sum(a.outcome is Outcome.OK for a in seen)
    assert succeeded == sum(kind in ("ok", "429") for kind in outcomes)
    assert paid <= 10 + 0.2 * succeeded
    assert budget.left == pytest.approx(min(100, 10 + 0.2 * succeeded - paid))


async def test_retries_that_wait_in_backoff_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "uniform", lambda low, high: 30.0)
    budget = RetryBudget(reserve=2)
    tasks = [
        asyncio.create_task(with_retries(Script(status_error(503)), budget=budget))
        for _ in range(5)
    ]
    for _ in range(10):
        await asyncio.sleep(0)
    assert [task.done() for task in tasks] == [False, False, True, True, True]
    assert budget.left == 0
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert budget.left == 2  # what was never made is given back


@pytest.mark.usefixtures("no_waiting")
async def test_a_cancelled_attempt_is_told_and_not_retried() -> None:
    seen: list[Attempt] = []
    task = asyncio.create_task(with_retries(lambda: asyncio.sleep(60), on_attempt=seen.append))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [(a.outcome, a.stopped) for a in seen] == [(Outcome.CANCELLED, "cancelled")]


@pytest.mark.parametrize(
    "make",
    [
        lambda: RetryPolicy(attempts=0),
        lambda: RetryPolicy(attempts=5, throttled_attempts=4),
        lambda: RetryBudget(share=-1),
    ],
)
def test_settings(make: Callable[[], object]) -> None:
    with pytest.raises(SettingsError, match="got"):
        make()
