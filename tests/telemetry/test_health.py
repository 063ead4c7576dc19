"""Every threshold on both sides, and how health reads."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from rag_lab.telemetry import (
    Finding,
    Health,
    HealthStatus,
    LoopLag,
    ProviderFigures,
    Stall,
    health_of,
)

NAME = "small at localhost"
WELL = ProviderFigures(NAME, limit=16, in_flight=3, calls=100, p50_s=0.5, p95_s=1.25)


def finding(what: str, **figures: Any) -> Finding:
    health = health_of([replace(WELL, **figures)])
    (found,) = [one for one in health.findings if one.what == f"{NAME}: {what}"]
    assert bool(found.recommendation) == (found.status != "healthy")
    return found


def lag(p99_ms: float, stalls: tuple[Stall, ...] = ()) -> Finding:
    (found,) = health_of([], LoopLag(1_000, 0.1, p99_ms, 204.0, stalls)).findings
    assert bool(found.recommendation) == (found.status != "healthy")
    return found


def test_what_is_well_is_said_for_everything_that_is_looked_at() -> None:
    health = health_of([WELL], LoopLag(1_000, 0.1, 3.4, 12.0))
    assert health.status == "healthy"
    assert {one.what: one.figure for one in health.findings} == {
        "event loop lag": "p99 3 ms, longest 12 ms",
        f"{NAME}: in flight": "3 of 16, p50 0.50 s, p95 1.25 s",
        f"{NAME}: errors": "0.0 % failed, 0.0 % refused (429) of 100 calls",
        f"{NAME}: breaker": "working",
        f"{NAME}: budget": "no limit known",
    }
    assert all(not one.recommendation for one in health.findings)


@pytest.mark.parametrize(
    ("p99_ms", "status"),
    [(49.9, "healthy"), (50.0, "degraded"), (249.0, "degraded"), (250.0, "critical")],
)
def test_loop_lag(p99_ms: float, status: HealthStatus) -> None:
    assert lag(p99_ms).status == status


def test_loop_lag_names_what_held_the_loop_longest() -> None:
    stalls = (Stall(0.0, 0.3, ()), Stall(1.0, 0.2, ("a.py:1 f", "index/nodes.py:31 build")))
    assert "what runs at index/nodes.py:31 build off the loop" in lag(60, stalls).recommendation
    assert "Move blocking work off the loop" in lag(60).recommendation


def test_lag_without_samples_is_no_finding() -> None:
    assert health_of([], LoopLag()) == Health("healthy", ())


@pytest.mark.parametrize(
    ("waiting", "status"),  # 16 at a time, 0.5 s each: 32 wait for 1 s
    [(0, "healthy"), (31, "healthy"), (32, "degraded"), (319, "degraded"), (320, "critical")],
)
def test_in_flight(waiting: int, status: HealthStatus) -> None:
    assert finding("in flight", in_flight=16, waiting=waiting).status == status


def test_all_slots_taken_is_what_they_are_for() -> None:
    assert finding("in flight", in_flight=16).figure == "16 of 16, p50 0.50 s, p95 1.25 s"
    assert finding("in flight", in_flight=16).status == "healthy"


def test_waiting_is_told_in_seconds() -> None:
    found = finding("in flight", in_flight=16, waiting=64)
    assert found.figure == "16 of 16, 64 waiting for about 2.0 s, p50 0.50 s, p95 1.25 s"
    assert "more than 16 calls" in found.recommendation


@pytest.mark.parametrize(("waiting", "status"), [(0, "healthy"), (1, "degraded")])
def test_in_flight_before_the_first_reply(waiting: int, status: HealthStatus) -> None:
    found = finding("in flight", waiting=waiting, calls=0, p50_s=None, p95_s=None)
    assert found.status == status


@pytest.mark.parametrize(
    ("share", "status"),
    [(0.049, "healthy"), (0.05, "degraded"), (0.166, "degraded"), (1 / 6, "critical")],
)
def test_errors(share: float, status: HealthStatus) -> None:
    assert finding("errors", calls=1_000, error_share=share).status == status


@pytest.mark.parametrize(
    ("share", "status"),
    [(0.099, "healthy"), (0.1, "degraded"), (0.499, "degraded"), (0.5, "critical")],
)
def test_refusals(share: float, status: HealthStatus) -> None:
    assert finding("errors", calls=1_000, throttled_share=share).status == status


@pytest.mark.parametrize("failures", [0, 1, 2, 3])
@pytest.mark.parametrize("figure", ["error_share", "throttled_share"])
def test_fewer_than_three_failures_are_chance(failures: int, figure: str) -> None:
    found = finding("errors", calls=3, **{figure: failures / 3})
    assert found.status == ("critical" if failures == 3 else "healthy")


def test_what_to_do_follows_the_worse_of_errors_and_refusals() -> None:
    both = finding("errors", calls=100, error_share=0.06, throttled_share=0.6)
    assert both.status == "critical"
    assert both.figure == "6.0 % failed, 60.0 % refused (429) of 100 calls"
    assert "requests_per_minute" in both.recommendation
    errors = finding("errors", calls=100, error_share=0.06, throttled_share=0.2)
    assert "go on by themselves" in errors.recommendation


@pytest.mark.parametrize(
    ("state", "status"),
    [("working", "healthy"), ("recovering", "degraded"), ("failing", "critical")],
)
def test_breaker(state: str, status: HealthStatus) -> None:
    assert finding("breaker", breaker=state).status == status


def test_a_failing_provider_says_why_and_when_it_is_asked_again() -> None:
    found = finding("breaker", breaker="failing", breaker_reason="12 failures", retry_in_s=3.21)
    assert found.figure == "failing (12 failures), asked again in 3.2 s"
    found = finding("breaker", breaker="recovering", breaker_reason="looks again")
    assert found.figure == "recovering (looks again)"


@pytest.mark.parametrize("of", ["requests_left_share", "tokens_left_share"])
@pytest.mark.parametrize(
    ("share", "status"),
    [(1.0, "healthy"), (0.1, "healthy"), (0.099, "degraded"), (-0.2, "degraded")],
)
def test_budget(of: str, share: float, status: HealthStatus) -> None:
    assert finding("budget", **{of: share}).status == status


@pytest.mark.parametrize(
    ("paused_s", "status"),
    [(0.0, "healthy"), (0.1, "degraded"), (9.9, "degraded"), (10.0, "critical")],
)
def test_a_pause(paused_s: float, status: HealthStatus) -> None:
    assert finding("budget", paused_s=paused_s).status == status


def test_the_budget_names_what_is_scarce() -> None:
    found = finding("budget", requests_left_share=0.5, tokens_left_share=-0.01, paused_s=0.0)
    assert found.figure == "50.0 % of requests left, 0.0 % of tokens left"
    assert "tokens a minute" in found.recommendation
    assert finding("budget", paused_s=2.0).figure == "paused for 2.0 s"


def test_the_worst_finding_is_the_status_and_comes_first() -> None:
    slow = replace(WELL, name="slow", waiting=64)
    down = replace(WELL, name="down", breaker="failing")
    health = health_of([WELL, slow, down])
    assert health.status == "critical"
    assert [one.what for one in health.findings][:3] == [
        "down: breaker",
        "slow: in flight",
        f"{NAME}: in flight",
    ]
    assert len(health.findings) == 12


def test_nothing_measured_is_said() -> None:
    assert str(health_of([])) == "healthy: nothing has been measured yet"


def test_health_reads_as_text() -> None:
    found = (
        Finding("a: breaker", "critical", "failing", "Wait."),
        Finding("lag", "healthy", "3 ms"),
    )
    assert str(Health("critical", found)).splitlines() == [
        "critical",
        "  ✖ critical  a: breaker  failing",
        "              → Wait.",
        "  ✓ healthy   lag         3 ms",
    ]


def test_health_is_plain_data() -> None:
    health = health_of([WELL], LoopLag(10, 1.0, 2.0, 3.0))
    data = json.loads(json.dumps(health.to_dict()))
    assert data["status"] == "healthy"
    assert data["findings"][0] == {
        "what": "event loop lag",
        "status": "healthy",
        "figure": "p99 2 ms, longest 3 ms",
        "recommendation": "",
    }


def test_health_shows_itself_without_colour_and_without_markup_from_outside() -> None:
    html = health_of(
        [replace(WELL, name="<b>evil</b>", breaker="failing", breaker_reason="<script>")]
    )._repr_html_()
    assert "<script>" not in html
    assert "&lt;b&gt;evil&lt;/b&gt;: breaker" in html
    assert "<strong>✖ critical</strong>" in html
    assert "✓ healthy" in html
    assert "style=" not in html
