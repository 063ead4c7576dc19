"""Chat through the gateway over real HTTP: repeats are real, kept once, paid for and bounded."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from rag_lab.errors import ModelError, ProviderError
from rag_lab.gateway.breaker import Breaker, BreakerSettings, ProviderFailingError
from rag_lab.gateway.call import Endpoint
from rag_lab.gateway.gateway import Gateway
from rag_lab.settings import Price
from rag_lab.simulate import SimulatedProvider
from rag_lab.telemetry.trace import tracing

pytestmark = pytest.mark.usefixtures("no_long_waits")

Use = Callable[..., Awaitable[SimulatedProvider]]
Until = Callable[[Callable[[], Awaitable[bool]]], Awaitable[None]]
Endpoints = Callable[..., Endpoint]
Open = Callable[..., Gateway]

PROMPT = (
    "The anchor is made of iron.\nThe lantern burns oil.\nQuestion: What is the anchor made of?"
)
MESSAGES = [{"role": "user", "content": PROMPT}]


async def test_an_answer_and_what_it_cost(
    use: Use, endpoint: Endpoints, open_gateway: Open
) -> None:
    provider = await use()
    gateway = open_gateway(prices={"simulated": Price(input=100, output=10_000)})
    model = gateway.chat_model(endpoint())
    with tracing() as trace:
        reply = await gateway.chat(model, MESSAGES)
    assert reply.content == "The anchor is made of iron."
    assert reply.finish_reason == "stop"
    asked, written = reply.prompt_tokens, reply.completion_tokens
    assert asked is not None
    assert written is not None
    assert (await provider.stats()).by_endpoint == {"chat": 1}
    assert trace.usage == gateway.usage == model.lane.usage
    usage = trace.usage
    assert (usage.calls, usage.texts) == (1, 0)
    assert (usage.prompt_tokens, usage.completion_tokens) == (asked, written)
    assert usage.cost_usd == pytest.approx((100 * asked + 10_000 * written) / 1e6)
    stages = {span.stage for span in trace.timing().spans}
    assert stages == {"budget", "limiter", "call", "decode"}


async def test_without_a_price_no_cost_is_made_up(
    use: Use, endpoint: Endpoints, open_gateway: Open
) -> None:
    await use()
    gateway = open_gateway()
    await gateway.chat(gateway.chat_model(endpoint()), MESSAGES)
    assert gateway.usage.cost_usd is None


async def test_options_are_sent(use: Use, endpoint: Endpoints, open_gateway: Open) -> None:
    await use()
    gateway = open_gateway()
    reply = await gateway.chat(gateway.chat_model(endpoint()), MESSAGES, {"max_tokens": 2})
    assert (reply.content, reply.finish_reason) == ("The anch", "length")


async def test_without_a_number_each_answer_is_asked_for(
    use: Use, endpoint: Endpoints, open_gateway: Open
) -> None:
    provider = await use()
    gateway = open_gateway()
    model = gateway.chat_model(endpoint())
    await asyncio.gather(*(gateway.chat(model, MESSAGES) for _ in range(3)))
    assert (await provider.stats()).calls == 3
    assert gateway.usage.cache_hits == 0


async def test_a_repeat_is_asked_once_and_another_is_another(
    use: Use, endpoint: Endpoints, open_gateway: Open
) -> None:
    provider = await use()
    first = open_gateway()
    model = first.chat_model(endpoint())
    replies = [await first.chat(model, MESSAGES, repeat=number) for number in (0, 1, 0)]
    assert (await provider.stats()).calls == 2
    assert (first.usage.calls, first.usage.cache_hits) == (2, 1)
    later = open_gateway()
    again = await later.chat(later.chat_model(endpoint()), MESSAGES, repeat=1)
    assert (await provider.stats()).calls == 2
    assert {reply.content for reply in [*replies, again]} == {"The anchor is made of iron."}
    assert again.prompt_tokens == replies[0].prompt_tokens


async def test_other_options_messages_or_models_are_other_answers(
    use: Use, endpoint: Endpoints, open_gateway: Open
) -> None:
    provider = await use(models=["simulated", "other"])
    gateway = open_gateway()
    model, other = gateway.chat_model(endpoint()), gateway.chat_model(endpoint(model="other"))
    system = {"role": "system", "content": PROMPT}
    asked: list[tuple[Any, ...]] = [
        (model, MESSAGES, {}),
        (model, MESSAGES, {"temperature": 0}),
        (model, MESSAGES, {"temperature": 1}),
        (model, [system], {}),
        (other, MESSAGES, {}),
    ]
    for _ in range(2):
        for chosen, messages, options in asked:
            await gateway.chat(chosen, messages, options, repeat=0)
    assert (await provider.stats()).calls == len(asked)


async def test_one_answer_for_all_who_ask_at_once(
    use: Use, endpoint: Endpoints, open_gateway: Open
) -> None:
    provider = await use(chat_latency={"base_ms": 50})
    gateway = open_gateway()
    model = gateway.chat_model(endpoint())
    tasks = [asyncio.create_task(gateway.chat(model, MESSAGES, repeat=0)) for _ in range(20)]
    await asyncio.sleep(0.01)
    tasks[0].cancel()
    await asyncio.gather(*tasks[1:])
    assert (await provider.stats()).statuses == {200: 1}


async def test_an_answer_that_nobody_waits_for_is_not_paid_for(
    use: Use, endpoint: Endpoints, open_gateway: Open, until: Until
) -> None:
    provider = await use(chat_latency={"base_ms": 20_000})
    gateway = open_gateway()
    work = asyncio.create_task(gateway.chat(gateway.chat_model(endpoint()), MESSAGES))

    async def arrived() -> bool:
        return (await provider.stats()).in_flight == 1

    async def left() -> bool:
        return (await provider.stats()).statuses == {499: 1}

    await until(arrived)
    work.cancel()
    await until(left)
    assert gateway.usage.calls == 0


FATAL = [
    (400, r"refused the request \(HTTP 400\)"),
    (401, r"refused the key \(HTTP 401\)\. Check RAG_LAB_LLM_API_KEY"),
    (402, r"refused the key \(HTTP 402\).*credit"),
    (403, r"refused the key \(HTTP 403\)\. Check RAG_LAB_LLM_API_KEY"),
    (404, r"does not exist \(HTTP 404\)\. Check RAG_LAB_LLM_MODEL and RAG_LAB_LLM_BASE_URL"),
    (413, r"takes no prompt of this length \(HTTP 413\)"),
    (422, r"refused the request \(HTTP 422\)"),
]


@pytest.mark.parametrize(("status", "message"), FATAL)
async def test_what_cannot_succeed_fails_with_one_call(
    use: Use, endpoint: Endpoints, open_gateway: Open, status: int, message: str
) -> None:
    provider = await use(faults=[{"kind": "status", "status": status}])
    gateway = open_gateway()
    with pytest.raises(ModelError, match=f"chat model 'simulated' at .*{message}") as raised:
        await gateway.chat(gateway.chat_model(endpoint()), MESSAGES, repeat=0)
    assert not isinstance(raised.value, ProviderError)
    assert PROMPT not in str(raised.value)
    assert (await provider.stats()).calls == 1


@pytest.mark.parametrize("kind", ["reset", "truncate", "invalid-json", "status"])
async def test_what_passes_is_tried_again(
    use: Use, endpoint: Endpoints, open_gateway: Open, kind: str
) -> None:
    provider = await use(faults=[{"kind": kind, "status": 500, "at_most": 2}])
    gateway = open_gateway()
    reply = await gateway.chat(gateway.chat_model(endpoint()), MESSAGES)
    assert reply.content == "The anchor is made of iron."
    assert (await provider.stats()).calls == 3
    assert (gateway.usage.calls, gateway.usage.retries) == (1, 2)


async def test_a_failure_is_not_kept(use: Use, endpoint: Endpoints, open_gateway: Open) -> None:
    await use(faults=[{"kind": "status", "status": 401, "at_most": 1}])
    gateway = open_gateway()
    model = gateway.chat_model(endpoint())
    with pytest.raises(ModelError):
        await gateway.chat(model, MESSAGES, repeat=0)
    assert (await gateway.chat(model, MESSAGES, repeat=0)).content


async def test_while_the_breaker_is_open_nothing_is_asked(
    use: Use, endpoint: Endpoints, open_gateway: Open
) -> None:
    provider = await use(faults=[{"kind": "status", "status": 500}])
    gateway = open_gateway()
    model = gateway.chat_model(endpoint())
    model.lane.breaker = Breaker(BreakerSettings(min_failures=2, min_duration_s=0.0, pause_s=60))
    with pytest.raises(ProviderError):
        await gateway.chat(model, MESSAGES)
    calls = (await provider.stats()).calls
    with pytest.raises(ProviderFailingError, match="tried again in"):
        await gateway.chat(model, MESSAGES)
    assert (await provider.stats()).calls == calls == 2


@pytest.mark.parametrize("hedged", [True, False])
async def test_answers_are_hedged_only_if_told(
    use: Use, endpoint: Endpoints, open_gateway: Open, hedged: bool
) -> None:
    late = {"kind": "stall", "seconds": 0.4, "marker": "late", "at_most": 1}
    await use(faults=[late], chat_latency={"base_ms": 5})
    gateway = open_gateway(hedge_chat=hedged)
    model = gateway.chat_model(endpoint())
    for text in [*map(str, range(12)), "this one is late"]:
        await gateway.chat(model, [{"role": "user", "content": text}])
    assert (gateway.usage.hedges > 0) == hedged
