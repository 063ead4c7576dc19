"""The rate budget: what a minute allows, learned from headers, shared in order, never for ever."""

from __future__ import annotations

import asyncio
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_lab.errors import SettingsError
from rag_lab.gateway.budget import BudgetError, BudgetSettings, RateBudget, Taken
from rag_lab.gateway.outcomes import parse_duration
from rag_lab.gateway.waiters import Priority


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Provider:
    """A token bucket of its own, with the headers that OpenAI sends."""

    def __init__(self, clock: Clock, per_minute: float, size: float) -> None:
        self.clock, self.per_minute, self.size = clock, per_minute, size
        self._level, self._at = size, clock()

    def level(self) -> float:
        self._level += (self.clock() - self._at) * self.per_minute / 60
        self._level, self._at = min(self._level, self.size), self.clock()
        return self._level

    def ask(self, tokens: float) -> tuple[bool, dict[str, str]]:
        ok = self.level() >= tokens - 1e-6
        self._level -= tokens if ok else 0
        reset = (self.size - self._level) / (self.per_minute / 60)
        return ok, {
            "X-RateLimit-Limit-Tokens": str(self.per_minute),
            "x-ratelimit-remaining-tokens": str(math.floor(self._level)),
            "x-ratelimit-reset-tokens": f"{reset:.3f}s",
        }


def budget(clock: Clock | None = None, **settings: float) -> RateBudget:
    """A budget of a provider that has answered before."""
    made = RateBudget(BudgetSettings(**settings), clock or Clock())  # type: ignore[arg-type]
    made.learn({})
    return made


async def granted(task: asyncio.Task[Taken]) -> bool:
    for _ in range(5):
        await asyncio.sleep(0)
    return task.done()


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def test_without_limits_nothing_waits() -> None:
    limits = budget()
    for _ in range(100):
        await limits.acquire(1e9)
    left = limits.left()
    assert (left.requests, left.tokens, left.waiting, left.paused_s) == (None, None, 0, 0)


async def test_a_provider_that_has_said_nothing_is_not_asked_by_all_at_once(clock: Clock) -> None:
    limits = RateBudget(clock=clock)
    tasks = [asyncio.create_task(limits.acquire(10)) for _ in range(6)]
    assert [await granted(task) for task in tasks] == [True, True, False, False, False, False]
    limits.learn({})
    assert all([await granted(task) for task in tasks])


async def test_what_was_sent_before_the_first_reply_is_counted(clock: Clock) -> None:
    limits = RateBudget(clock=clock)
    taken = [await limits.acquire() for _ in range(2)]
    limits.learn(
        {"x-ratelimit-limit-requests": "600", "x-ratelimit-remaining-requests": "2"}, taken[0]
    )
    assert limits.left().requests == 1


async def test_a_provider_that_never_answers_is_asked_all_the_same() -> None:
    limits = RateBudget()
    async with asyncio.timeout(5):
        await asyncio.gather(*(limits.acquire(10) for _ in range(6)))
    assert limits.left().waiting == 0


async def test_what_is_given_back_may_be_asked_for_again(clock: Clock) -> None:
    limits = budget(clock, requests_per_minute=1, tokens_per_minute=100)
    await limits.acquire(100)
    waiting = asyncio.create_task(limits.acquire(100))
    assert not await granted(waiting)
    limits.give_back(100)
    assert await granted(waiting)


async def test_tokens_may_be_asked_for_later_than_the_request(clock: Clock) -> None:
    limits = budget(clock, requests_per_minute=1, tokens_per_minute=100)
    await limits.acquire(0)
    await limits.acquire(60, requests=0.0)
    left = limits.left()
    assert (left.requests, left.tokens) == (0, 40)


async def test_a_minute_may_be_spent_at_once_then_it_flows(clock: Clock) -> None:
    limits = budget(clock, requests_per_minute=60, tokens_per_minute=600)
    for _ in range(6):
        await limits.acquire(100)
    assert limits.left().tokens == pytest.approx(0)
    assert limits.wait_s(50) == pytest.approx(5)
    clock.now += 4
    assert limits.wait_s(50) == pytest.approx(1)
    clock.now += 100
    assert limits.left().requests == 60  # full, no more


async def test_time_scale(clock: Clock) -> None:
    limits = budget(clock, tokens_per_minute=600, time_scale=0.1)
    await limits.acquire(600)
    assert limits.wait_s(600) == pytest.approx(6)


async def test_more_than_the_whole_budget_is_said_at_once() -> None:
    limits = budget(tokens_per_minute=1_000)
    with pytest.raises(BudgetError, match=r"1,001 tokens, but 1,000 a minute .* Make batches"):
        await limits.acquire(1_001)
    assert limits.left().tokens == 1_000


