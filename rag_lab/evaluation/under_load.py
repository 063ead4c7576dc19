"""What came of all levels of load: the knee, a table, a verdict from the figures."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from rag_lab.evaluation.levels import Level, Mode, Objective, bracket
from rag_lab.evaluation.speed.table import Column, Row

if TYPE_CHECKING:
    from pandas import DataFrame

_SHOWN = 3
COLUMNS: Final = (
    Column("load", "load", ".3g"),
    Column("delivered", "delivered", ".3g"),
    Column("requests", "requests", ",d"),
    Column("answered", "answered", ",d"),
    Column("partial", "partial", ",d"),
    Column("failed", "failed", ",d"),
    Column("cut_off", "cut off", ",d"),
    Column("degraded", "degraded", ",d"),
    Column("quality", "quality", ".3f"),
    Column("bounds", "bounds"),
    Column("p50_s", "p50 s", ".2f"),
    Column("p95_s", "p95 s", ".2f"),
    Column("p99_s", "p99 s", ".2f"),
    Column("in_time", "in time", ".1%"),
    Column("good_per_s", "good/s", ".2f"),
    Column("calls", "calls", ",d"),
    Column("cache_hits", "known", ",d"),
    Column("cost_usd", "USD", ".4f"),
    Column("slowest", "time of the slowest 1 %"),
    Column("missed", "why not"),
)


@dataclass(frozen=True)
class UnderLoad:
    """What came of all levels.

    Attributes:
        measure: what quality is.
        levels: in the order in which they were tried.
    """

    measure: str
    mode: Mode
    objective: Objective
    levels: tuple[Level, ...]

    def missed(self, level: Level) -> tuple[str, ...]:
        """Why the objective does not hold at a level; answers are compared with the lightest's."""
        return level.missed(min(self.levels, key=lambda each: each.load))

    @property
    def holds(self) -> dict[float, bool]:
        """Whether the objective holds, by load."""
        return {level.load: not self.missed(level) for level in self.levels}

    @property
    def knee(self) -> Level | None:
        """The highest level that holds below the lowest that does not; None if there is none."""
        held, _ = bracket(self.holds)
        return next((level for level in self.levels if level.load == held), None)

    def rows(self) -> list[Row]:
        """The figures of each level, by load; the names are those of `COLUMNS`."""
        return [self._row(level) for level in sorted(self.levels, key=lambda each: each.load)]

    def frame(self) -> DataFrame:
        """`rows` as a table."""
        import pandas as pd

        return pd.DataFrame(self.rows())

    def markdown(self) -> str:
        """The verdict and the figures as a Markdown table."""
        head = [column.title for column in COLUMNS]
        rows = [[column.cell(row) for column in COLUMNS] for row in self.rows()]
        rule = ["---:" if column.form else "---" for column in COLUMNS]
        lines = [f"| {' | '.join(cells)} |" for cells in (head, rule, *rows)]
        return "\n".join([self.verdict(), "", *lines])

    def _repr_markdown_(self) -> str:
        return self.markdown()

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        knee = self.knee
        return {
            "measure": self.measure,
            "mode": self.mode,
            "objective": asdict(self.objective),
            "knee": knee.load if knee else None,
            "verdict": self.verdict(),
            "levels": [{name: _plain(value) for name, value in row.items()} for row in self.rows()],
        }

    def verdict(self) -> str:
        """What the figures say, in a sentence or two."""
        promise = f"{100 * self.objective.share:g} % within {self.objective.latency_s:g} s"
        knee, (_, above) = self.knee, bracket(self.holds)
        higher = next((level for level in self.levels if level.load == above), None)
        beyond = "higher was not tried"
        if higher is not None:
            beyond = f"not at {told(self.mode, higher.load)} ({'; '.join(self.missed(higher))})"
        if knee is None:
            return f"No level holds ({promise}): {beyond}."
        return (
            f"Holds at {told(self.mode, knee.load)} ({promise}), {beyond}: "
            f"{knee.good_per_s:.3g} good, complete answers a second, {self.measure} "
            f"{knee.quality.value:.3f}, p99 {knee.latency_s(0.99):.2f} s"
            f"{self._where(knee)}.{self._doubt(knee)}"
        )

    def _where(self, level: Level) -> str:
        stage, share = next(iter(level.slowest_shares().items()), ("", 0.0))
        return f" ({100 * share:.0f} % of the slowest is {stage})" if stage else ""

    def _doubt(self, level: Level) -> str:
        few = len(level.requests)
        if few * (1 - self.objective.share) >= 1:
            return ""
        return f" Of {few} requests a single late one decides."

    def _row(self, level: Level) -> Row:
        quality, usage = level.quality, level.usage
        slowest = level.slowest_shares()
        return {
            "load": level.load,
            "delivered": level.delivered,
            "requests": len(level.requests),
            "planned": level.planned,
            "answered": level.count("answered"),
            "partial": level.count("partial"),
            "failed": level.count("failed"),
            "cut_off": level.cut_off,
            "degraded": level.degraded,
            "errors": dict(level.errors),
            "quality": quality.value,
            "coverage": quality.coverage,
            "bounds": f"{quality.low:.3f}–{quality.high:.3f}",
            **{f"p{q}_s": level.latency_s(q / 100) for q in (50, 95, 99)},
            "in_time": level.in_time,
            "good_per_s": level.good_per_s,
            "calls": usage.calls,
            "tokens": usage.prompt_tokens + usage.completion_tokens,
            "cache_hits": usage.cache_hits,
            "cost_usd": usage.cost_usd,
            "slowest": ", ".join(
                f"{name} {share:.0%}" for name, share in [*slowest.items()][:_SHOWN]
            ),
            "slowest_shares": slowest,
            "missed": "; ".join(self.missed(level)),
        }


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def told(mode: Mode, load: float) -> str:
    """A load in words."""
    return f"{load:.3g} {'questions a second' if mode == 'open' else 'users'}"
