"""A lane over real HTTP: limits kept, retries bounded, slots and budget always given back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import numpy as np
import pytest

from rag_lab.errors import ModelError, ProviderError
from rag_lab.gateway.breaker import Breaker, BreakerSettings
from rag_lab.gateway.budget import BudgetError
from rag_lab.gateway.call import Endpoint
from rag_lab.gateway.gateway import Gateway
from rag_lab.gateway.outcomes import Outcome
from rag_lab.gateway.plan import BatchLimits
from rag_lab.simulate import SimulatedProvider, expected_vector
from rag_lab.telemetry.trace import tracing

pytestmark = pytest.mark.usefixtures("no_long_waits")

Use = Callable[..., Awaitable[SimulatedProvider]]
Until = Callable[[Callable[[], Awaitable[bool]]], Awaitable[None]]
Endpoints = Callable[..., Endpoint]
Open = Callable[..., Gateway]

TEXTS = [f"text number {number}" for number in range(300)]


LIMITED = {
    "requests": {"requests_per_minute": 240},
    "requests and tokens": {"requests_per_minute": 300, "tokens_per_minute": 225_000},
    "the same, said as buckets": {
        "requests_per_minute": 300,
        "tokens_per_minute": 225_000,
        "limit_headers": "bucket",
    },
}


@pytest.mark.parametrize("limited", LIMITED.values(), ids=LIMITED.keys())
async def test_limits_that_headers_tell_are_kept(
    use: Use,
    endpoint: Endpoints,
    open_gateway: Open,
    assert_right: Callable[..., None],
    limited: dict[str, Any],
) -> None:
    provider = await use(
        time_scale=0.2, burst_s=5, capacity=16, latency={"base_ms": 200}, **limited
    )
    gateway = open_gateway()
    model = gateway.embedding_model(endpoint(), BatchLimits(items=8))
    texts = [f"{text} {'word ' * 80}" for text in TEXTS]
    assert_right(await gateway.embed(model, texts), texts)
    stats = await provider.stats()
    assert stats.texts == len(texts)
    assert stats.statuses.get(429, 0) <= 3 + 0.05 * stats.calls
    assert any("says the provider" in change.reason for change in model.lane.budget.history)


async def test_a_limit_that_is_set_is_kept(
    use: Use, endpoint: Endpoints, open_gateway: Open, until: Until
) -> None:
    provider = await use()
    gateway = open_gateway(requests_per_minute=5)
    model = gateway.embedding_model(endpoint(), BatchLimits(items=10))
    work = asyncio.create_task(gateway.embed(model, TEXTS))

    async def spent() -> bool:
        return (await provider.stats()).served == 5

    await until(spent)
    left = model.lane.budget.left()
    assert (left.requests_per_minute, left.waiting > 0) == (5, True)
    assert left.requests == pytest.approx(0, abs=0.9)
    work.cancel()
    with suppress(asyncio.CancelledError):
        await work
    assert (await provider.stats()).calls == 5
    assert model.lane.budget.left().waiting == 0
    assert (model.lane.limiter.in_flight, model.lane.limiter.waiting) == (0, 0)


async def test_what_is_larger_than_the_budget_is_said_not_waited_for(
    use: Use, endpoint: Endpoints, open_gateway: Open
) -> None:
    provider = await use()
    gateway = open_gateway(tokens_per_minute=100, concurrency=1)
    model = gateway.embedding_model(endpoint())
    long = "word " * 200
    embedded = await asyncio.wait_for(gateway.embed(model, ["one", long, "two"]), 5)
    assert embedded.failed.keys() == {1}
    assert "but 100 a minute are allowed" in embedded.failed[1]
    np.testing.assert_allclose(embedded.matrix[2], expected_vector("two", 8), atol=1e-6)
    calls = (await provider.stats()).calls
    with pytest.raises(BudgetError, match="100 a minute are allowed: it would wait for ever"):
        await asyncio.wait_for(gateway.embed_query(model, long), 5)
    chat = gateway.chat_model(endpoint())
    with pytest.raises(BudgetError, match="Make batches or texts smaller"):
        await gateway.chat(chat, [{"role": "user", "content": long}])
    assert (await provider.stats()).calls == calls


async def test_questions_larger_than_the_budget_together_go_in_parts(
    use: Use, endpoint: Endpoints, open_gateway: Open
) -> None:
    """A batch that was not sent holds no slot while its halves wait for one."""
    await use()
    gateway = open_gateway(tokens_per_minute=160, concurrency=1)
    model = gateway.embedding_model(endpoint())
    asked = [f"question {number} {'word ' * 20}" for number in range(4)]
    work = asyncio.gather(*(gateway.embed_query(model, text) for text in asked))
    done, _ = await asyncio.wait([work], timeout=2)
    if not done:  # the budget of this minute is spent; nobody waits for a slot
        work.cancel()
        assert gateway.usage.texts >= 2
        assert model.lane.budget.left().waiting > 0


@pytest.mark.parametrize("attempts", [1, 3])
async def test_a_question_is_tried_as_often_as_is_set(
    use: Use, endpoint: Endpoints, open_gateway: Open, attempts: int
) -> None:
    provider = await use(faults=[{"kind": "status", "status": 500}])
    gateway = open_gateway(attempts=attempts)
    model = gateway.embedding_model(endpoint())
    with pytest.raises(ProviderError, match=r"answered with an error \(HTTP 500\)"):
        await gateway.embed_query(model, "one")
    assert (await provider.stats()).calls == attempts
    assert gateway.usage.retries == attempts - 1
    assert gateway.usage.calls == 0  # none was answered


async def test_a_question_is_not_tried_beyond_its_patience(
    use: Use, endpoint: Endpoints, open_gateway: Open
) -> None:
    provider = await use(faults=[{"kind": "status", "status": 429}], retry_after="none")
    gateway = open_gateway(question_patience_s=1e-9)
    model = gateway.embedding_model(endpoint())
    with pytest.raises(ProviderError, match=r"is at its rate limit \(HTTP 429\)"):
        await gateway.embed_query(model, "one")
    assert (await provider.stats()).calls == 1


async def test_retry_after_holds_everybody_back_once(
    use: Use, endpoint: Endpoints, open_gateway: Open
) -> None:
    provider = await use(time_scale=0.1, faults=[{"kind": "status", "status": 429, "at_most": 4}])
    gateway = open_gateway()
    model = gateway.embedding_model(endpoint(), BatchLimits(items=30))
    await gateway.embed(model, TEXTS)
    times = (await provider.stats(times=True)).times or []
    refused = [call for call in times if call.status == 429]
    after = [call.arrived_s for call in times if call.status == 200]
    assert len(refused) == 4
    assert min(after, default=0) >= min(call.ended_s or 0 for call in refused)
    assert gateway.usage.retries == 4


async def test_a_full_house_cuts_the_limit_and_says_why(
    use: Use, endpoint: Endpoints, open_gateway: Open
) -> None:
    await use(time_scale=0.05, capacity=4, over_capacity="reject", latency={"base_ms": 400})
    gateway = open_gateway()
    model = gateway.embedding_model(endpoint(), BatchLimits(items=5))
    await gateway.embed(model, TEXTS)
    changes = model.lane.limiter.history
    assert any(change.reason for change in changes)
    assert model.lane.limiter.limit < changes[0].limit


@pytest.mark.parametrize("status", [400, 401, 403, 404, 429])
async def test_an_answer_is_no_failure_for_the_breaker(
    use: Use, endpoint: Endpoints, open_gateway: Open, status: int
) -> None:
    await use(faults=[{"kind": "status", "status": status}], retry_after="none")
    gateway = open_gateway()
    model = gateway.embedding_model(endpoint())
    model.lane.breaker = Breaker(BreakerSettings(min_failures=1, min_duration_s=0.0))
    for number in range(3):
        with pytest.raises(ModelError):
            await gateway.embed_query(model, f"question {number}")
    assert model.lane.breaker.state == "working"


async def test_a_question_that_hangs_is_asked_again_beside(
    use: Use, endpoint: Endpoints, open_gateway: Open
) -> None:
    hung = {"kind": "stall", "seconds": 60, "marker": "hangs", "at_most": 1}
    provider = await use(latency={"base_ms": 5}, faults=[hung])
    gateway = open_gateway()
    model = gateway.embedding_model(endpoint())
    for number in range(20):
        await gateway.embed_query(model, f"question {number}")
    with tracing() as trace:
        vector = await asyncio.wait_for(gateway.embed_query(model, "this one hangs"), 10)
    np.testing.assert_allclose(vector, expected_vector("this one hangs", 8), atol=1e-6)
    assert trace.usage.hedges == 1
    receipt = model.lane.hedger.receipt()
    assert gateway.usage.hedges == receipt.hedges >= 1
    assert receipt.won >= 1
    assert (await provider.stats()).statuses[200] == 21
    assert model.lane.limiter.in_flight == 0


async def test_hedging_can_be_switched_off(
    use: Use, endpoint: Endpoints, open_gateway: Open
) -> None:
    late = {"kind": "stall", "seconds": 0.3, "marker": "late", "at_most": 1}
    provider = await use(latency={"base_ms": 5}, faults=[late])
    gateway = open_gateway(hedge=False)
    model = gateway.embedding_model(endpoint())
    for text in [*TEXTS[:12], "this one is late"]:
        await gateway.embed_query(model, text)
    assert gateway.usage.hedges == 0
    assert (await provider.stats()).calls == 13


async def test_figures_of_the_last_minute(
    use: Use, endpoint: Endpoints, open_gateway: Open
) -> None:
    await use(faults=[{"kind": "status", "status": 500, "at_most": 1}])
    gateway = open_gateway()
    model = gateway.embedding_model(endpoint())
    for text in TEXTS[:4]:
        await gateway.embed_query(model, text)
    figures = model.lane.figures()
    assert (figures.calls, figures.error_share, figures.in_flight) == (5, 0.2, 0)
    assert (figures.breaker, figures.throttled_share, figures.retry_in_s) == ("working", 0, None)
    assert figures.p50_s is not None
    assert figures.p95_s is not None
    assert figures.p50_s <= figures.p95_s
    outcomes = [call.outcome for call in model.lane.recent]
    assert outcomes == [Outcome.SERVER_ERROR, *[Outcome.OK] * 4]
    assert gateway.health().status in ("healthy", "degraded")


async def test_tokens_are_learned_from_what_the_provider_counts(
    use: Use, endpoint: Endpoints, open_gateway: Open
) -> None:
    await use()
    gateway = open_gateway()
    model = gateway.embedding_model(endpoint(), BatchLimits(items=100))
    texts = [f"{number:03}x" + "y" * 3_997 + "z" for number in range(100)]
    await gateway.embed(model, texts)  # 4,001 characters: 1,001 tokens there, 1,000 here
    assert model.lane.tokens_factor == pytest.approx(1.001, abs=1e-3)


async def test_what_waits_for_a_slot_and_leaves_gives_its_place_in_the_budget_back(
    use: Use, endpoint: Endpoints, open_gateway: Open, until: Until
) -> None:
    provider = await use(latency={"base_ms": 20_000})
    gateway = open_gateway(concurrency=1, requests_per_minute=100, tokens_per_minute=10_000)
    model = gateway.embedding_model(endpoint(), BatchLimits(items=50))
    work = asyncio.create_task(gateway.embed(model, TEXTS))

    async def one_on_its_way() -> bool:
        return (await provider.stats()).in_flight == 1 and model.lane.limiter.waiting == 5

    await until(one_on_its_way)
    work.cancel()
    with suppress(asyncio.CancelledError):
        await work
    left = model.lane.budget.left()
    assert left.requests == pytest.approx(99, abs=0.99)
    assert left.tokens is not None
    assert left.tokens > 9_000  # only those of the call that was sent are gone
    assert (model.lane.limiter.in_flight, model.lane.limiter.waiting) == (0, 0)


async def test_its_name_and_state_are_to_be_read(
    use: Use, endpoint: Endpoints, open_gateway: Open
) -> None:
    provider = await use()
    gateway = open_gateway()
    lane = gateway.embedding_model(endpoint()).lane
    assert f"127.0.0.1:{provider.port}" in repr(lane)
    assert "limit=16, working" in repr(lane)
    assert lane is gateway.embedding_model(endpoint(dimensions=4)).lane
    assert lane is not gateway.chat_model(endpoint()).lane
    assert gateway.lanes[lane.name] is lane
