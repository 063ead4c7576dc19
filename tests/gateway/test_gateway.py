"""The gateway over real HTTP: whatever the weather, every good text gets its own vector, once."""

from __future__ import annotations

import asyncio
import gc
import sqlite3
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rag_lab.errors import ModelError, ProviderError
from rag_lab.gateway.breaker import Breaker, BreakerSettings, ProviderFailingError
from rag_lab.gateway.cache import VECTORS_FILE
from rag_lab.gateway.call import Endpoint
from rag_lab.gateway.gateway import Gateway
from rag_lab.gateway.plan import BatchLimits
from rag_lab.settings import GatewaySettings, Price
from rag_lab.simulate import SimulatedProvider, expected_vector
from rag_lab.telemetry.trace import tracing

Use = Callable[..., Awaitable[SimulatedProvider]]
Until = Callable[[Callable[[], Awaitable[bool]]], Awaitable[None]]
Endpoints = Callable[..., Endpoint]
Open = Callable[..., Gateway]
Right = Callable[..., None]

pytestmark = pytest.mark.usefixtures("no_long_waits")

TEXTS = [f"text number {number}" for number in range(300)]
BAD = "text number 137 is marked"
MARKED = [*TEXTS[:137], BAD, *TEXTS[138:]]
LIMITS = BatchLimits(items=32)
HASTY = BreakerSettings(min_failures=2, min_duration_s=0.0, pause_s=0.05, jitter=0.0)


# Faults


def once(kind: str, **more: Any) -> dict[str, Any]:
    return {"kind": kind, "at_most": 3, **more}


def each(kind: str, **more: Any) -> dict[str, Any]:
    return {"kind": kind, "rate": 0.15, **more}


PASSING = {
    "503 at a rate": {"faults": [each("status", status=503)]},
    "500 at a rate": {"faults": [each("status", status=500)]},
    "resets": {"faults": [each("reset")]},
    "truncated": {"faults": [each("truncate")]},
    "no JSON": {"faults": [each("invalid-json")]},
    "another order": {"faults": [{"kind": "order"}]},
    "too few": {"faults": [once("count")]},
    "too many": {"faults": [once("count", amount=2)]},
    "NaN": {"faults": [once("nan")]},
    "zero": {"faults": [once("zero")]},
    "429, seconds": {"faults": [each("status", status=429)]},
    "429, milliseconds": {
        "faults": [each("status", status=429)],
        "retry_after": "milliseconds",
    },
    "429, a date": {"faults": [each("status", status=429)], "retry_after": "date"},
    "429, no word": {"faults": [each("status", status=429)], "retry_after": "none"},
    "few texts a call": {"max_texts": 7},
    "few tokens a call": {"max_tokens": 40, "too_large_status": 400},
    "a full house": {
        "capacity": 4,
        "over_capacity": "reject",
        "latency": {"base_ms": 500},
    },
    "an outage": {"faults": [{"kind": "status", "status": 503, "until_s": 30}]},
    "nobody there": {"faults": [{"kind": "refuse", "until_s": 30}]},
}


@pytest.mark.parametrize("weather", PASSING.values(), ids=PASSING.keys())
async def test_what_passes_loses_nothing(
    use: Use, endpoint: Endpoints, open_gateway: Open, assert_right: Right, weather: dict[str, Any]
) -> None:
    provider = await use(time_scale=0.01, **weather)
    gateway = open_gateway()
    model = gateway.embedding_model(endpoint(), LIMITS)
    assert_right(await gateway.embed(model, TEXTS), TEXTS)
    counts = (await provider.stats(texts=True)).text_counts
    assert counts is not None
    assert counts.keys() >= set(TEXTS)
    calls = (await provider.stats()).calls
    assert_right(await gateway.embed(model, TEXTS), TEXTS)
    assert (await provider.stats()).calls == calls


