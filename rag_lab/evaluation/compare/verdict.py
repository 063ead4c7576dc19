"""What a comparison says, in a sentence made from its figures."""

from __future__ import annotations

import math
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rag_lab.evaluation.compare.comparison import Comparison, Difference

_WORDS = {True: ("finds more", "finds less"), False: ("scores higher", "scores lower")}
"""By whether documents were ranked."""


def verdict(comparison: Comparison, measure: str) -> str:
    """The best system against the baseline, or why the order is not known."""
    if not comparison.challengers:
        return f"{comparison.baseline} stands alone: there is nothing to compare it with."
    best = max(comparison.challengers, key=lambda system: _value(comparison, system, measure))
    gap = comparison.difference(best, measure)
    if not gap.pairs:
        return f"{best} and {comparison.baseline} have no question with a score for {measure}."
    if not comparison.decisive(best, measure):
        return _undecided(comparison, best, measure)
    among = f" of {gap.comparisons} comparisons" if gap.testable and gap.comparisons > 1 else ""
    figures = f"{measure} {gap_text(gap)}, {p_text(gap)}{among}, {gap.pairs} questions"
    if not gap.significant:
        return (
            f"{best} and {comparison.baseline} cannot be told apart here ({figures}{_limits(gap)})."
        )
    more, less = _WORDS[bool(comparison.rankings)]
    words = more if gap.mean > 0 else less
    return f"{best} {words} than {comparison.baseline}: {figures}{_latency(comparison, best)}."


def number(value: float, sign: str = "") -> str:
    """Three digits without the leading zero, as statistics are written: .082, -1.000."""
    return f"{value:{sign}.3f}".replace("0.", ".", 1) if abs(value) < 1 else f"{value:{sign}.3f}"


def gap_text(gap: Difference) -> str:
    """A difference with its interval."""
    return f"{number(gap.mean, '+')} [{number(gap.low)}, {number(gap.high)}]"


def p_text(gap: Difference) -> str:
    """The corrected p, or why the test can say nothing."""
    if not gap.testable:
        return f"no p below {number(gap.smallest_p)}: {gap.wins + gap.losses} differ"
    return "p < .001" if gap.p_adjusted < 0.001 else f"p = {number(gap.p_adjusted)}"


def _value(comparison: Comparison, system: str, measure: str) -> float:
    value = comparison.mean(system, measure).value
    return -math.inf if math.isnan(value) else value


def _undecided(comparison: Comparison, best: str, measure: str) -> str:
    told = []
    for system in (best, comparison.baseline):
        mean = comparison.mean(system, measure)
        told.append(
            f"{system} lies between {number(mean.low)} and {number(mean.high)} "
            f"({mean.of - mean.scored} of {mean.of} without a score)"
        )
    return f"the order is not decisive: {measure} of {', of '.join(told)}."


def _limits(gap: Difference) -> str:
    if not math.isfinite(gap.detectable):
        return ""
    return f"; differences below {number(gap.detectable)} are out of their reach"


def _latency(comparison: Comparison, system: str) -> str:
    ours, theirs = (comparison.latency_s.get(name, {}) for name in (system, comparison.baseline))
    gaps = [ours[key] - theirs[key] for key in ours if key in theirs]
    return f"; latency {1000 * median(gaps):+,.0f} ms" if gaps else ""
