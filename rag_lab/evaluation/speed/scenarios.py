"""Providers to ingest against, as data: how slow, how limited, how faulty."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from rag_lab.errors import SettingsError
from rag_lab.evaluation.speed.corpus import marker
from rag_lab.simulate import Fault, SimulatorSettings, preset

_CALL: Final[dict[str, Any]] = {"base_ms": 200, "spread": "lognormal", "sigma": 0.35}
_BATCHED: Final[dict[str, Any]] = {
    "dimensions": 1536,
    "latency": _CALL,
    "capacity": 16,
    "max_texts": 100,
    # Call n has the same luck whoever makes it: systems are compared on equal terms.
    "draw_by": "ordinal",
}
POISONED: Final = (7, 701, 1_402)
"""Documents that the provider rejects in the scenario `poison`, as far as there are so many."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """One provider, and what is measured beside the wall.

    Attributes:
        lost_s: seconds in which nobody has an answer: the ideal is that much longer.
        resized: whether `--capacity` applies; elsewhere the capacity is the point.
        rejected: documents that cannot be embedded.
    """

    name: str
    about: str
    settings: SimulatorSettings
    lost_s: float = 0.0
    resized: bool = True
    rejected: tuple[int, ...] = ()

    @property
    def undisturbed(self) -> SimulatorSettings | None:
        """The same provider without faults; None if it has none."""
        return self.settings.changed(faults=()) if self.settings.faults else None


def _provider(**changes: Any) -> SimulatorSettings:
    return SimulatorSettings.of(_BATCHED | changes)


_OUTAGE: Final = (
    # Whoever had sent everything before would not notice the 503s.
    Fault(kind="refuse", from_s=1.0, until_s=1.05),
    Fault(kind="status", status=503, from_s=1.0, until_s=7.0),
)

SCENARIOS: Final = {
    scenario.name: scenario
    for scenario in (
        Scenario("plain", "200 ms a call, 100 texts at most", _provider()),
        Scenario(
            "limits",
            "60 requests and 120,000 tokens a minute, 10 s saved up, 20 times faster",
            _provider(
                time_scale=0.05,
                latency=_CALL | {"base_ms": 4_000},
                capacity=64,
                requests_per_minute=60,
                tokens_per_minute=120_000,
                burst_s=10,
            ),
            resized=False,
        ),
        Scenario(
            "poison",
            f"{len(POISONED)} texts are rejected with 400",
            _provider(
                faults=tuple(
                    Fault(kind="status", status=400, marker=marker(number)) for number in POISONED
                )
            ),
            rejected=POISONED,
        ),
        Scenario(
            "stall",
            "the first call hangs for 8 s",
            _provider(faults=(Fault(kind="stall", seconds=8, at_most=1),)),
        ),
        Scenario(
            "outage",
            "600 ms a call, 4 at once; after 1 s all connections are cut, then 503 for 6 s",
            _provider(latency=_CALL | {"base_ms": 600}, capacity=4, faults=_OUTAGE),
            lost_s=6.0,
            resized=False,
        ),
        Scenario(
            "bad-day",
            "errors, resets, cut and spoilt bodies, items in another order",
            _provider(
                faults=(
                    Fault(kind="status", status=503, rate=0.08),
                    Fault(kind="status", status=500, rate=0.05, seconds=0.2),
                    Fault(kind="reset", rate=0.06, seconds=0.1),
                    Fault(kind="truncate", rate=0.06),
                    Fault(kind="nan", rate=0.06),
                    Fault(kind="count", rate=0.06),
                    Fault(kind="order", rate=0.3),
                )
            ),
        ),
        Scenario(
            "each-fault",
            "every kind of fault strikes twice, one after another",
            _provider(
                faults=(
                    *(
                        Fault(kind="status", status=status, at_most=2)
                        for status in (500, 502, 503, 408, 409, 429)
                    ),
                    *(
                        Fault(kind=kind, at_most=2)
                        for kind in (
                            "truncate",
                            "invalid-json",
                            "order",
                            "count",
                            "nan",
                            "zero",
                            "dimensions",
                        )
                    ),
                    Fault(kind="reset", seconds=0.05, at_most=2),
                    Fault(kind="stall", seconds=2, at_most=2),
                )
            ),
        ),
        Scenario(
            "capacity-drop",
            "600 ms a call; from 16 calls at once to 2, after 1 s, for 3 s",
            _provider(
                latency=_CALL | {"base_ms": 600},
                max_texts=25,
                faults=(Fault(kind="capacity", amount=2, from_s=1, until_s=4),),
            ),
        ),
        Scenario(
            "capacity-4-reject",
            "4 calls at once, more get 429",
            _provider(capacity=4, over_capacity="reject"),
            resized=False,
        ),
        Scenario(
            "slow",
            "20 to 25 s a call whatever its size, 50 times faster",
            preset("jina-slow", time_scale=0.02, draw_by="ordinal"),
            resized=False,
        ),
    )
}


def chosen_scenarios(names: Sequence[str], capacity: int) -> list[Scenario]:
    """Scenarios by name, with a capacity where that is not the point; "all" for all.

    Raises:
        SettingsError: there is no such scenario.
    """
    wanted = list(SCENARIOS) if "all" in names else list(dict.fromkeys(names))
    if unknown := [name for name in wanted if name not in SCENARIOS]:
        known = ", ".join((*SCENARIOS, "all"))
        raise SettingsError(f"there is no scenario {unknown[0]!r}; there are {known}.")
    return [_resized(SCENARIOS[name], capacity) for name in wanted]


def _resized(scenario: Scenario, capacity: int) -> Scenario:
    if not scenario.resized:
        return scenario
    return replace(scenario, settings=scenario.settings.changed(capacity=capacity))
