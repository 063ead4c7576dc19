"""The figures of a bench as data and as tables: one shape for all of them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from rag_lab import __version__
from rag_lab.evaluation.bars import Bar, bars_table

if TYPE_CHECKING:
    from rich.console import Group

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Column:
    """A field of the rows: its title, and how a number is written (a format specification)."""

    field: str
    title: str
    form: str = ""

    def cell(self, row: Mapping[str, Any]) -> str:
        """The field as text; nothing where there is no figure."""
        value = row.get(self.field)
        if value is None or (isinstance(value, float) and math.isnan(value)):
            return ""
        return format(value, self.form) if self.form else str(value)


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under a title."""

    title: str
    columns: tuple[Column, ...]
    rows: Sequence[Row]


@dataclass(frozen=True, slots=True)
class Report:
    """What a bench came to.

    Attributes:
        name: of the bench.
        setup: what it was run with.
        notes: what has to be known to read the tables.
        bars: what the project promises, and whether it holds.
        runs: every single run, for whoever wants more than medians.
    """

    name: str
    setup: Mapping[str, Any]
    tables: Sequence[Table]
    notes: Sequence[str] = ()
    bars: Sequence[Bar] = ()
    runs: Sequence[Row] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        """Whether every bar holds."""
        return all(bar.holds for bar in self.bars)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; what is no number is null."""
        return {
            "bench": self.name,
            "version": __version__,
            "setup": dict(self.setup),
            "tables": [
                {"title": table.title, "rows": [_plain(row) for row in table.rows]}
                for table in self.tables
            ],
            "notes": list(self.notes),
            "bars": [_plain({**asdict(bar), "holds": bar.holds}) for bar in self.bars],
            "runs": [_plain(row) for row in self.runs],
        }


def render(report: Report) -> Group:
    """The tables, the notes and the bars for a terminal."""
    from rich.console import Group

    parts: list[Any] = []
    for table in report.tables:
        parts += [table.title, _as_rich(table), ""]
    parts += report.notes
    if report.bars:
        parts += ["", bars_table(report.bars)]
    return Group(*parts)


def _as_rich(table: Table) -> Any:
    from rich.table import Table as RichTable

    drawn = RichTable(box=None, pad_edge=False)
    for number, column in enumerate(table.columns):
        words = number == 0 or not column.form
        drawn.add_column(column.title, justify="left" if words else "right", no_wrap=number == 0)
    for row in table.rows:
        drawn.add_row(*(column.cell(row) for column in table.columns))
    return drawn


def median(values: Iterable[float | None]) -> float | None:
    """The median of the figures that there are; None if there is none."""
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def ratio(value: float | None, to: float | None) -> float | None:
    """A ratio, or None where either is missing."""
    return None if value is None or not to else value / to


def figure(value: float | None) -> float:
    """A figure for a bar: one that is missing holds no bar."""
    return math.nan if value is None else value


def _plain(row: Mapping[str, Any]) -> Row:
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in row.items()
    }
