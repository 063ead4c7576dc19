from __future__ import annotations

import math
from statistics import fmean
from typing import Any

import pytest
from pydantic import SecretStr

from rag_lab.errors import SettingsError
from rag_lab.simulate import PRESETS, Fault, Latency, SimulatorSettings, parse_fault, preset

QUANTILES = [(place + 0.5) / 2_000 for place in range(2_000)]


def test_latency_is_a_cost_in_size() -> None:
    latency = Latency(base_ms=100, per_text_ms=2, per_token_ms=0.5, per_output_token_ms=10)
    assert latency.typical_s(texts=3, tokens=40, output_tokens=5) == pytest.approx(0.176)
    assert latency.mean_s(texts=3, tokens=40) == pytest.approx(0.126)


@pytest.mark.parametrize(
    ("latency", "least", "most"),
    [
        (Latency(), 1, 1),
        (Latency(spread="uniform", width=0.2), 0.8, 1.2),
        (Latency(spread="lognormal", sigma=0.4), 0.2, 5),
        (Latency(spread="bimodal", slow_share=0.25, slow_factor=5), 1, 5),
    ],
)
def test_the_mean_latency_is_what_is_said(latency: Latency, least: float, most: float) -> None:
    factors = [latency.factor(quantile) for quantile in QUANTILES]
    base = latency.model_copy(update={"base_ms": 1_000})
    assert fmean(factors) == pytest.approx(base.mean_s(1, 1), rel=0.01)
    assert least - 1e-3 <= min(factors) <= max(factors) <= most + 1e-3


def test_lognormal_by_hand() -> None:
    assert Latency(spread="lognormal", sigma=0.5).factor(0.5) == pytest.approx(math.exp(-0.125))


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("503=0.05", Fault(kind="status", status=503, rate=0.05)),
        ("reset=0.01", Fault(kind="reset", rate=0.01)),
        ("order=1,endpoint=embeddings", Fault(kind="order", endpoint="embeddings")),
        ("stall=8,rate=0.02", Fault(kind="stall", seconds=8, rate=0.02)),
        ("slow=30", Fault(kind="slow", seconds=30)),
        ("outage=10-16", Fault(kind="status", status=503, from_s=10, until_s=16)),
        ("refuse=2-", Fault(kind="refuse", from_s=2)),
        ("capacity=4,from_s=1", Fault(kind="capacity", amount=4, from_s=1)),
        ("poison=bad text", Fault(kind="status", status=400, marker="bad text")),
        ("nan=1,marker=x,at_most=2", Fault(kind="nan", marker="x", at_most=2)),
    ],
)
def test_faults_are_read_from_the_command_line(text: str, fault: Fault) -> None:
    assert parse_fault(text) == fault


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("503", "expected NAME=VALUE"),
        ("503=0.1,rate", "expected NAME=VALUE"),
        ("flood=1", "kind: Input should be 'status', .* got 'flood'"),
        ("503=2", "rate: .* got '2'"),
        ("outage=16-10", "the window ends at 10.0 s, not after 16.0 s"),
        ("stall=0", "'stall' needs 'seconds' above 0"),
        ("capacity=0", "'capacity' needs 'amount' of 1 or more"),
        ("count=1,amount=0", "'count' needs an 'amount' other than 0"),
        ("refuse=1-2,rate=0.5", "'refuse' goes by its window alone"),
        ("reset=1,colour=red", "colour"),
    ],
)
def test_a_fault_that_cannot_be_is_refused(text: str, says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        parse_fault(text)


@pytest.mark.parametrize("name", PRESETS)
def test_settings_go_over_the_wire_and_come_back(name: str) -> None:
    settings = preset(name, api_key=SecretStr("sk-secret"), seed=7)
    assert SimulatorSettings.of(settings.to_wire()) == settings
    assert settings.to_wire()["api_key"] == "sk-secret"
    assert "sk-secret" not in f"{settings!r} {settings.public()}"


def test_changes_keep_the_rest() -> None:
    settings = preset("openai-like").changed(latency={"base_ms": 5}, capacity=3)
    assert settings.latency.spread == "lognormal"
    assert (settings.latency.base_ms, settings.capacity) == (5, 3)
    assert settings.dimensions == preset("openai-like").dimensions


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"capacity": 0}, "capacity: .* got 0"),
        ({"colour": 1}, "colour"),
        ({"latency": {"base_ms": -1}}, "latency.base_ms: .* got -1"),
        ({"api_key": 5}, "api_key: [^5]*$"),
    ],
)
def test_settings_that_cannot_be_are_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        SimulatorSettings().changed(**changes)


def test_no_such_preset() -> None:
    with pytest.raises(SettingsError, match="no preset 'fast'; there are openai-like, jina-slow"):
        preset("fast")


def test_what_budgets_impose() -> None:
    settings = SimulatorSettings(requests_per_minute=60, tokens_per_minute=600, burst_s=10)
    assert settings.least_s(calls=30, tokens=100) == pytest.approx(20)  # (30 - 10) / 1 a second
    assert settings.least_s(calls=10, tokens=400) == pytest.approx(30)  # (400 - 100) / 10
    assert SimulatorSettings().least_s(calls=10**6, tokens=10**9) == 0
