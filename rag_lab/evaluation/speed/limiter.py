"""`rag-lab bench limiter`: the adaptive limit beside fixed ones, through the real gateway.

Regret is goodput lost against the best fixed limit of the same provider.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Final

from rag_lab.errors import SettingsError
from rag_lab.evaluation.bars import Bar
from rag_lab.evaluation.speed.measure import Tell, measured
from rag_lab.evaluation.speed.table import Column, Report, Row, Table
from rag_lab.gateway.call import CallSettings, Endpoint
from rag_lab.gateway.embedding import EmbeddingModel
from rag_lab.gateway.gateway import Gateway
from rag_lab.gateway.limiter import LimiterSettings
from rag_lab.gateway.outcomes import Outcome
from rag_lab.settings import GatewaySettings
from rag_lab.simulate import Fault, SimulatedProvider, SimulatorSettings, simulated

FIXED: Final = (1, 2, 4, 8, 16, 32, 64, 128)
MOST_REGRET: Final = 15.0
_BACKLOG: Final = 256
"""Batches that want to be sent at any moment: twice the highest fixed limit."""
_BATCH: Final = tuple(f"Text number {number} of a batch." for number in range(8))
_STEADY_SHARE: Final = 8
_SPARE_S: Final = 30.0
_STILL_GROWS: Final = 1.1
"""By so much a doubling must earn more for the best limit to be thought above the highest."""
_CALL: Final[dict[str, Any]] = {"base_ms": 150, "spread": "lognormal", "sigma": 0.3}
"""Slower where there are many: the machine itself must not be what they wait for."""
_PROVIDER: Final[dict[str, Any]] = {
    "dimensions": 8,
    "latency": _CALL,
    # Call n has the same luck whatever the limit: limits are compared on equal terms.
    "draw_by": "ordinal",
    "retry_after": "none",
}

COLUMNS: Final = (
    Column("scenario", "scenario"),
    *(Column(f"fixed_{limit}", f"{limit}", ",.0f") for limit in FIXED),
    Column("best_fixed", "best", ".0f"),
    Column("adaptive", "adaptive", ",.0f"),
    Column("regret", "regret %", ".1f"),
    Column("limit", "limit", ".0f"),
    Column("range", "range"),
    Column("throttled", "429s", ",.0f"),
    Column("timeouts", "timeouts", ",.0f"),
    Column("failure", "failed"),
)
NOTES: Final = (
    "Texts answered a second by fixed limits and by the adaptive one, in batches of "
    f"{len(_BATCH)}; {_BACKLOG} batches want to be sent at any moment. Counted from one typical "
    "latency after the start, before which nobody has an answer: the adaptive limit's way from "
    "16 to where it belongs counts, and so do its experiments.",
    f"A fixed limit that notices no change is watched for 1/{_STEADY_SHARE} of the duration. "
    "limit: mean of the adaptive one over the last quarter; range: over all. 429s and timeouts: "
    "of the adaptive run.",
)


@dataclass(frozen=True, slots=True)
class Scenario:
    """One provider to find the right limit for.

    Attributes:
        timeout_s: of a call.
        steady_up_to: a fixed limit up to this earns the same at any time.
    """

    name: str
    about: str
    settings: SimulatorSettings
    timeout_s: float = 60.0
    steady_up_to: float = math.inf


@dataclass(frozen=True, slots=True)
class Course:
    """What a limit earned.

    Attributes:
        goodput: texts answered a second.
        limits: seconds since the start and limit, at each change.
    """

    goodput: float
    seconds: float
    limits: tuple[tuple[float, int], ...]
    throttled: int
    timeouts: int
    failure: str

    @property
    def last(self) -> float:
        """The mean limit over the last quarter."""
        since = 0.75 * self.seconds
        points = [*self.limits, (self.seconds, 0)]
        held = sum(
            limit * max(0.0, until - max(at, since)) for (at, limit), (until, _) in pairwise(points)
        )
        return held / (self.seconds - since)


def _scenario(name: str, about: str, **changes: Any) -> Scenario:
    return Scenario(name, about, SimulatorSettings.of(_PROVIDER | changes))


def scenarios(duration_s: float) -> dict[str, Scenario]:
    """Providers by name; what changes in mid-run does so after each third of it."""
    third_s = duration_s / 3
    drop = Fault(kind="capacity", amount=8, from_s=third_s, until_s=2 * third_s)
    dropping = {"capacity": 32, "faults": (drop,)}
    known = (
        _scenario("queue-16", "16 calls at once, more of them queue", capacity=16),
        _scenario(
            "queue-48",
            "48 calls at once, 200 ms each, more of them queue",
            capacity=48,
            latency=_CALL | {"base_ms": 200},
        ),
        _scenario("ample", "any number of calls, 300 ms each", latency=_CALL | {"base_ms": 300}),
        _scenario(
            "bimodal",
            "one call in ten takes 8 times as long; 24 at once, more of them queue",
            capacity=24,
            latency={"base_ms": 100, "spread": "bimodal", "slow_share": 0.1, "slow_factor": 8},
        ),
        replace(
            _scenario(
                "plateau",
                "from 25 in flight on every call takes 30 s; a timeout of 1 s",
                faults=(Fault(kind="slow", seconds=30, above_in_flight=24),),
            ),
            timeout_s=1.0,
        ),
        _scenario("429", "4 at once, more get 429", capacity=4, over_capacity="reject"),
        _scenario(
            "429-retry-after",
            "24 at once, more get 429 and Retry-After: 1",
            capacity=24,
            over_capacity="reject",
            retry_after="seconds",
        ),
        replace(
            _scenario("drop", "32 at once, in the second third 8; more queue", **dropping),
            steady_up_to=8,
        ),
        replace(
            _scenario(
                "drop-429",
                "32 at once, in the second third 8; more get 429",
                over_capacity="reject",
                **dropping,
            ),
            steady_up_to=8,
        ),
    )
    return {scenario.name: scenario for scenario in known}


async def bench_limiter(
    *, names: Sequence[str] = (), duration_s: float = 12.0, seed: int = 0, tell: Tell
) -> Report:
    """Measures fixed limits and the adaptive one, a provider after the other.

    Args:
        names: of scenarios; all by default.
        duration_s: of an adaptive run.
        tell: called with a line on each run.

    Raises:
        SettingsError: there is no such scenario.
    """
    known = scenarios(duration_s)
    if unknown := [name for name in names if name not in known]:
        raise SettingsError(f"there is no scenario {unknown[0]!r}; there are {', '.join(known)}.")
    chosen = [known[name] for name in dict.fromkeys(names or known)]
    async with simulated() as provider:
        rows = [await _row(provider, scenario, duration_s, seed, tell) for scenario in chosen]
    table = Table("Texts a second by limit on calls in flight", COLUMNS, rows)
    abouts = [f"{scenario.name}: {scenario.about}." for scenario in chosen]
    bars = [bar for row in rows for bar in bars_of(row)]
    setup = {"duration_s": duration_s, "seed": seed}
    return Report("limiter", setup, [table], [*NOTES, *abouts], bars)


async def _row(
    provider: SimulatedProvider, scenario: Scenario, duration_s: float, seed: int, tell: Tell
) -> Row:
    scenario = replace(scenario, settings=scenario.settings.changed(seed=seed))
    fixed = {}
    for limit in FIXED:
        steady = limit <= scenario.steady_up_to
        seconds = duration_s / _STEADY_SHARE if steady else duration_s
        fixed[limit] = (await run_limit(provider, scenario, seconds, limit)).goodput
        tell(f"{scenario.name}: {limit} earns {fixed[limit]:,.0f} texts/s")
    course = await run_limit(provider, scenario, duration_s)
    tell(f"{scenario.name}: adaptive earns {course.goodput:,.0f} texts/s {course.failure}")
    return row_of(scenario.name, fixed, course)


def row_of(name: str, fixed: Mapping[int, float], course: Course) -> Row:
    """A row of the table: goodput by fixed limit beside the adaptive course."""
    best = max(fixed, key=lambda limit: fixed[limit])
    seen = [limit for _, limit in course.limits]
    return {
        "scenario": name,
        **{f"fixed_{limit}": goodput for limit, goodput in fixed.items()},
        "best_fixed": best,
        "adaptive": course.goodput,
        "regret": 100 * (1 - course.goodput / fixed[best]) if fixed[best] else math.nan,
        "limit": course.last,
        "range": f"{min(seen)}–{max(seen)}",
        "throttled": course.throttled,
        "timeouts": course.timeouts,
        "failure": course.failure,
        "limits": course.limits,
    }


def bars_of(row: Row) -> list[Bar]:
    """Regret, and that the limit did not end where it can go no further, unless that is right."""
    name, settings, (*_, below, top) = row["scenario"], LimiterSettings(), FIXED
    bars = [Bar(f"{name}: regret, %", row["regret"], MOST_REGRET, "<=")]
    if row["best_fixed"] > 2 * settings.minimum:
        bars.append(Bar(f"{name}: limit at the end", row["limit"], 1.1 * settings.minimum, ">="))
    if row[f"fixed_{top}"] < _STILL_GROWS * row[f"fixed_{below}"]:
        bars.append(Bar(f"{name}: limit at the end", row["limit"], 0.9 * settings.maximum, "<="))
    return bars


async def run_limit(
    provider: SimulatedProvider, scenario: Scenario, seconds: float, limit: int | None = None
) -> Course:
    """Lets a backlog loose on the provider for some time; without a limit it is adaptive."""
    settings = scenario.settings
    gateway = Gateway(GatewaySettings(concurrency=limit))
    model = gateway.embedding_model(
        Endpoint(settings.models[0], provider.base_url, dimensions=settings.dimensions),
        settings=CallSettings(timeout_s=scenario.timeout_s),
    )
    idle_s = settings.latency.mean_s(len(_BATCH), 0)
    done = await measured(
        provider, settings, lambda: _play(model, seconds), budget_s=seconds + _SPARE_S
    )
    history = model.lane.limiter.history
    began, answers = done.value or (history[0].at, [])
    texts = sum(texts for at, texts in answers if idle_s <= at)
    return Course(
        goodput=texts / (seconds - idle_s),
        seconds=seconds,
        limits=tuple((max(0.0, change.at - began), change.limit) for change in history),
        throttled=done.stats.statuses.get(429, 0),
        timeouts=sum(call.outcome is Outcome.TIMEOUT for call in model.lane.recent),
        failure=done.failure,
    )


async def _play(model: EmbeddingModel, seconds: float) -> tuple[float, list[tuple[float, int]]]:
    """Keeps a backlog for some time; when it began, and after how long each batch was answered."""
    await model.batch(_BATCH)  # connects; what that takes is no part of the figures
    began = time.monotonic()
    answers: list[tuple[float, int]] = []

    async def work() -> None:
        while True:
            embedded = await model.batch(_BATCH)
            answers.append((time.monotonic() - began, len(_BATCH) - len(embedded.failed)))

    workers = [asyncio.create_task(work()) for _ in range(_BACKLOG)]
    try:
        ended, _ = await asyncio.wait(workers, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
        for worker in ended:
            worker.result()
        return began, [(after_s, texts) for after_s, texts in answers if after_s <= seconds]
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
        await model.aclose()
