"""The ideal against cases that can be reckoned by hand."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import numpy as np
import pytest
from openai import AsyncOpenAI

from rag_lab.evaluation.speed.ideal import (
    ideal_calls_s,
    ideal_embedding,
    ideal_of_run_s,
    makespan_s,
)
from rag_lab.simulate import Latency, SimulatorSettings, simulated


def provider(**values: Any) -> SimulatorSettings:
    return SimulatorSettings.of(values)


def test_slots_are_taken_as_they_become_free() -> None:
    times = np.array([[3.0, 1.0, 1.0, 1.0], [1.0, 1.0, 1.0, 5.0]])
    # Two slots: 3 beside 1 + 1 + 1; 1 + 1 beside 1 + 5.
    assert makespan_s(times, 2) == pytest.approx((3 + 6) / 2)
    assert makespan_s(times, 1) == pytest.approx((6 + 8) / 2)
    assert makespan_s(times, 4) == makespan_s(times, 99) == pytest.approx((3 + 5) / 2)


@pytest.mark.parametrize(("capacity", "waves"), [(1, 15), (4, 4), (8, 2), (15, 1), (None, 1)])
def test_without_spread_the_fewest_batches_in_waves(capacity: int | None, waves: int) -> None:
    settings = provider(latency={"base_ms": 200}, max_texts=100, capacity=capacity)
    ideal = ideal_embedding(settings, [100] * 1_458)
    assert ideal.batches == 15
    assert (ideal.expected_s, ideal.mean_s) == pytest.approx((waves * 0.2, waves * 0.2))


def test_where_texts_cost_time_batches_fill_the_slots() -> None:
    settings = provider(latency={"base_ms": 100, "per_text_ms": 1}, capacity=8)
    ideal = ideal_embedding(settings, [100] * 800)
    assert ideal.batches == 8
    assert ideal.expected_s == pytest.approx(0.1 + 0.1)


def test_with_one_slot_every_call_adds_its_mean() -> None:
    settings = provider(latency={"base_ms": 200, "spread": "lognormal"}, capacity=1, max_texts=100)
    ideal = ideal_embedding(settings, [100] * 1_000)
    assert ideal.mean_s == pytest.approx(2.0)
    assert ideal.expected_s == pytest.approx(2.0, rel=0.02)


def test_the_slowest_of_many_uniform_calls() -> None:
    latency = Latency(base_ms=1_000, spread="uniform", width=0.5)
    # The mean maximum of n uniform draws in (0.5, 1.5).
    assert ideal_calls_s(latency, 9, None) == pytest.approx(0.5 + 9 / 10, rel=0.02)
    assert ideal_calls_s(latency, 9, 1) == pytest.approx(9.0, rel=0.02)


def test_the_slowest_call_makes_the_expectation_larger_than_the_mean_bound() -> None:
    settings = provider(latency={"base_ms": 200, "spread": "lognormal"}, capacity=16, max_texts=100)
    ideal = ideal_embedding(settings, [100] * 1_458)
    assert ideal.mean_s == pytest.approx(0.2)
    assert 0.3 < ideal.expected_s < 0.45
    assert ideal == ideal_embedding(settings, [100] * 1_458)


def test_rate_limits_bind() -> None:
    settings = provider(
        latency={"base_ms": 500}, tokens_per_minute=60_000, burst_s=10, max_texts=100
    )
    ideal = ideal_embedding(settings, [100] * 1_000)
    # 100,000 tokens less the full bucket of 10,000, at 1,000 a second, and one call.
    assert (ideal.expected_s, ideal.mean_s) == pytest.approx((90 + 0.5, 90 + 0.5))


def test_no_batch_is_larger_than_the_bucket() -> None:
    settings = provider(latency={"base_ms": 500}, tokens_per_minute=60_000, burst_s=10)
    assert ideal_embedding(settings, [100] * 1_000).batches >= 10


def test_modelled_time_is_scaled() -> None:
    slow = provider(latency={"base_ms": 22_500}, time_scale=0.02)
    assert ideal_embedding(slow, [100] * 500).expected_s == pytest.approx(0.45)
    assert not math.isinf(ideal_embedding(slow, [100]).mean_s)


async def test_the_ideal_of_a_run_has_the_luck_that_its_calls_had() -> None:
    settings = SimulatorSettings.of(
        {
            "latency": {"base_ms": 40, "spread": "lognormal", "sigma": 0.8},
            "capacity": 4,
            "draw_by": "ordinal",
            "seed": 11,
        }
    )
    ideal_s = ideal_of_run_s(settings, [25] * 40, 4)
    async with (
        simulated(settings) as provider,
        AsyncOpenAI(base_url=provider.base_url, api_key="none") as client,
    ):
        await asyncio.gather(
            *(client.embeddings.create(model="simulated", input=["x"] * 10) for _ in range(4))
        )
        times = (await provider.stats(times=True)).times
    assert times is not None
    slowest_s = max(float(call.ended_s or 0) - float(call.started_s or 0) for call in times)
    assert ideal_s <= slowest_s
    assert ideal_of_run_s(settings.changed(seed=12), [25] * 40, 4) != ideal_s
    unlimited = settings.changed(capacity=None, latency={"spread": "none"})
    assert ideal_of_run_s(unlimited, [25] * 40, 4) == pytest.approx(0.04)
