"""The bench of the limit: its scenarios, its arithmetic, and one short run."""

from __future__ import annotations

import pytest

from rag_lab.errors import SettingsError
from rag_lab.evaluation.speed.limiter import (
    FIXED,
    Course,
    Scenario,
    bars_of,
    bench_limiter,
    row_of,
    run_limit,
    scenarios,
)
from rag_lab.simulate import Latency, SimulatorSettings, simulated


def course(goodput: float, *limits: tuple[float, int]) -> Course:
    return Course(goodput, seconds=8.0, limits=limits, throttled=3, timeouts=0, failure="")


def row(limit: int, *, top: float = 100.0) -> dict[str, object]:
    fixed = {limit: 100.0 * min(limit, 16) / 16 for limit in FIXED} | {FIXED[-1]: top}
    return row_of("calm", fixed, course(90.0, (0.0, 16), (1.0, limit)))


def test_what_changes_changes_at_the_thirds() -> None:
    known = scenarios(9.0)
    changing = [s for s in known.values() if s.steady_up_to < FIXED[-1]]
    assert [s.name for s in changing] == ["drop", "drop-429"]
    for scenario in changing:
        (fault,) = scenario.settings.faults
        assert (fault.from_s, fault.until_s) == (3.0, 6.0)
        assert fault.amount == scenario.steady_up_to


def test_the_last_limit_is_a_mean_over_the_last_quarter() -> None:
    assert course(1.0, (0.0, 16), (1.0, 32)).last == 32
    assert course(1.0, (0.0, 16), (7.0, 32)).last == 24
    assert course(1.0, (0.0, 16), (6.5, 32), (7.5, 8)).last == 22


def test_regret_is_what_the_best_fixed_limit_would_have_earned_more() -> None:
    told = row(16)
    assert told["best_fixed"] == 16
    assert told["regret"] == pytest.approx(10)
    assert (told["range"], told["throttled"]) == ("16–16", 3)


@pytest.mark.parametrize(
    ("limit", "top", "holds"),
    [
        (16, 100.0, True),
        (1, 100.0, False),
        (512, 100.0, False),
        (512, 150.0, True),  # the highest fixed limit earned much more: above it may be right
    ],
)
def test_a_limit_at_its_end_is_stuck_unless_that_is_right(
    limit: int, top: float, holds: bool
) -> None:
    bars = bars_of(row(limit, top=top))
    assert all(bar.holds for bar in bars if "limit" in bar.what) == holds


async def test_an_unknown_scenario() -> None:
    with pytest.raises(SettingsError, match="no scenario 'sunny'; there are queue-16, queue-48"):
        await bench_limiter(names=["sunny"], tell=print)


async def test_a_fixed_and_the_adaptive_limit_over_http() -> None:
    settings = SimulatorSettings(
        capacity=4, over_capacity="reject", retry_after="none", latency=Latency(base_ms=20)
    )
    scenario = Scenario("tiny", "4 at once", settings)
    async with simulated() as provider:
        fixed = await run_limit(provider, scenario, 0.3, 2)
        adaptive = await run_limit(provider, scenario, 0.3)
    assert [limit for _, limit in fixed.limits] == [16, 2]
    assert fixed.last == 2
    assert not fixed.failure
    assert fixed.goodput > 0
    assert fixed.throttled == 0
    assert adaptive.goodput > 0
    assert adaptive.throttled > 0
    assert adaptive.limits[-1][1] < 16
