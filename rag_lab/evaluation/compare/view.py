"""A comparison as a table: for a notebook, as Markdown, for pandas."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rag_lab.evaluation.compare.verdict import gap_text, number, p_text

if TYPE_CHECKING:
    import pandas as pd

    from rag_lab.evaluation.compare.comparison import Comparison

_TITLES = (
    "measure",
    "system",
    "mean",
    "95 % interval",
    "difference",
    "p",
    "wins / ties / losses",
    "effect d_z",
    "questions",
)
_NOTE = (
    "Intervals over questions: bias-corrected bootstrap, Wilson's for scores of 0 and 1. p: paired "
    "randomisation test, corrected by Holm for {} comparisons."
)


@dataclass(frozen=True, slots=True)
class View:
    """The table of a comparison, of each kind of question or of all ("")."""

    comparison: Comparison
    kinds: tuple[str, ...] = ("",)

    def frame(self) -> pd.DataFrame:
        """A row for each kind, measure and system."""
        import pandas as pd

        return pd.DataFrame([self._row(*place) for place in self._places()])

    def markdown(self) -> str:
        """The table with its verdict."""
        table = markdown_table(self._titles(), self._rows())
        return f"{table}\n\n{_markdown_cell(self.comparison.verdict())} {self._note}\n"

    def _repr_html_(self) -> str:
        verdict = html.escape(self.comparison.verdict())
        table = html_table(self._titles(), self._rows())
        return f"<p><strong>{verdict}</strong></p>{table}<p>{html.escape(self._note)}</p>"

    @property
    def _note(self) -> str:
        made = len(self.comparison.challengers) * len(self.comparison.measures) * len(self.kinds)
        return _NOTE.format(made)

    def _places(self) -> Iterator[tuple[str, str, str]]:
        for kind in self.kinds:
            for measure in self.comparison.measures:
                for system in self.comparison.systems:
                    yield system, measure, kind

    def _titles(self) -> tuple[str, ...]:
        return _TITLES if self.kinds == ("",) else ("kind", *_TITLES)

    def _rows(self) -> Iterator[list[str]]:
        for system, measure, kind in self._places():
            yield [*([kind] if kind else []), *self._cells(system, measure, kind)]

    def _cells(self, system: str, measure: str, kind: str) -> list[str]:
        comparison = self.comparison
        low, high = comparison.interval(system, measure, kind)
        mean = comparison.mean(system, measure, kind)
        interval = f"{number(low)} – {number(high)}" if mean.scored else "–"
        cells = [measure, system, number(mean.value) if mean.scored else "–", interval]
        counts = self._counts(system, measure, kind)
        if system == comparison.baseline:
            return [*cells, "baseline", "", "", "", counts]
        gap = comparison.difference(system, measure, kind)
        if not gap.pairs:
            return [*cells, "–", "–", "–", "–", counts]
        tested = p_text(gap) if comparison.decisive(system, measure, kind) else "not decisive"
        record = f"{gap.wins} / {gap.ties} / {gap.losses}"
        return [*cells, gap_text(gap), tested, record, _effect(gap.effect), counts]

    def _counts(self, system: str, measure: str, kind: str) -> str:
        """How many were asked and what became of them; bounds of the mean if any is missing."""
        mean = self.comparison.mean(system, measure, kind)
        fates = self._fates(system, kind)
        told = [f"{sum(fates.values())} asked", f"{fates['failed']} failed"]
        told += [f"{fates['partial']} partial"] if fates["partial"] else []
        if mean.scored < mean.of:
            told.append(f"{mean.of - mean.scored} of {mean.of} unscored")
            told.append(f"mean within {number(mean.low)} – {number(mean.high)}")
        return ", ".join(told)

    def _fates(self, system: str, kind: str) -> dict[str, int]:
        """Of the first asking."""
        comparison = self.comparison
        counts = dict.fromkeys(("answered", "partial", "failed"), 0)
        for key, fate in comparison.score_tables[system][0].fates.items():
            if not kind or comparison.kinds.get(key) == kind:
                counts[fate] += 1
        return counts

    def _row(self, system: str, measure: str, kind: str) -> dict[str, object]:
        mean = self.comparison.mean(system, measure, kind)
        low, high = self.comparison.interval(system, measure, kind)
        fates = self._fates(system, kind)
        row: dict[str, object] = {"kind": kind} if kind else {}
        row |= {"measure": measure, "system": system, "mean": mean.value, "low": low, "high": high}
        row |= {"attempted": sum(fates.values()), **fates, "unscored": mean.of - mean.scored}
        row |= {"coverage": mean.coverage, "bound_low": mean.low, "bound_high": mean.high}
        if system != self.comparison.baseline:
            row |= self._tested(system, measure, kind)
        return row

    def _tested(self, system: str, measure: str, kind: str) -> dict[str, object]:
        gap = self.comparison.difference(system, measure, kind)
        return {
            "difference": gap.mean,
            "difference_low": gap.low,
            "difference_high": gap.high,
            "p_value": gap.p_value if gap.testable else math.nan,
            "p_adjusted": gap.p_adjusted if gap.testable else math.nan,
            "smallest_p": gap.smallest_p,
            "effect": gap.effect,
            "detectable": gap.detectable,
            "wins_ties_losses": f"{gap.wins}/{gap.ties}/{gap.losses}",
            "decisive": self.comparison.decisive(system, measure, kind),
        }


def html_table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """An escaped HTML table."""
    head = "".join(f"<th>{html.escape(title)}</th>" for title in titles)
    body = "".join(
        f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def markdown_table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """An escaped Markdown table."""
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join(f"| {' | '.join(map(_markdown_cell, line))} |" for line in lines)


def _markdown_cell(text: str) -> str:
    return html.escape(" ".join(text.split()), quote=False).replace("|", "\\|")


def _effect(effect: float) -> str:
    return "–" if math.isnan(effect) else f"{effect:+.2f}".replace("inf", "∞")
