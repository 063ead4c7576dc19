"""An evaluation as tables: for Markdown and for a terminal."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from rag_lab.evaluation.evaluated import Evaluation, Gap
from rag_lab.evaluation.scores import Mean


def markdown(found: Evaluation, baseline: str = "") -> str:
    """All tables and remarks in Markdown."""
    parts = [_table(*means_table(found, baseline))]
    if len(found.kinds) > 1:
        parts.append(_table(*kinds_table(found)))
    parts.append(_table(*runs_table(found)))
    return "\n\n".join([*parts, *remarks(found)])


def means_table(found: Evaluation, baseline: str = "") -> tuple[list[str], list[list[str]]]:
    """Titles and rows: a row for each measure and system."""
    titles = ["measure", "system", "mean", "95 % interval", "scored"]
    gaps, rows = found.gaps(baseline) if baseline else {}, []
    for measure in found.measures:
        for name in found.runs:
            mean, (low, high) = found.mean(name, measure), found.interval(name, measure)
            cells = [measure, name, _shown(mean), f"{low:.3f} – {high:.3f}"]
            cells.append(f"{mean.scored:,} of {mean.of:,}")
            if baseline:
                cells += _gap_cells(gaps.get((name, measure)))
            rows.append(cells)
    return [*titles, "difference", "p (Holm)"] if baseline else titles, rows


def kinds_table(found: Evaluation) -> tuple[list[str], list[list[str]]]:
    """Titles and rows: the mean of each kind of question, with how many have a score."""
    rows = [
        [measure, name, *(_of_kind(found.of_kind(name, measure, kind)) for kind in found.kinds)]
        for measure in found.measures
        for name in found.runs
    ]
    return ["measure", "system", *found.kinds], rows


def runs_table(found: Evaluation) -> tuple[list[str], list[list[str]]]:
    """Titles and rows: what became of each system's questions, and what it took."""
    titles = ["system", "attempted", "answered", "partial", "failed", "degraded", "p50 ms",
              "p99 ms", "answering", "judging"]  # fmt: skip
    rows = []
    for name, run in found.runs.items():
        counts = (run.table.count(fate) for fate in ("answered", "partial", "failed"))
        took = (run.latency_s(q) * 1000 for q in (0.5, 0.99))
        rows.append(
            [name, *(f"{count:,}" for count in (run.table.attempted, *counts, run.degraded)),
             *("–" if math.isnan(ms) else f"{ms:,.0f}" for ms in took),
             str(run.usage), str(run.judging)]
        )  # fmt: skip
    return titles, rows


def remarks(found: Evaluation) -> list[str]:
    """What a reader must know of the tables: scores that are missing, orders in doubt."""
    told = [note for run in found.runs.values() for note in run.notes]
    for measure in found.measures:
        for name, run in found.runs.items():
            reasons = Counter(run.table.unscored(measure).values())
            if reasons:
                reason, count = reasons.most_common(1)[0]
                told.append(f"{measure}, {name}: {reasons.total():,} unscored; {count:,}: {reason}")
        if len(found.runs) > 1 and not found.order_is_known(measure):
            told.append(f"{measure}: the order is not decisive; missing scores may change it.")
    return told


def _gap_cells(gap: Gap | None) -> list[str]:
    if gap is None:
        return ["baseline", ""]
    p_value = "too few differ" if math.isnan(gap.p_value) else f"{gap.p_value:.3f}"
    interval = f"[{gap.interval.low:+.3f}, {gap.interval.high:+.3f}]"
    return [f"{gap.mean:+.3f} {interval}", p_value]


def _shown(mean: Mean) -> str:
    """A mean; where scores are missing, with its bounds."""
    if mean.scored == mean.of:
        return "–" if math.isnan(mean.value) else f"{mean.value:.3f}"
    bounds = f"({mean.low:.3f} to {mean.high:.3f})"
    return bounds if math.isnan(mean.value) else f"{mean.value:.3f} {bounds}"


def _of_kind(mean: Mean) -> str:
    return f"{_shown(mean)} n={mean.of:,}" if mean.of else "–"


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").replace("<", "&lt;").split())
