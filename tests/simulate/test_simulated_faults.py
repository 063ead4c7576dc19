"""Each fault and limit, as a client meets it."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import aiohttp
import numpy as np
import openai
import pytest
from openai import AsyncOpenAI

from rag_lab.simulate import SimulatedProvider, expected_vector

Use = Callable[..., Any]

Client = Callable[..., AsyncOpenAI]
TEXTS = [f"text {number}" for number in range(6)]


async def post(session: aiohttp.ClientSession, *texts: str) -> tuple[int, Any]:
    body = {"model": "simulated", "input": texts or TEXTS}
    async with session.post("embeddings", json=body) as reply:
        return reply.status, await reply.json()


async def outcome(session: aiohttp.ClientSession, *texts: str) -> int | str:
    try:
        return (await post(session, *texts))[0]
    except aiohttp.ClientError as error:
        return type(error).__name__


@pytest.mark.parametrize("status", [500, 502, 503, 429, 408])
async def test_http_errors(use: Use, client: Client, status: int) -> None:
    provider = await use(faults=[{"kind": "status", "status": status, "at_most": 2}])
    async with client(max_retries=0) as opened:
        for _ in range(2):
            with pytest.raises(openai.APIStatusError) as caught:
                await opened.embeddings.create(model="simulated", input="a")
            assert caught.value.status_code == status
            assert "simulated" in caught.value.message
        await opened.embeddings.create(model="simulated", input="a")
    stats = await provider.stats()
    assert stats.statuses == {status: 2, 200: 1}
    assert stats.faults == {str(status): 2}


async def test_a_share_of_calls_fails_the_same_under_any_concurrency(use: Use, http: Any) -> None:
    failed = []
    for at_once in (1, 20):
        provider = await use(faults=[{"kind": "status", "rate": 0.2}])
        gate = asyncio.Semaphore(at_once)

        async def call(
            session: aiohttp.ClientSession, text: str, gate: asyncio.Semaphore = gate
        ) -> int:
            async with gate:
                return (await post(session, text))[0]

        async with http() as session:
            statuses = await asyncio.gather(*(call(session, str(n)) for n in range(100)))
        failed.append([n for n, status in enumerate(statuses) if status == 503])
        assert (await provider.stats()).statuses == Counter(statuses)
    assert failed[0] == failed[1]
    assert 8 <= len(failed[0]) <= 35


async def test_poison(use: Use, client: Client) -> None:
    await use(faults=[{"kind": "status", "status": 400, "marker": "☠"}])
    async with client() as opened:
        with pytest.raises(openai.BadRequestError, match="input was rejected"):
            await opened.embeddings.create(model="simulated", input=["good", "bad ☠ text"])
        assert await opened.embeddings.create(model="simulated", input=["good"])


@pytest.mark.parametrize("kind", ["reset", "truncate"])
@pytest.mark.parametrize("stream", [None, False, True])
async def test_connections_that_break(
    use: Use, client: Client, kind: str, stream: bool | None
) -> None:
    provider = await use(faults=[{"kind": kind, "at_most": 1}])

    async def ask(opened: AsyncOpenAI) -> Any:
        if stream is None:
            return await opened.embeddings.create(model="simulated", input=TEXTS)
        messages: Any = [{"role": "user", "content": "Grass is green.\nIs grass green?"}]
        reply: Any = await opened.chat.completions.create(
            model="simulated", messages=messages, stream=stream
        )
        return [chunk async for chunk in reply] if stream else reply

    async with client() as opened:
        with pytest.raises(Exception) as caught:  # noqa: PT011  (httpx2's or openai's own)
            await ask(opened)
        assert not isinstance(caught.value, AssertionError)
        assert await ask(opened)
    assert (await provider.stats()).statuses == {
        0 if kind == "reset" else 200: 1,
        **({200: 1} if kind == "reset" else {200: 2}),
    }


async def test_a_reset_is_a_reset(use: Use, http: Any) -> None:
    await use(faults=[{"kind": "reset"}])
    async with http() as session:
        with pytest.raises(aiohttp.ClientConnectionError):
            await post(session)


async def test_a_truncated_body_and_invalid_json(use: Use, http: Any) -> None:
    await use(faults=[{"kind": "truncate", "marker": "cut"}, {"kind": "invalid-json"}])
    async with http() as session:
        with pytest.raises(aiohttp.ClientPayloadError):
            await post(session, "cut")
        with pytest.raises(ValueError, match=r"Expecting|Unterminated|Extra"):
            await post(session, "whole")


async def test_invalid_json_in_a_stream(use: Use, client: Client) -> None:
    await use(faults=[{"kind": "invalid-json"}])
    messages: Any = [{"role": "user", "content": "Grass is green.\nIs grass green?"}]
    async with client() as opened:
        stream: Any = await opened.chat.completions.create(
            model="simulated", messages=messages, stream=True
        )
        with pytest.raises(ValueError, match="Expecting"):
            [chunk async for chunk in stream]


async def test_stall_and_slow(use: Use, client: Client, until: Any) -> None:
    faults = [
        {"kind": "stall", "seconds": 1, "at_most": 1},
        {"kind": "slow", "seconds": 100, "marker": "slow"},
    ]
    provider = await use(time_scale=0.1, faults=faults)
    async with client() as patient, client(timeout=0.3) as hasty:
        start = time.perf_counter()
        await patient.embeddings.create(model="simulated", input="a")
        assert time.perf_counter() - start >= 0.1
        with pytest.raises(openai.APITimeoutError):
            await hasty.embeddings.create(model="simulated", input="slow")

    async def client_is_gone() -> bool:
        return (await provider.stats()).in_flight == 0

    await until(client_is_gone)
    assert (await provider.stats()).statuses == {200: 1, 499: 1}


async def test_items_in_another_order(use: Use, client: Client) -> None:
    await use(faults=[{"kind": "order"}])
    async with client() as opened:
        for texts in (TEXTS, TEXTS[:2]):
            data = (await opened.embeddings.create(model="simulated", input=texts)).data
            assert [item.index for item in data] != list(range(len(texts)))
            for item in data:
                np.testing.assert_array_equal(
                    np.float32(item.embedding), expected_vector(texts[item.index], 8)
                )


@pytest.mark.parametrize(("amount", "indices"), [(-2, [0, 1, 2, 3]), (1, [0, 1, 2, 3, 4, 5, 6])])
async def test_wrong_count(use: Use, http: Any, amount: int, indices: list[int]) -> None:
    await use(faults=[{"kind": "count", "amount": amount}])
    async with http() as session:
        _, body = await post(session)
    assert [item["index"] for item in body["data"]] == indices


async def test_spoilt_vectors(use: Use, http: Any) -> None:
    faults = [
        {"kind": "nan", "marker": "text 1"},
        {"kind": "zero", "marker": "text 2"},
        {"kind": "dimensions", "marker": "text 3", "amount": 2},
    ]
    await use(faults=faults)
    async with http() as session:
        rows = [item["embedding"] for item in (await post(session))[1]["data"]]
    assert rows[1] == [None] * 8  # JSON has no NaN
    assert rows[2] == [0] * 8
    assert len(rows[3]) == 10
    for place in (0, 4, 5):
        np.testing.assert_allclose(rows[place], expected_vector(TEXTS[place], 8), atol=1e-6)


async def test_spoilt_vectors_in_base64(use: Use, client: Client) -> None:
    await use(faults=[{"kind": "nan"}])
    async with client() as opened:
        data = (await opened.embeddings.create(model="simulated", input=TEXTS)).data
    assert sum(np.isnan(item.embedding).all() for item in data) == 1


async def test_too_large(use: Use, client: Client) -> None:
    await use(max_texts=5, max_tokens=100)
    async with client() as opened:
        for texts in (TEXTS, ["x" * 404]):
            with pytest.raises(openai.APIStatusError) as caught:
                await opened.embeddings.create(model="simulated", input=texts)
            assert caught.value.status_code == 413


async def test_an_outage_that_answers(use: Use, http: Any) -> None:
    provider = await use(
        time_scale=0.1, faults=[{"kind": "status", "status": 503, "from_s": 1, "until_s": 3}]
    )
    async with http() as session:
        statuses = []
        while not statuses or statuses[-1][1] == 503 or statuses[-1][0] < 1:
            now_s = (await provider.stats()).elapsed_s
            statuses.append((now_s, (await post(session, str(len(statuses))))[0]))
            await asyncio.sleep(0.01)
    refused = [now_s for now_s, status in statuses if status == 503]
    assert min(refused) < 3
    assert statuses[0][1] == statuses[-1][1] == 200
    assert statuses[-1][0] >= 2.8  # asked for just before the call


async def test_an_outage_that_refuses_connections(use: Use, http: Any, until: Any) -> None:
    provider = await use(
        time_scale=0.1,
        latency={"base_ms": 1_500},
        faults=[{"kind": "refuse", "from_s": 1, "until_s": 4}],
    )
    async with http() as session:
        assert await outcome(session) in ("ServerDisconnectedError", "ClientOSError")
        assert await outcome(session) == "ClientConnectorError"
        assert (await provider.stats()).elapsed_s < 60  # can be asked all the while

        async def answers() -> bool:
            return await outcome(session) != "ClientConnectorError"

        await until(answers)
        stats = await provider.stats()
    assert stats.elapsed_s >= 4
    assert stats.statuses == {499: 1, 200: 1}


async def test_a_change_opens_what_was_closed(use: Use, http: Any, until: Any) -> None:
    provider = await use(faults=[{"kind": "refuse", "from_s": 0.001}])
    async with http() as session:
        await outcome(session)

        async def refuses() -> bool:
            return await outcome(session) == "ClientConnectorError"

        await until(refuses)
        await provider.change(faults=[])
        assert await outcome(session) == 200


async def peak(provider: SimulatedProvider, http: Any, calls: int) -> tuple[int, Counter[int]]:
    async with http() as session:
        statuses = await asyncio.gather(*(post(session, str(n)) for n in range(calls)))
    stats = await provider.stats()
    return stats.peak_in_service, Counter(status for status, _ in statuses)


async def test_capacity_with_a_queue(use: Use, http: Any) -> None:
    provider = await use(capacity=3, latency={"base_ms": 150})
    assert await peak(provider, http, 9) == (3, Counter({200: 9}))
    stats = await provider.stats(times=True)
    assert stats.peak_in_flight > 3
    assert stats.times is not None
    assert any((call.started_s or 0) - call.arrived_s >= 0.02 for call in stats.times)


async def test_capacity_with_rejection(use: Use, http: Any) -> None:
    provider = await use(capacity=3, over_capacity="reject", latency={"base_ms": 500})
    at_once, statuses = await peak(provider, http, 12)
    assert at_once == 3
    assert statuses[200] >= 3
    assert statuses[200] + statuses[429] == 12
    assert statuses[429] > 0


async def test_capacity_that_drops_and_recovers(use: Use, http: Any) -> None:
    provider = await use(
        capacity=6,
        time_scale=0.1,
        latency={"base_ms": 500},
        faults=[{"kind": "capacity", "amount": 2, "from_s": 2, "until_s": 6}],
    )
    assert (await peak(provider, http, 60))[0] == 6
    stats = await provider.stats(times=True)
    assert stats.times is not None

    def busy(at_s: float) -> int:
        return sum((c.started_s or 0) <= at_s < (c.ended_s or 0) for c in stats.times or [])

    # Calls of 0.5 s that began before the drop are over well before 4 s.
    assert max(busy(at_s) for at_s in np.arange(4, 5.9, 0.05)) == 2
    assert max(busy(at_s) for at_s in np.arange(6.1, 8, 0.05)) > 2


async def test_capacity_can_be_changed_in_mid_run(use: Use, http: Any, until: Any) -> None:
    provider = await use(capacity=1, latency={"base_ms": 60_000})
    async with http() as session:
        calls = [asyncio.create_task(post(session, str(n))) for n in range(4)]

        async def under_way(number: int) -> bool:
            return (await provider.stats()).in_flight == number

        await until(partial(under_way, 4))
        assert (await provider.stats()).peak_in_service == 1
        settings = await provider.change(capacity=None, latency={"base_ms": 0})
        assert settings.capacity is None
        # Three were waiting and are served by the new latency; the first keeps its own.
        await until(partial(under_way, 1))
        assert sum(call.done() for call in calls) == 3
        for call in calls:
            call.cancel()


async def test_requests_a_minute_are_counted_exactly(use: Use, http: Any) -> None:
    # 600 a modelled minute are 100 a real second; 5 can be saved up.
    provider = await use(requests_per_minute=600, burst_s=0.5, time_scale=0.1)
    async with http() as session:
        while (await provider.stats()).elapsed_s < 5:
            await asyncio.gather(*(post(session, str(n)) for n in range(20)))
    stats = await provider.stats(times=True)
    assert stats.times is not None
    last_s = max(call.arrived_s for call in stats.times)
    passed = stats.statuses[200]
    assert stats.statuses[429] == stats.calls - passed
    assert 5 <= passed <= 5 + 10 * last_s + 1  # the bucket may run over between the bursts


async def test_rate_headers_and_a_client_that_heeds_them(use: Use, client: Client) -> None:
    provider = await use(tokens_per_minute=6_000, burst_s=0.1, time_scale=0.2)  # 10, 500 a second
    async with client(max_retries=8) as opened:
        raw = await opened.embeddings.with_raw_response.create(model="simulated", input="x" * 40)
        assert raw.headers["x-ratelimit-limit-tokens"] == "30000"  # a real minute
        assert raw.headers["x-ratelimit-remaining-tokens"] == "0"
        assert raw.headers["x-ratelimit-reset-tokens"] == "20ms"
        for _ in range(3):
            await opened.embeddings.create(model="simulated", input="x" * 40)
    assert (await provider.stats()).served == 4


@pytest.mark.parametrize("told", ["86400000", "-5", "soon"])
async def test_absurd_times_to_come_back(use: Use, http: Any, told: str) -> None:
    await use(requests_per_minute=1, retry_after=told)
    async with http() as session:
        body = {"model": "simulated", "input": "a"}
        await post(session, "a")
        async with session.post("embeddings", json=body) as reply:
            assert reply.status == 429
            assert reply.headers["retry-after"] == told


async def test_a_request_that_never_fits(use: Use, client: Client) -> None:
    await use(tokens_per_minute=60)
    async with client() as opened:
        with pytest.raises(openai.RateLimitError, match="must be made smaller") as caught:
            await opened.embeddings.create(model="simulated", input="x" * 400)
    assert "retry-after" not in caught.value.response.headers