LASTING = {
    "refused": ("refused the request", {"kind": "status", "status": 400}),
    "422": ("refused the request", {"kind": "status", "status": 422}),
    "500": ("each time it is asked for this text", {"kind": "status", "status": 500}),
    "504": ("each time it is asked for this text", {"kind": "status", "status": 504}),
    "reset": ("each time it is asked for this text", {"kind": "reset"}),
    "truncated": ("each time it is asked for this text", {"kind": "truncate"}),
    "left out": ("another number of vectors than texts", {"kind": "count"}),
    "NaN": ("NaN or infinity each time", {"kind": "nan"}),
    "zero": ("a zero vector each time", {"kind": "zero"}),
}


@pytest.mark.parametrize(("reason", "fault"), LASTING.values(), ids=LASTING.keys())
async def test_one_bad_text_is_listed_and_costs_no_other(
    use: Use,
    endpoint: Endpoints,
    open_gateway: Open,
    assert_right: Right,
    reason: str,
    fault: dict[str, Any],
) -> None:
    provider = await use(time_scale=0.01, faults=[{**fault, "marker": "is marked"}])
    gateway = open_gateway()
    model = gateway.embedding_model(endpoint(), LIMITS)
    embedded = await gateway.embed(model, MARKED)
    assert_right(embedded, MARKED, [BAD])
    assert reason in embedded.failed[137]
    before = (await provider.stats(texts=True)).text_counts or {}
    assert_right(await gateway.embed(model, MARKED), MARKED, [BAD])
    after = (await provider.stats(texts=True)).text_counts or {}
    asked_again = {text for text in MARKED if after[text] > before[text]}
    assert asked_again == {BAD}  # a failure is not kept: it may have been mended


async def test_a_text_that_is_too_long_is_listed(
    use: Use, endpoint: Endpoints, open_gateway: Open, assert_right: Right
) -> None:
    provider = await use(max_text_tokens=50, too_large_status=400)
    long = "long " * 100
    texts = [*TEXTS[:40], long, *TEXTS[40:80]]
    gateway = open_gateway()
    embedded = await gateway.embed(gateway.embedding_model(endpoint(), LIMITS), texts)
    assert_right(embedded, texts, [long])
    assert "takes no text of this length (HTTP 400)" in embedded.failed[40]
    assert (await provider.stats()).calls < 20


async def test_half_a_character_is_listed(
    use: Use, endpoint: Endpoints, open_gateway: Open, assert_right: Right
) -> None:
    await use()
    half = "half a \ud83d"
    gateway = open_gateway()
    embedded = await gateway.embed(gateway.embedding_model(endpoint()), ["one", half, "two"])
    assert embedded.failed.keys() == {1}
    assert "half a character" in embedded.failed[1]
    np.testing.assert_allclose(embedded.matrix[2], expected_vector("two", 8), atol=1e-6)


async def test_in_fair_weather_each_text_is_asked_once(
    use: Use, endpoint: Endpoints, open_gateway: Open, assert_right: Right
) -> None:
    provider = await use()
    gateway = open_gateway()
    model = gateway.embedding_model(endpoint(), LIMITS)
    twice = [*TEXTS, *TEXTS[:50]]
    embedded = await gateway.embed(model, twice)
    assert_right(embedded, twice)
    stats = await provider.stats(texts=True)
    assert stats.text_counts == dict.fromkeys(TEXTS, 1)
    assert embedded.calls == stats.calls == gateway.usage.calls


async def test_no_texts_are_no_call(use: Use, endpoint: Endpoints, open_gateway: Open) -> None:
    provider = await use()
    gateway = open_gateway()
    embedded = await gateway.embed(gateway.embedding_model(endpoint()), [])
    assert (len(embedded.matrix), embedded.failed, embedded.calls) == (0, {}, 0)
    assert (await provider.stats()).calls == 0


async def test_a_wrong_key_does_not_fail_once_for_each_batch(
    use: Use, endpoint: Endpoints, open_gateway: Open
) -> None:
    provider = await use(latency={"base_ms": 20}, faults=[{"kind": "status", "status": 401}])
    gateway = open_gateway()
    model = gateway.embedding_model(endpoint(), BatchLimits(items=2))
    with pytest.raises(ModelError, match="refused the key"):
        await gateway.embed(model, TEXTS)
    assert (await provider.stats()).calls <= 16
    assert (model.lane.limiter.in_flight, model.lane.limiter.waiting) == (0, 0)


