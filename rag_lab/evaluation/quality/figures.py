"""What `bench quality` measures: figures, what must hold of them, and how they are shown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rag_lab.evaluation.bars import Bar, bars_table
from rag_lab.evaluation.ranking import MeasureTable, in_split
from rag_lab.records import Question

if TYPE_CHECKING:
    from rich.console import Group


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value, on all questions and on each half."""

    set: str
    system: str
    measure: str
    value: float
    dev: float | None = None
    held_out: float | None = None
    n: int = 0
    failed: int = 0


@dataclass
class Figures:
    """What a run has measured so far."""

    rows: list[Figure] = field(default_factory=list)
    bars: list[Bar] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)

    def value(self, name: str, system: str, measure: str) -> float:
        """A figure by its place.

        Raises:
            KeyError: it was not measured.
        """
        for row in self.rows:
            if (row.set, row.system, row.measure) == (name, system, measure):
                return row.value
        raise KeyError((name, system, measure))


def split_figures(
    name: str, system: str, table: MeasureTable, questions: Sequence[Question]
) -> list[Figure]:
    """A figure for each measure of a table, on all questions and on each half."""
    return [
        Figure(
            name,
            system,
            measure,
            round(table.mean(measure), 4),
            round(table.mean(measure, in_split(questions, "dev")), 4),
            round(table.mean(measure, in_split(questions, "held_out")), 4),
            table.attempted,
            table.failed,
        )
        for measure in table.scores
    ]


_COSTS = ("ingestion", "alias-cost")
"""Sets whose figures are seconds and memory: less is better."""


def losses(
    result: Mapping[str, Any], accepted: Mapping[str, Any], tolerance: float = 0.005
) -> list[str]:
    """Figures between 0 and 1 that are lower than accepted ones by more than `tolerance`, told."""

    def by_place(figures: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str, str], float]:
        return {(row["set"], row["system"], row["measure"]): row["value"] for row in figures}

    now = by_place(result["figures"])
    return [
        f"{' · '.join(place)}: {now[place]:.4f}, accepted {value:.4f}"
        for place, value in by_place(accepted["figures"]).items()
        if place in now and place[0] not in _COSTS and now[place] < value - tolerance
    ]


def render(result: Mapping[str, Any]) -> Group:
    """The figures and bars of `bench` as tables for a terminal."""
    from rich.console import Group
    from rich.table import Table

    figures = Table("set", "system", "measure", "all", "dev", "held out", "n", "failed")
    for row in result["figures"]:
        halves = ("" if row[half] is None else f"{row[half]:.3f}" for half in ("dev", "held_out"))
        figures.add_row(
            row["set"],
            row["system"],
            row["measure"],
            f"{row['value']:.4g}",
            *halves,
            f"{row['n']:,}",
            str(row["failed"] or ""),
        )
    bars = bars_table(
        Bar(bar["what"], bar["value"], bar["bound"], bar["sense"]) for bar in result["bars"]
    )
    skipped = [f"skipped {name}: {reason}" for name, reason in result["skipped"].items()]
    return Group(figures, bars, *skipped)