async def test_a_limit_learned_while_waiting_is_said_too(clock: Clock) -> None:
    limits = budget(clock)
    limits.pause_until(clock() + 1, "test")
    task = asyncio.create_task(limits.acquire(500))
    assert not await granted(task)
    limits.learn({"x-ratelimit-limit-tokens": "400", "x-ratelimit-remaining-tokens": "400"})
    clock.now += 1
    limits.learn({})
    with pytest.raises(BudgetError, match="500 tokens, but 400"):
        await task
    assert limits.left().tokens == 400


async def test_large_requests_do_not_starve(clock: Clock) -> None:
    limits = budget(clock, tokens_per_minute=600)
    await limits.acquire(600)
    large = asyncio.create_task(limits.acquire(500))
    await granted(large)
    small = [asyncio.create_task(limits.acquire(1)) for _ in range(5)]
    clock.now += 49
    limits.learn({})
    assert not await granted(small[0])
    clock.now += 2
    limits.learn({})
    assert await granted(large)
    assert await granted(small[-1])


async def test_interactive_goes_before_bulk(clock: Clock) -> None:
    limits = budget(clock, requests_per_minute=60)
    for _ in range(60):
        await limits.acquire()
    order: list[str] = []

    async def caller(name: str, priority: Priority) -> None:
        await limits.acquire(priority=priority)
        order.append(name)

    asked: list[tuple[str, Priority]] = [("a", "bulk"), ("b", "interactive"), ("c", "bulk")]
    tasks = [asyncio.create_task(caller(*one)) for one in asked]
    await asyncio.sleep(0)
    for _ in range(3):
        clock.now += 1
        limits.learn({})
        for _ in range(3):
            await asyncio.sleep(0)
    await asyncio.gather(*tasks)
    assert order == ["b", "a", "c"]


async def test_one_pause_for_everybody_extended_not_stacked(clock: Clock) -> None:
    limits = budget(clock)
    limits.pause_until(clock() + 5, "429")
    limits.pause_until(clock() + 3, "429")  # shorter: nothing new
    task = asyncio.create_task(limits.acquire())
    assert not await granted(task)
    clock.now += 4
    limits.pause_until(clock() + 5, "429")
    assert limits.left().paused_s == pytest.approx(5)
    assert [change.reason for change in limits.history] == ["paused for 5 s: 429"] * 2
    clock.now += 5
    limits.learn({})
    assert await granted(task)


async def test_a_pause_ends_by_itself() -> None:
    limits = RateBudget()
    limits.pause_until(limits._clock() + 0.005, "429")
    await asyncio.wait_for(asyncio.gather(*(limits.acquire() for _ in range(3))), 1)


def test_cancelled_waiters_lose_nothing(clock: Clock) -> None:
    async def play() -> None:
        limits = budget(clock, tokens_per_minute=600)
        await limits.acquire(600)
        first, second = (asyncio.create_task(limits.acquire(100)) for _ in range(2))
        await asyncio.sleep(0)
        clock.now += 10
        limits.learn({})  # the first is granted…
        first.cancel()  # …and cancelled before it runs: its tokens go to the second
        assert await granted(second)
        assert limits.left().tokens == pytest.approx(0)
        assert limits.left().waiting == 0

    asyncio.run(play())


def test_another_loop_may_go_on(clock: Clock) -> None:
    limits = budget(clock, requests_per_minute=60)
    loop = asyncio.new_event_loop()
    for _ in range(60):
        loop.run_until_complete(limits.acquire())
    task = loop.create_task(limits.acquire())
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    clock.now += 1
    asyncio.run(asyncio.wait_for(limits.acquire(), 1))
    assert limits.left().waiting == 0
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    task.get_coro().close()  # type: ignore[union-attr]


def test_learns_from_headers(clock: Clock) -> None:
    limits = budget(clock)
    limits.learn(
        {
            "X-RateLimit-Limit-Requests": "500",
            "x-ratelimit-remaining-requests": "100",
            "x-ratelimit-reset-requests": "48s",
            "x-ratelimit-limit-tokens": "abc",
            "x-ratelimit-remaining-tokens": "-5",
        }
    )
    left = limits.left()
    assert (left.requests, left.requests_per_minute, left.tokens) == (100, 500, None)
    assert [change.reason for change in limits.history] == [
        "500 requests a minute, says the provider"
    ]
    clock.now += 6
    assert limits.left().requests == pytest.approx(150)