PASSING_FAULTS = st.builds(
    lambda kind, rate, status: {"kind": kind, "rate": rate, "status": status, "at_most": 3},
    st.sampled_from(["status", "reset", "truncate", "invalid-json", "order"]),
    st.sampled_from([0.1, 0.5, 1.0]),
    st.sampled_from([409, 429, 500, 503]),
)
# What is wrong with a text each time it is asked is taken to be lasting: these happen once.
STRANGE_FAULTS = st.builds(once, st.sampled_from(["nan", "zero", "count"]), at_most=st.just(1))


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    faults=st.lists(PASSING_FAULTS, max_size=2).flatmap(
        lambda some: STRANGE_FAULTS.map(lambda strange: [*some, strange])
    ),
    count=st.integers(1, 60),
    items=st.integers(1, 40),
    concurrency=st.sampled_from([None, 1, 3]),
)
def test_whatever_happens_nothing_is_lost_and_order_is_kept(
    use: Use,
    endpoint: Endpoints,
    assert_right: Right,
    faults: list[dict[str, Any]],
    count: int,
    items: int,
    concurrency: int | None,
) -> None:
    async def embed() -> None:
        await use(time_scale=0.01, faults=faults)
        gateway = Gateway(GatewaySettings(concurrency=concurrency))
        model = gateway.embedding_model(endpoint(), BatchLimits(items=items))
        assert_right(await gateway.embed(model, TEXTS[:count]), TEXTS[:count])
        assert model.lane.limiter.in_flight == 0

    asyncio.run(embed())


# Outages


async def test_after_too_long_an_outage_what_was_answered_is_kept(
    use: Use, endpoint: Endpoints, open_gateway: Open, assert_right: Right, until: Until
) -> None:
    provider = await use(latency={"base_ms": 20})
    gateway = open_gateway(ingest_patience_s=0.2, concurrency=2)
    model = gateway.embedding_model(endpoint(), BatchLimits(items=10))
    model.lane.breaker = Breaker(HASTY)
    work = asyncio.create_task(gateway.embed(model, TEXTS))

    async def some_answered() -> bool:
        return gateway.usage.texts > 0

    await until(some_answered)
    await provider.change(faults=[{"kind": "status", "status": 503}])
    with pytest.raises(ProviderError, match=r"(?i)what is done is kept"):
        await work
    await provider.change(faults=[])
    answered = (await provider.stats()).texts
    assert 0 < answered < len(TEXTS)
    later = open_gateway()
    assert_right(await later.embed(later.embedding_model(endpoint(), LIMITS), TEXTS), TEXTS)
    assert (await provider.stats()).texts == len(TEXTS)


async def test_while_the_breaker_is_open_a_question_fails_without_a_call(
    use: Use, endpoint: Endpoints, open_gateway: Open, until: Until
) -> None:
    provider = await use(faults=[{"kind": "status", "status": 503}], retry_after="none")
    gateway = open_gateway()
    model = gateway.embedding_model(endpoint())
    breaker = model.lane.breaker = Breaker(HASTY)
    with pytest.raises(ProviderError):
        await gateway.embed_query(model, "first")
    assert breaker.state == "failing"
    calls = (await provider.stats()).calls
    with pytest.raises(ProviderFailingError, match="Nothing was asked of it"):
        await gateway.embed_query(model, "second")
    assert (await provider.stats()).calls == calls
    assert gateway.health().status == "critical"

    await provider.change(faults=[])

    async def answers() -> bool:
        with suppress(ProviderFailingError):
            await gateway.embed_query(model, "third")
        return breaker.state == "recovering" or breaker.state == "working"

    await until(answers)
    for number in range(3):
        await gateway.embed_query(model, f"more {number}")
    assert breaker.state == "working"


# Cache


