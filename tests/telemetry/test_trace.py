"""A trace belongs to one request, counts from its scheduled start, and hands on what it used."""

from __future__ import annotations

import asyncio

import pytest

from rag_lab.records import Span, Stage, Timing, Usage
from rag_lab.sync import run_sync
from rag_lab.telemetry import Trace, current_trace, degrade, spend, stage, trace, tracing


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The clock: its only element is now."""
    moment = [100.0]
    monkeypatch.setattr(trace, "clock", lambda: moment[0])
    return moment


def test_without_a_request_nothing_is_kept() -> None:
    with stage("call"):
        spend(Usage(calls=1))
        degrade("no model")
    assert current_trace() is None


def test_spans_count_from_the_scheduled_start(now: list[float]) -> None:
    with tracing(scheduled_at=99.0) as request:
        request.add("queue", request.scheduled_at, now[0])
        with stage("call"):
            now[0] = 102.5
        now[0] = 103.0
        assert request.timing() == Timing(
            total_s=4.0,
            stages_s={"queue": 1.0, "call": 2.5},
            spans=(Span("queue", 0.0, 1.0), Span("call", 1.0, 3.5)),
        )


def test_a_request_without_a_schedule_starts_now(now: list[float]) -> None:
    with tracing() as request:
        now[0] += 2
    assert request.scheduled_at == 100.0
    assert request.timing(ended_at=101.5).total_s == 1.5


def test_a_stage_that_happens_twice_is_summed_and_spans_are_in_order_of_begin() -> None:
    request = Trace(scheduled_at=10.0)
    request.add("call", 13.0, 14.0)
    request.add("backoff", 12.0, 13.0)
    request.add("call", 11.0, 12.0)
    timing = request.timing(ended_at=15.0)
    assert [(span.stage, span.began_s) for span in timing.spans] == [
        ("call", 1.0),
        ("backoff", 2.0),
        ("call", 3.0),
    ]
    assert timing.stages_s == {"call": 2.0, "backoff": 1.0}


def test_a_stage_that_fails_is_timed_too(now: list[float]) -> None:
    def fail() -> None:
        with stage("decode"):
            now[0] += 1
            raise ValueError("no JSON")

    with tracing() as request, pytest.raises(ValueError, match="no JSON"):
        fail()
    assert request.timing().stages_s == {"decode": 1.0}


def test_what_is_used_adds_up() -> None:
    with tracing() as request:
        spend(Usage(calls=1, prompt_tokens=10, cost_usd=0.25))
        spend(Usage(cache_hits=2))
    assert request.usage == Usage(calls=1, prompt_tokens=10, cache_hits=2, cost_usd=0.25)


def test_what_was_left_out_is_said_once_in_order() -> None:
    with tracing() as request:
        for reason in ("no reranker", "no model", "no reranker"):
            degrade(reason)
    assert request.degraded == ["no reranker", "no model"]


def test_an_inner_trace_hands_on_what_it_used_but_not_its_spans() -> None:
    with tracing() as whole:
        degrade("no model")
        with tracing() as part, stage("search"):
            spend(Usage(calls=2))
            degrade("no model")
            degrade("no vectors")
        assert current_trace() is whole
        spend(Usage(calls=1))
    assert part.usage == Usage(calls=2)
    assert part.degraded == ["no model", "no vectors"]
    assert whole.usage == Usage(calls=3)
    assert whole.degraded == ["no model", "no vectors"]
    assert whole.timing().spans == ()
    assert current_trace() is None


def test_a_call_for_several_counts_for_each_with_its_part_of_the_cost() -> None:
    shared = Trace(scheduled_at=10.0)
    shared.add("call", 11.0, 12.0)
    shared.spend(Usage(calls=1, texts=4, prompt_tokens=40, retries=1, cost_usd=0.5))
    request = Trace(scheduled_at=10.5)
    request.ride(shared, part=0.25)
    assert request.usage == Usage(calls=1, texts=1, prompt_tokens=10, retries=1, cost_usd=0.125)
    assert request.timing(ended_at=12.0).spans == (Span("call", 0.5, 1.5),)
    free = Trace()
    free.ride(Trace(), part=0.5)
    assert free.usage == Usage()


def test_a_trace_that_ends_in_an_error_hands_on_too() -> None:
    def fail() -> None:
        with tracing():
            spend(Usage(calls=1))
            raise ValueError("part failed")

    with tracing() as whole, pytest.raises(ValueError, match="part failed"):
        fail()
    assert whole.usage.calls == 1
    assert current_trace() is None


async def test_a_task_begun_inside_counts_for_the_request() -> None:
    async def call(name: Stage) -> None:
        with stage(name):
            await asyncio.sleep(0)
            spend(Usage(calls=1))

    with tracing() as request:
        await asyncio.gather(call("search"), call("call"))
    assert request.usage.calls == 2
    assert sorted(request.timing().stages_s) == ["call", "search"]


async def test_a_thread_begun_inside_counts_for_the_request() -> None:
    with tracing() as request:
        await asyncio.to_thread(spend, Usage(calls=1))
    assert request.usage.calls == 1


async def test_the_synchronous_way_in_keeps_the_trace() -> None:
    async def call() -> None:
        spend(Usage(calls=1))

    with tracing() as request:
        run_sync(call())
    assert request.usage.calls == 1


async def test_requests_at_the_same_time_are_kept_apart() -> None:
    async def ask(number: int) -> Trace:
        with tracing() as request:
            for _ in range(number):
                with stage("call"):
                    await asyncio.sleep(0)
                    spend(Usage(calls=1))
            degrade(f"request {number}")
        return request

    requests = await asyncio.gather(*(ask(number) for number in range(1, 20)))
    for number, request in enumerate(requests, 1):
        assert request.usage.calls == number
        assert len(request.timing().spans) == number
        assert request.degraded == [f"request {number}"]
    assert current_trace() is None


async def test_parts_at_the_same_time_add_up_in_their_request() -> None:
    async def part(number: int) -> None:
        with tracing():
            await asyncio.sleep(0)
            spend(Usage(calls=number))

    with tracing() as whole:
        await asyncio.gather(*(part(number) for number in (1, 2, 3)))
    assert whole.usage.calls == 6