async def test_what_is_set_caps_what_is_learned(clock: Clock) -> None:
    limits = budget(clock, requests_per_minute=100)
    limits.learn({"x-ratelimit-limit-requests": "500", "x-ratelimit-remaining-requests": "500"})
    assert limits.left().requests_per_minute == 100


async def test_stale_headers_of_a_slow_reply_do_not_hide_what_was_sent_since(clock: Clock) -> None:
    limits = budget(clock, requests_per_minute=60)
    slow = await limits.acquire()
    for _ in range(40):
        await limits.acquire()
    clock.now += 3  # 3 more have flowed in
    limits.learn({"x-ratelimit-remaining-requests": "59"}, slow)
    assert limits.left().requests == pytest.approx(60 - 41 + 3)
    limits.learn({"x-ratelimit-remaining-requests": "10"}, slow)  # somebody else sends, too
    assert limits.left().requests == pytest.approx(13)


@given(
    burst_s=st.sampled_from([3.0, 10.0, 60.0]),
    delays=st.lists(st.floats(0, 8), min_size=20, max_size=60),
    sizes=st.lists(st.integers(1, 30), min_size=60, max_size=60),
)
def test_converges_to_the_provider(burst_s: float, delays: list[float], sizes: list[int]) -> None:
    """Replies come late and out of order; still few requests are refused."""
    clock = Clock()
    provider, limits = Provider(clock, 600, 10 * burst_s), budget(clock)
    refused, replies = 0, []
    for delay, size in zip(delays, sizes, strict=False):
        for due, taken, headers in [reply for reply in replies if reply[0] <= clock()]:
            limits.learn(headers, taken)
            replies.remove((due, taken, headers))
        clock.now += limits.wait_s(size)
        taken = limits._take(1, size)
        ok, headers = provider.ask(size)
        refused += not ok
        replies.append((clock() + delay, taken, headers))
        if not ok:
            limits.pause_until(clock() + (size - provider.level()) / 10, "429")
            limits.learn(headers, taken)
    clock.now += 8
    for _, taken, headers in replies:
        limits.learn(headers, taken)
    assert refused <= 3 + 0.3 * len(delays) if burst_s < 60 else refused <= 3
    tokens = limits.left().tokens
    assert tokens is not None
    assert tokens <= provider.level() + 81  # 8 s old headers allow what flowed in since


@pytest.mark.parametrize("burst_s", [6.0, 60.0])
@pytest.mark.parametrize("late_s", [0.2, 5.0])
def test_nothing_of_the_minute_is_left_unused(burst_s: float, late_s: float) -> None:
    clock = Clock()
    provider, limits = Provider(clock, 600, 10 * burst_s), budget(clock)
    began, refused, done = clock(), 0, 0
    replies: list[tuple[float, Taken, dict[str, str]]] = []
    while done < 300:
        while replies and replies[0][0] <= clock():
            _, taken, headers = replies.pop(0)
            limits.learn(headers, taken)
        wait_s = limits.wait_s(10)
        if wait_s > 0:
            clock.now = min(clock() + wait_s, *(reply[0] for reply in replies[:1]), 1e9)
            continue
        taken = limits._take(1, 10)
        ok, headers = provider.ask(10)
        done, refused = done + ok, refused + (not ok)
        replies.append((clock() + late_s, taken, headers))
        if not ok:  # a refusal comes at once, with its Retry-After
            limits.learn(headers, taken)
            limits.pause_until(clock() + math.ceil((10 - provider.level()) / 10), "429")
    ideal_s = (3_000 - 10 * burst_s) / 10
    assert clock() - began <= 1.05 * ideal_s + 2
    assert refused <= 3 + 0.05 * 300


@given(st.lists(st.tuples(st.integers(1, 100), st.floats(0, 5)), max_size=40))
def test_never_more_than_a_bucket_and_what_flows_in(steps: list[tuple[int, float]]) -> None:
    clock = Clock()
    limits, sent = budget(clock, tokens_per_minute=600), 0.0
    began = clock()
    for size, pause in steps:
        clock.now += pause
        if limits.wait_s(size) == 0:
            limits._take(1, size)
            sent += size
        assert sent <= 600 + (clock() - began) * 10 + 1e-3


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("6m0s", 360), ("120ms", 0.12), ("1s", 1), ("1h2m3.5s", 3723.5), ("0s", 0), ("12.5", 12.5)],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", None, "soon", "1s?", "-1", "nan", "inf", "2026-01-01T00:00Z"])
def test_no_durations(text: str | None) -> None:
    assert parse_duration(text) is None


def test_settings_must_be_above_zero() -> None:
    with pytest.raises(SettingsError, match="tokens_per_minute must be above 0, got 0"):
        BudgetSettings(tokens_per_minute=0)
