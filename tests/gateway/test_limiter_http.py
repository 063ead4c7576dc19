"""The limit and the pause over real HTTP: a refused burst is refused once."""

from __future__ import annotations

import asyncio

import pytest

from rag_lab.gateway.call import Endpoint
from rag_lab.gateway.gateway import Gateway
from rag_lab.settings import GatewaySettings
from rag_lab.simulate import SimulatorSettings, simulated

CAPACITY = 4


@pytest.mark.parametrize("retry_after", ["none", "milliseconds"])
async def test_a_burst_above_capacity_finds_it_with_few_refusals(retry_after: str) -> None:
    settings = SimulatorSettings.of(
        {
            "time_scale": 0.2,
            "dimensions": 4,
            "latency": {"base_ms": 250},
            "capacity": CAPACITY,
            "over_capacity": "reject",
            "retry_after": retry_after,
        }
    )
    async with simulated(settings) as provider:
        gateway = Gateway(GatewaySettings())
        model = gateway.embedding_model(Endpoint("simulated", provider.base_url))
        embedded = await asyncio.gather(*(model.batch([f"text {n}"]) for n in range(24)))
        stats = await provider.stats()
        await model.aclose()
    assert not any(batch.failed for batch in embedded)
    assert stats.served == 24
    assert stats.statuses.get(429, 0) <= CAPACITY
    assert model.lane.limiter.limit in range(CAPACITY - 1, CAPACITY + 2)


async def test_who_stands_in_the_limiters_line_sits_out_a_pause() -> None:
    settings = SimulatorSettings.of(
        {
            "dimensions": 4,
            "latency": {"base_ms": 20},
            "retry_after": "0.3",
            "faults": [{"kind": "status", "status": 429, "at_most": 1}],
        }
    )
    async with simulated(settings) as provider:
        gateway = Gateway(GatewaySettings(concurrency=1))
        model = gateway.embedding_model(Endpoint("simulated", provider.base_url))
        await asyncio.gather(*(model.batch([f"text {n}"]) for n in range(6)))
        stats = await provider.stats(times=True)
        await model.aclose()
    refused, *others = stats.times or []
    assert refused.status == 429
    assert len(others) == 6
    assert min(call.arrived_s for call in others) - refused.arrived_s >= 0.29