async def test_questions_are_kept_too(
    use: Use, endpoint: Endpoints, open_gateway: Open, until: Until
) -> None:
    provider = await use()
    first = open_gateway()
    vector = await first.embed_query(first.embedding_model(endpoint()), "what is kept?")
    await first.aclose()
    second = open_gateway()
    again = await second.embed_query(second.embedding_model(endpoint()), "what is kept?")
    assert (await provider.stats()).calls == 1
    np.testing.assert_array_equal(vector, again)
    assert (second.usage.calls, second.usage.cache_hits) == (0, 1)


async def test_questions_are_not_kept_if_told_so(
    use: Use, endpoint: Endpoints, open_gateway: Open
) -> None:
    provider = await use()
    gateway = open_gateway(cache_queries=False)
    model = gateway.embedding_model(endpoint())
    for _ in range(2):
        await gateway.embed_query(model, "what is kept?")
    assert (await provider.stats()).calls == 2


async def test_another_model_length_or_kind_is_another_vector(
    use: Use, endpoint: Endpoints, open_gateway: Open
) -> None:
    provider = await use(models=["simulated", "other"])
    gateway = open_gateway()
    text = ["the same text"]
    for asked in (endpoint(), endpoint(model="other"), endpoint(dimensions=4)):
        embedded = await gateway.embed(gateway.embedding_model(asked), text)
        assert embedded.matrix.shape == (1, asked.dimensions or 8)
    await gateway.embed_query(gateway.embedding_model(endpoint()), text[0])
    assert (await provider.stats(texts=True)).text_counts == {text[0]: 4}


async def test_models_of_different_lengths_keep_their_questions_together(
    use: Use, endpoint: Endpoints, open_gateway: Open
) -> None:
    provider = await use()
    gateway = open_gateway()
    models = [gateway.embedding_model(endpoint(dimensions=size)) for size in (4, 6, 8)]
    asked = [(model, f"question {n}") for n in range(10) for model in models]
    await asyncio.gather(*(gateway.embed_query(*each) for each in asked))
    await gateway.aclose()
    calls = (await provider.stats()).calls
    await asyncio.gather(*(gateway.embed_query(*each) for each in asked))
    assert (await provider.stats()).calls == calls


async def test_a_damaged_cache_is_set_aside(
    use: Use,
    endpoint: Endpoints,
    open_gateway: Open,
    assert_right: Right,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    provider = await use()
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / VECTORS_FILE).write_bytes(b"no database at all " * 500)
    gateway = open_gateway()
    model = gateway.embedding_model(endpoint(), LIMITS)
    for _ in range(2):
        assert_right(await gateway.embed(model, TEXTS), TEXTS)
    assert (await provider.stats()).texts == len(TEXTS)
    assert len([*(tmp_path / "kept").glob("*.damaged-*")]) == 1
    assert "vectors.sqlite was damaged: set aside as" in caplog.text


async def test_two_gateways_share_a_folder(
    use: Use, endpoint: Endpoints, open_gateway: Open, assert_right: Right
) -> None:
    provider = await use()
    first, second = open_gateway(), open_gateway()
    models = [gateway.embedding_model(endpoint(), LIMITS) for gateway in (first, second)]
    await asyncio.gather(first.embed(models[0], TEXTS), second.embed(models[1], TEXTS[100:]))
    calls = (await provider.stats()).calls
    for gateway, model in zip((first, second), models, strict=True):
        assert_right(await gateway.embed(model, TEXTS), TEXTS)
    assert (await provider.stats()).calls == calls


