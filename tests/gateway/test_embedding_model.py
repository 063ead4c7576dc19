"""An embedding model over real HTTP: which text is asked how often, and what is said of the bad."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest

from rag_lab.errors import ModelError, ProviderError
from rag_lab.gateway.breaker import Breaker, BreakerSettings
from rag_lab.gateway.call import CallSettings, Endpoint
from rag_lab.gateway.embedding import PROBE, EmbeddingModel
from rag_lab.gateway.lane import Lane
from rag_lab.gateway.plan import BatchLimits
from rag_lab.settings import GatewaySettings, Price
from rag_lab.simulate import SimulatedProvider, expected_vector
from rag_lab.telemetry.trace import tracing

pytestmark = pytest.mark.usefixtures("no_long_waits")

Use = Callable[..., Awaitable[SimulatedProvider]]
Right = Callable[..., None]
Make = Callable[..., EmbeddingModel]

TEXTS = [f"text number {number}" for number in range(64)]
BAD = "text number 21 is marked"
MARKED = [*TEXTS[:21], BAD, *TEXTS[22:]]


@pytest.fixture
def make(endpoint: Callable[..., Endpoint]) -> Make:
    """Makes models, each with a lane of its own."""

    def made(
        *,
        limits: BatchLimits | None = None,
        timeout_s: float = 20.0,
        price: Price | None = None,
        dimensions: int | None = None,
        **settings: Any,
    ) -> EmbeddingModel:
        return EmbeddingModel(
            endpoint(dimensions=dimensions),
            Lane("test", GatewaySettings(**settings)),
            CallSettings(timeout_s=timeout_s),
            limits or BatchLimits(),
            price,
        )

    return made


async def counted(provider: SimulatedProvider) -> Counter[str]:
    return Counter((await provider.stats(texts=True)).text_counts)


async def test_a_batch_is_one_call(use: Use, make: Make, assert_right: Right) -> None:
    provider = await use()
    model = make(price=Price(input=1_000_000))
    with tracing() as trace:
        embedded = await model.batch(TEXTS)
    assert_right(embedded, TEXTS)
    stats = await provider.stats()
    assert embedded.calls == stats.calls == trace.usage.calls == 1
    assert trace.usage == model.lane.usage
    assert (trace.usage.texts, trace.usage.prompt_tokens) == (64, stats.tokens)
    assert trace.usage.cost_usd == stats.tokens


FATAL = [
    (401, r"refused the key \(HTTP 401\)\. Check RAG_LAB_EMBED_API_KEY"),
    (403, r"refused the key \(HTTP 403\)\. Check RAG_LAB_EMBED_API_KEY"),
    (404, r"does not exist \(HTTP 404\)\. Check RAG_LAB_EMBED_MODEL and RAG_LAB_EMBED_BASE_URL"),
]


@pytest.mark.parametrize(("status", "message"), FATAL)
async def test_what_cannot_succeed_fails_at_once(
    use: Use, make: Make, status: int, message: str
) -> None:
    provider = await use(faults=[{"kind": "status", "status": status}])
    with pytest.raises(ModelError, match=message) as raised:
        await make().batch(TEXTS)
    assert not isinstance(raised.value, ProviderError)
    assert (await provider.stats()).calls == 1
    with pytest.raises(ModelError, match=message):
        await make().one("one")
    assert (await provider.stats()).calls == 2


async def test_a_request_that_is_refused_whatever_it_holds_costs_few_calls(
    use: Use, make: Make
) -> None:
    provider = await use(faults=[{"kind": "status", "status": 400}])
    with pytest.raises(ModelError, match="text or settings are not taken"):
        await make().batch(TEXTS)
    assert (await provider.stats()).calls <= 3


async def test_vectors_of_another_length_fail_at_once(use: Use, make: Make) -> None:
    provider = await use(faults=[{"kind": "dimensions", "amount": -1}])
    with pytest.raises(
        ModelError, match=r"expected 6 dimensions, got 5.*RAG_LAB_EMBED_DIMENSIONS"
    ) as raised:
        await make(dimensions=6).batch(["one"])
    assert not isinstance(raised.value, ProviderError)
    assert (await provider.stats()).calls == 1


async def test_one_refused_text_takes_few_calls_to_find(
    use: Use, make: Make, assert_right: Right
) -> None:
    provider = await use(faults=[{"kind": "status", "status": 400, "marker": "is marked"}])
    embedded = await make().batch(MARKED)
    assert_right(embedded, MARKED, [BAD])
    assert "refused the request (HTTP 400)" in embedded.failed[21]
    assert (await provider.stats()).calls <= 6 + 3 + 6  # log2(64), a margin, what passes


@pytest.mark.parametrize("kind", ["nan", "zero"])
async def test_only_what_is_unusable_is_asked_again(
    use: Use, make: Make, assert_right: Right, kind: str
) -> None:
    provider = await use(faults=[{"kind": kind, "marker": "is marked", "at_most": 2}])
    model = make()
    assert_right(await model.batch(MARKED), MARKED)
    asked = await counted(provider)
    assert asked == Counter(MARKED) + Counter({BAD: 2})
    assert model.lane.usage.retries == 2


async def test_what_stays_unusable_is_listed_after_three_tries(
    use: Use, make: Make, assert_right: Right
) -> None:
    provider = await use(faults=[{"kind": "nan", "marker": "is marked"}])
    embedded = await make().batch(MARKED)
    assert_right(embedded, MARKED, [BAD])
    assert "sent NaN or infinity each time it was asked" in embedded.failed[21]
    assert (await counted(provider))[BAD] == 3


async def test_a_batch_may_fail_altogether(use: Use, make: Make) -> None:
    await use(faults=[{"kind": "nan", "marker": "text"}])
    embedded = await make().batch(TEXTS)
    assert embedded.failed.keys() == set(range(64))
    assert len(embedded.matrix) == 64


async def test_a_text_that_makes_the_server_hang_is_listed(
    use: Use, make: Make, assert_right: Right
) -> None:
    hangs = {"kind": "stall", "seconds": 60, "marker": "is marked"}
    await use(faults=[hangs])
    texts = MARKED[16:24]
    embedded = await make(timeout_s=0.1, hedge=False).batch(texts)
    assert_right(embedded, texts, [BAD])
    assert "each time it is asked for this text" in embedded.failed[5]


async def test_no_text_is_blamed_for_a_provider_that_is_down(use: Use, make: Make) -> None:
    provider = await use(faults=[{"kind": "status", "status": 500}])
    model = make(ingest_patience_s=0.3)
    with pytest.raises(ProviderError):
        await model.batch(TEXTS)
    asked = await counted(provider)
    assert asked[PROBE] >= 1  # something harmless was asked too
    assert {text for text, count in asked.items() if text != PROBE} == set(TEXTS)
    sizes = {call.texts for call in (await provider.stats(times=True)).times or ()}
    assert sizes == {1, 64}


async def test_bulk_work_waits_for_a_breaker(use: Use, make: Make, assert_right: Right) -> None:
    provider = await use(time_scale=0.01, faults=[{"kind": "status", "status": 503, "until_s": 30}])
    model = make()
    model.lane.breaker = Breaker(
        BreakerSettings(min_failures=2, min_duration_s=0.0, pause_s=0.05, jitter=0.0)
    )
    assert_right(await model.batch(TEXTS), TEXTS)
    states = [change.state for change in model.lane.breaker.history]
    assert "failing" in states
    assert (await provider.stats()).calls < 20


async def test_questions_ride_within_the_limits_of_a_call(use: Use, make: Make) -> None:
    provider = await use(latency={"base_ms": 20})
    model = make(limits=BatchLimits(items=20, size_bytes=200), concurrency=1)
    wide = [f"質問{number:02}です" for number in range(40)]  # 6 characters, 14 bytes
    ridden = await asyncio.gather(*(model.one(text) for text in wide))
    for text, one in zip(wide, ridden, strict=True):
        np.testing.assert_allclose(one.vector, expected_vector(text, 8), atol=1e-6)
    sizes = [call.texts for call in (await provider.stats(times=True)).times or ()]
    assert sum(sizes) == 40
    assert max(sizes) <= 200 // 14


async def test_riders_share_one_trace(use: Use, make: Make) -> None:
    await use(latency={"base_ms": 20})
    model = make(concurrency=1)
    ridden = await asyncio.gather(*(model.one(text) for text in TEXTS))
    assert {one.company for one in ridden} <= {1, 63, 64}
    assert len({id(one.trace) for one in ridden}) <= 2
    assert sum(1 / one.company for one in ridden) == pytest.approx(model.lane.usage.calls)
