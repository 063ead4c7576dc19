from __future__ import annotations

import asyncio
import math
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_lab.simulate.limits import Excess, RateLimits, Slots, TokenBucket, duration
from rag_lab.simulate.settings import SimulatorSettings


def limits(**values: Any) -> RateLimits:
    return RateLimits(SimulatorSettings.of(values))


def test_a_bucket_by_hand() -> None:
    bucket = TokenBucket(per_second=2, size=10)
    bucket.take(10, 0)
    assert bucket.level(0) == 0
    assert bucket.wait_s(3, 0) == pytest.approx(1.5)
    assert bucket.level(1.5) == pytest.approx(3)
    assert bucket.wait_s(3, 1.5) == 0
    assert bucket.level(100) == 10
    assert bucket.wait_s(11, 100) == math.inf


@given(
    st.floats(0.1, 100), st.floats(1, 50), st.lists(st.tuples(st.floats(0, 3), st.floats(0, 20)))
)
def test_a_bucket_never_gives_more_than_it_gets(
    per_second: float, size: float, steps: list[tuple[float, float]]
) -> None:
    bucket, now_s, taken = TokenBucket(per_second, size), 0.0, 0.0
    for pause_s, amount in steps:
        now_s += pause_s
        if bucket.wait_s(amount, now_s) == 0:
            bucket.take(amount, now_s)
            taken += amount
        assert taken <= size + per_second * now_s + 1e-6 * (1 + len(steps))
        wait_s = bucket.wait_s(size, now_s)
        assert bucket.wait_s(size, now_s + wait_s + 1e-6) == 0


def test_requests_are_counted_exactly() -> None:
    known = limits(requests_per_minute=60, burst_s=5)
    assert [known.take(1, 0.0) for _ in range(5)] == [None] * 5
    assert known.take(1, 0.0) == Excess("requests", pytest.approx(1), 5, 1)
    assert known.take(1, 0.999) is not None
    assert known.take(1, 1.0) is None
    # In 100 s come 100 more, however often it is tried: what is refused takes nothing.
    passed = sum(known.take(1, 1 + step / 10) is None for step in range(1, 1001))
    assert passed == 100


def test_tokens_are_counted_exactly_and_the_longer_wait_is_told() -> None:
    known = limits(requests_per_minute=60, tokens_per_minute=600, burst_s=10)
    assert known.take(100, 0) is None
    assert known.take(50, 0) == Excess("tokens", pytest.approx(5), 100, 50)
    assert known.take(50, 5) is None
    assert known.take(101, 60) == Excess("tokens", math.inf, 100, 101)


def test_headers_say_what_is_left() -> None:
    known = limits(requests_per_minute=60, tokens_per_minute=6_000, limit_headers="bucket")
    known.take(1_000, 0)
    assert known.headers(0) == {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "59",
        "x-ratelimit-reset-requests": "1s",
        "x-ratelimit-limit-tokens": "6000",
        "x-ratelimit-remaining-tokens": "5000",
        "x-ratelimit-reset-tokens": "10s",
    }
    assert limits().headers(0) == {}


@pytest.mark.parametrize(("style", "limit"), [("bucket", "10"), ("per-minute", "600")])
def test_scaled_time_is_told_in_the_clients_time(style: str, limit: str) -> None:
    known = limits(
        requests_per_minute=60, burst_s=10, time_scale=0.1, limit_headers=style
    )  # 10 a real second
    for _ in range(10):
        known.take(1, 0)
    headers = known.headers(0)
    assert headers["x-ratelimit-limit-requests"] == limit
    assert headers["x-ratelimit-remaining-requests"] == "0"
    assert headers["x-ratelimit-reset-requests"] == "1s"
    assert known.retry_headers(2.5) == {"retry-after": "0.3"}


@pytest.mark.parametrize(
    ("style", "headers"),
    [
        ("seconds", {"retry-after": "3"}),
        ("milliseconds", {"retry-after": "3", "retry-after-ms": "2500"}),
        ("none", {}),
        ("86400000", {"retry-after": "86400000"}),
        ("-1", {"retry-after": "-1"}),
        ("soon", {"retry-after": "soon"}),
    ],
)
def test_when_to_come_back(style: str, headers: dict[str, str]) -> None:
    known = limits(requests_per_minute=60, retry_after=style)
    assert known.retry_headers(2.5) == headers
    assert known.retry_headers(math.inf) == {}


def test_when_to_come_back_as_a_date() -> None:
    before = datetime.now(UTC)
    told = limits(requests_per_minute=60, retry_after="date").retry_headers(120)["retry-after"]
    assert 118 <= (parsedate_to_datetime(told) - before).total_seconds() <= 122


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (0.0121, "13ms"), (1, "1s"), (1.25, "1.25s"), (360, "6m0s"), (61.5, "1m1.5s")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


async def test_slots_are_given_in_order_and_follow_the_capacity() -> None:
    slots, got = Slots(1), []

    async def call(name: int) -> None:
        await slots.take()
        got.append(name)

    calls = [asyncio.create_task(call(name)) for name in range(5)]
    await asyncio.sleep(0)
    assert (got, slots.busy, slots.full) == ([0], 1, True)
    slots.resize(3)
    await asyncio.sleep(0)
    assert got == [0, 1, 2]
    slots.resize(1)
    for _ in range(2):
        slots.free()
    await asyncio.sleep(0)
    assert got == [0, 1, 2]
    slots.free()
    await asyncio.sleep(0)
    assert got == [0, 1, 2, 3]
    slots.resize(None)
    await asyncio.gather(*calls)
    assert not slots.full


@given(st.lists(st.sampled_from(["take", "free", "cancel"]), max_size=40), st.integers(1, 4))
def test_no_slot_is_lost_or_given_twice(steps: list[str], capacity: int) -> None:
    async def play() -> None:
        slots = Slots(capacity)
        holders: list[asyncio.Task[None]] = []
        for step in steps:
            if step == "take":
                holders.append(asyncio.create_task(slots.take()))
            elif step == "cancel" and holders:
                holders.pop().cancel()  # may already hold a slot: then the task's end is too late
            elif step == "free":
                done = [task for task in holders if task.done()]
                if done:
                    holders.remove(done[0])
                    slots.free()
            assert 0 <= slots.busy <= capacity
        slots.resize(None)
        await asyncio.gather(*holders)

    asyncio.run(play())


async def test_a_slot_given_to_a_call_that_is_cancelled_goes_on() -> None:
    slots = Slots(1)
    await slots.take()
    first, second = (asyncio.create_task(slots.take()) for _ in range(2))
    await asyncio.sleep(0)
    slots.free()  # gives it to the first
    first.cancel()
    await second
    assert first.cancelled()
    assert slots.busy == 1