async def test_closing_in_the_midst_of_work_does_no_harm(
    use: Use, endpoint: Endpoints, open_gateway: Open, assert_right: Right, tmp_path: Path
) -> None:
    await use()
    gateway = open_gateway()
    model = gateway.embedding_model(endpoint(), BatchLimits(items=5))
    done = threading.Event()

    def close_again_and_again() -> None:
        while not done.wait(0.001):
            gateway.close()

    closer = threading.Thread(target=close_again_and_again)
    closer.start()
    try:
        assert_right(await gateway.embed(model, TEXTS), TEXTS)
        await asyncio.gather(*(gateway.embed_query(model, text) for text in TEXTS[:50]))
    finally:
        done.set()
        closer.join()
    await gateway.aclose()
    assert [*(tmp_path / "kept").glob("*.damaged-*")] == []
    with sqlite3.connect(tmp_path / "kept" / VECTORS_FILE) as file:
        assert file.execute("SELECT count(*) FROM vectors").fetchone() == (350,)
    file.close()


async def test_without_a_folder_nothing_is_kept(
    use: Use, endpoint: Endpoints, open_gateway: Open
) -> None:
    provider = await use()
    gateway = open_gateway(folder=None)
    model = gateway.embedding_model(endpoint())
    for _ in range(2):
        await gateway.embed_query(model, "one")
        await gateway.embed(model, ["one"])
    assert (await provider.stats()).calls == 4


# Single flight


async def test_one_question_of_fifty_is_asked_once(
    use: Use, endpoint: Endpoints, open_gateway: Open
) -> None:
    provider = await use(latency={"base_ms": 30})
    gateway = open_gateway()
    model = gateway.embedding_model(endpoint())
    vectors = await asyncio.gather(*(gateway.embed_query(model, "same") for _ in range(50)))
    for vector in vectors:
        np.testing.assert_allclose(vector, expected_vector("same", 8), atol=1e-6)
    assert (await provider.stats(texts=True)).text_counts == {"same": 1}
    assert gateway.usage.calls == 1


async def test_one_who_leaves_takes_nothing_from_the_others(
    use: Use, endpoint: Endpoints, open_gateway: Open, until: Until
) -> None:
    provider = await use(latency={"base_ms": 100})
    gateway = open_gateway()
    model = gateway.embedding_model(endpoint())
    tasks = [asyncio.create_task(gateway.embed_query(model, "same")) for _ in range(5)]
    await until(lambda: arrived(provider, 1))
    tasks[0].cancel()  # it was the first, who began the call
    rest = await asyncio.gather(*tasks[1:])
    assert tasks[0].cancelled()
    np.testing.assert_allclose(rest[-1], expected_vector("same", 8), atol=1e-6)
    assert (await provider.stats()).statuses == {200: 1}


async def test_when_all_have_left_the_call_is_cancelled(
    use: Use, endpoint: Endpoints, open_gateway: Open, until: Until
) -> None:
    provider = await use(latency={"base_ms": 20_000})
    gateway = open_gateway()
    model = gateway.embedding_model(endpoint())
    tasks = [asyncio.create_task(gateway.embed_query(model, "same")) for _ in range(5)]
    await until(lambda: arrived(provider, 1))
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)

    async def left() -> bool:
        return (await provider.stats()).statuses == {499: 1}

    await until(left)
    lane = model.lane
    assert (lane.limiter.in_flight, lane.limiter.waiting) == (0, 0)


async def test_bulk_work_at_once_asks_each_text_once(
    use: Use, endpoint: Endpoints, open_gateway: Open, assert_right: Right
) -> None:
    provider = await use(latency={"base_ms": 30})
    gateway = open_gateway()
    model = gateway.embedding_model(endpoint(), LIMITS)
    parts = [TEXTS, TEXTS[::-1], TEXTS[100:200]]
    for part, embedded in zip(
        parts, await asyncio.gather(*(gateway.embed(model, part) for part in parts)), strict=True
    ):
        assert_right(embedded, part)
    assert (await provider.stats(texts=True)).text_counts == dict.fromkeys(TEXTS, 1)


async def test_the_second_gets_all_though_the_first_is_stopped_midway(
    use: Use, endpoint: Endpoints, open_gateway: Open, assert_right: Right, until: Until
) -> None:
    provider = await use(latency={"base_ms": 30})
    gateway = open_gateway(concurrency=2)
    model = gateway.embedding_model(endpoint(), LIMITS)
    first = asyncio.create_task(gateway.embed(model, TEXTS))
    await until(lambda: arrived(provider, 1))
    second = asyncio.create_task(gateway.embed(model, TEXTS[::-1]))

    async def answered() -> bool:
        return gateway.usage.texts > 0

    await until(answered)
    first.cancel()
    assert_right(await second, TEXTS[::-1])
    assert first.cancelled()


async def test_the_second_gets_all_though_the_first_fails(
    use: Use, endpoint: Endpoints, open_gateway: Open, assert_right: Right
) -> None:
    await use(latency={"base_ms": 30}, faults=[{"kind": "status", "status": 401, "at_most": 1}])
    gateway = open_gateway()
    model = gateway.embedding_model(endpoint())
    first, second = await asyncio.gather(
        gateway.embed(model, TEXTS[:5]), gateway.embed(model, TEXTS[:5]), return_exceptions=True
    )
    assert isinstance(first, ModelError)
    assert_right(second, TEXTS[:5])


# Batches


async def test_a_lone_question_is_one_call_that_waits_for_nothing(
    use: Use, endpoint: Endpoints, open_gateway: Open
) -> None:
    provider = await use()
    gateway = open_gateway(folder=None)
    model = gateway.embedding_model(endpoint())
    with tracing() as trace:
        await gateway.embed_query(model, "alone")
    assert (await provider.stats(texts=True)).text_counts == {"alone": 1}
    assert model.lane.limiter.snapshot().waiting == 0
    assert {span.stage for span in trace.timing().spans} == {"budget", "limiter", "call", "decode"}


async def test_a_hundred_questions_ride_in_few_calls(
    use: Use, endpoint: Endpoints, open_gateway: Open
) -> None:
    provider = await use(latency={"base_ms": 50})
    gateway = open_gateway()
    model = gateway.embedding_model(endpoint())
    questions = TEXTS[:100]
    vectors = await asyncio.gather(*(gateway.embed_query(model, text) for text in questions))
    for text, vector in zip(questions, vectors, strict=True):
        np.testing.assert_allclose(vector, expected_vector(text, 8), atol=1e-6)
    stats = await provider.stats(texts=True)
    assert stats.text_counts == dict.fromkeys(questions, 1)
    assert stats.calls <= 4


async def test_a_question_that_is_refused_costs_its_fellows_nothing(
    use: Use, endpoint: Endpoints, open_gateway: Open
) -> None:
    await use(faults=[{"kind": "status", "status": 400, "marker": "is marked"}])
    gateway = open_gateway(concurrency=1)
    model = gateway.embedding_model(endpoint())
    asked = MARKED[120:150]
    vectors = await asyncio.gather(
        *(gateway.embed_query(model, text) for text in asked), return_exceptions=True
    )
    for text, vector in zip(asked, vectors, strict=True):
        if text == BAD:
            assert isinstance(vector, ModelError)
        else:
            np.testing.assert_allclose(vector, expected_vector(text, 8), atol=1e-6)


async def test_questions_that_cannot_be_sent_do_not_wait_for_themselves(
    use: Use, endpoint: Endpoints, open_gateway: Open
) -> None:
    """With one slot only, a batch that was never sent must not hold it while its parts go."""
    await use()
    gateway = open_gateway(concurrency=1)
    model = gateway.embedding_model(endpoint())
    asked = ["one", "half a \ud83d", "two"]
    vectors = await asyncio.wait_for(
        asyncio.gather(
            *(gateway.embed_query(model, text) for text in asked), return_exceptions=True
        ),
        5,
    )
    assert isinstance(vectors[1], ModelError)
    np.testing.assert_allclose(vectors[2], expected_vector("two", 8), atol=1e-6)


async def test_questions_go_before_bulk_work(
    use: Use, endpoint: Endpoints, open_gateway: Open, until: Until
) -> None:
    provider = await use(latency={"base_ms": 30})
    gateway = open_gateway(concurrency=1, hedge=False)
    model = gateway.embedding_model(endpoint(), BatchLimits(items=50))
    bulk = asyncio.create_task(gateway.embed(model, TEXTS))
    await until(lambda: arrived(provider, 1))
    await gateway.embed_query(model, "urgent")
    assert not bulk.done()
    await bulk
    sizes = [call.texts for call in (await provider.stats(times=True)).times or ()]
    assert sizes[:3].count(1) == 1
    assert sorted(sizes) == [1, *[50] * 6]


# Usage


async def test_usage_by_request_and_by_gateway_add_up(
    use: Use, endpoint: Endpoints, open_gateway: Open
) -> None:
    await use(latency={"base_ms": 30})
    gateway = open_gateway(prices={"simulated": Price(input=1_000)})
    model = gateway.embedding_model(endpoint())

    async def asked(text: str) -> Any:
        with tracing() as trace:
            await gateway.embed_query(model, text)
        return trace.usage

    used = await asyncio.gather(*(asked(f"{text}, please") for text in TEXTS[:40]))
    total = gateway.usage
    assert sum(each.texts for each in used) == total.texts == 40
    assert sum(each.prompt_tokens for each in used) == pytest.approx(total.prompt_tokens, rel=0.05)
    assert sum(each.cost_usd for each in used) == pytest.approx(total.cost_usd)
    assert total.cost_usd == pytest.approx(total.prompt_tokens / 1_000)
    assert all(each.calls == 1 for each in used)
    assert total.calls < 40

    with tracing() as trace:
        await gateway.embed(model, TEXTS)
        await gateway.embed(model, TEXTS)
    assert (trace.usage.texts, trace.usage.cache_hits) == (300, 300)
    assert gateway.usage.texts == 340


async def test_a_retry_is_counted_and_shows_in_the_waterfall(
    use: Use, endpoint: Endpoints, open_gateway: Open
) -> None:
    await use(faults=[{"kind": "status", "status": 500, "at_most": 1}])
    gateway = open_gateway()
    with tracing() as trace:
        await gateway.embed_query(gateway.embedding_model(endpoint()), "again")
    assert trace.usage.retries == gateway.usage.retries == 1
    stages = [span.stage for span in trace.timing().spans]
    assert (stages.count("call"), stages.count("backoff")) == (2, 1)


# Several event loops


def test_one_gateway_serves_loop_after_loop(
    use: Use, endpoint: Endpoints, assert_right: Right, tmp_path: Path
) -> None:
    asyncio.run(use())
    gateway = Gateway(cache_folder=tmp_path / "kept")
    model = gateway.embedding_model(endpoint(), LIMITS)
    for start in range(0, 300, 100):
        part = TEXTS[start : start + 100]
        assert_right(asyncio.run(gateway.embed(model, part)), part)
        asyncio.run(gateway.embed_query(model, part[0]))
    assert len(gateway.lanes) == 1
    gateway.close()


def test_a_loop_that_ends_in_mid_call_leaves_no_slot_behind(use: Use, endpoint: Endpoints) -> None:
    async def give_up() -> None:
        await use(latency={"base_ms": 20_000})
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(gateway.embed(model, TEXTS), 0.1)

    async def go_on() -> np.ndarray:
        await use()
        return await gateway.embed_query(model, "after all")

    gateway = Gateway(GatewaySettings(concurrency=2))
    model = gateway.embedding_model(endpoint(), LIMITS)
    asyncio.run(give_up())
    assert asyncio.run(go_on()).shape == (8,)


async def test_a_gateway_that_is_dropped_leaves_nothing_open(
    use: Use, endpoint: Endpoints, tmp_path: Path
) -> None:
    await use()
    for _ in range(2):
        gateway = Gateway(cache_folder=tmp_path / "kept")
        await gateway.embed_query(gateway.embedding_model(endpoint()), "dropped")
        await gateway.embed(gateway.embedding_model(endpoint()), TEXTS[:5])
        del gateway
        gc.collect()
        await asyncio.sleep(0.01)


async def arrived(provider: SimulatedProvider, calls: int) -> bool:
    return (await provider.stats()).in_flight >= calls
