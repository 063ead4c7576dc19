"""Agreement between judges: whether two of them say the same of the same answers.

Chance-corrected coefficients: 1 is full agreement, 0 is what chance would give, less is worse than
chance. Which value is enough is not a matter of arithmetic; Krippendorff asks for .8, and for .667
where a conclusion may be tentative.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from rag_lab.errors import SettingsError
from rag_lab.evaluation.scores import ScoreTable

if TYPE_CHECKING:
    import pandas as pd

Level = Literal["nominal", "interval"]
Matrix: TypeAlias = "np.ndarray"

_GRADES = 5
"""Levels that scores from 0 to 1 are rounded to for the weighted kappa."""


def krippendorff_alpha(ratings: Sequence[Sequence[float | None]], level: Level) -> float:
    """Krippendorff's alpha, 1 - D_o / D_e, for any number of judges and missing ratings.

    With o_ck the coincidences of values c and k (each pair of ratings of a row that m judges rated
    counts 1 / (m - 1)), n_c their margins and n their sum: D_o = sum of o_ck d(c, k) / n and
    D_e = sum of n_c n_k d(c, k) / (n (n - 1)); d is 1 for different values (nominal) or the square
    of their difference (interval).

    Source: K. Krippendorff, "Computing Krippendorff's Alpha-Reliability" (2011), sections C and E.

    Args:
        ratings: one row for each judge, one column for each thing rated; None where there is none.
        level: of measurement.

    Returns:
        NaN if no two judges rated the same thing, or if all ratings are one value: without
        variation nothing can be said.

    Raises:
        SettingsError: judges have rated different numbers of things.
    """
    values, coincidences = _coincidences(_matrix(ratings))
    margins = coincidences.sum(axis=0)
    n = margins.sum()
    if n == 0:
        return math.nan
    distances = _distances(values, level)
    expected = margins @ distances @ margins / (n * (n - 1))
    observed = (coincidences * distances).sum() / n
    return float(1 - observed / expected) if expected else math.nan


def _matrix(ratings: Sequence[Sequence[float | None]]) -> Matrix:
    lengths = {len(row) for row in ratings}
    if len(ratings) < 2 or len(lengths) != 1:
        raise SettingsError(
            f"agreement needs two judges or more with as many ratings each, got {len(ratings)} "
            f"with {sorted(lengths)}. Give None where a judge has no rating."
        )
    return np.array([[np.nan if x is None else x for x in row] for row in ratings], float)


def _coincidences(matrix: Matrix) -> tuple[Matrix, Matrix]:
    """The values, and how often each meets each: shape (values, values)."""
    rated = matrix[:, (~np.isnan(matrix)).sum(axis=0) > 1]  # what one judge rated pairs with none
    values = np.unique(rated[~np.isnan(rated)])
    # Shape (values, units): how many judges gave a unit that value.
    counts = (rated[None, :, :] == values[:, None, None]).sum(axis=1).astype(float)
    weights = 1 / (counts.sum(axis=0) - 1)
    pairs = (counts * weights) @ counts.T
    return values, pairs - np.diag((counts * weights).sum(axis=1))  # not with itself


def _distances(values: Matrix, level: Level) -> Matrix:
    gaps: Matrix = values[:, None] - values[None, :]
    found: Matrix = (gaps != 0).astype(float) if level == "nominal" else gaps**2
    return found


def quadratic_weighted_kappa(first: Sequence[float], second: Sequence[float]) -> float:
    """Cohen's kappa with quadratic weights, 1 - sum(w O) / sum(w E), of two judges.

    O are the shares of pairs of values, E the products of the judges' margins, w the square of the
    difference of the values: numbers on one scale, grades or counts.

    Source: J. Cohen, "Weighted kappa" (Psychological Bulletin 70, 1968), with the weights of
    J. L. Fleiss and J. Cohen (Educational and Psychological Measurement 33, 1973). Those sums are
    the mean square difference of the pairs and that of all combinations of both judges' ratings.

    Returns:
        NaN without ratings, or if both judges gave one and the same value throughout.

    Raises:
        SettingsError: the judges have rated different numbers of things.
    """
    if len(first) != len(second):
        raise SettingsError(
            f"kappa needs the ratings of the same things, got {len(first)} and {len(second)}. "
            "Leave out what one of the judges has not rated."
        )
    if not len(first):
        return math.nan
    a, b = np.asarray(first, float), np.asarray(second, float)
    expected = a.var() + b.var() + (a.mean() - b.mean()) ** 2
    return float(1 - ((a - b) ** 2).mean() / expected) if expected else math.nan


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far two judges agree on a measure.

    Attributes:
        rows: that both have scored.
        only_first, only_second: that one of them alone has scored.
        equal: share of the rows with equal scores.
        difference: mean of first minus second: whether one is milder.
        alpha_interval, alpha_nominal: `krippendorff_alpha` of the scores as they are.
        weighted_kappa: `quadratic_weighted_kappa` of the scores rounded to five grades.
    """

    system: str
    measure: str
    rows: int
    only_first: int
    only_second: int
    equal: float
    difference: float
    alpha_interval: float
    alpha_nominal: float
    weighted_kappa: float


def agreement(
    first: Mapping[str, ScoreTable], second: Mapping[str, ScoreTable]
) -> tuple[Agreement, ...]:
    """How far two judges agree, for each system and each measure that both tables hold.

    Args:
        first: scores by system, e.g. `Evaluation.tables`.
        second: those of another judge on the same answers.

    Raises:
        SettingsError: no system and measure is in both.
    """
    found = tuple(
        _agreement(system, measure, first[system], second[system])
        for system in first
        if system in second
        for measure in first[system].scores
        if measure in second[system].scores
    )
    if not found:
        raise SettingsError(
            f"nothing was scored by both judges: systems {_named(first)} and {_named(second)}. "
            "Score the same systems with the same measures."
        )
    return found


def _named(tables: Mapping[str, ScoreTable]) -> str:
    return ", ".join(tables) or "(none)"


def _agreement(system: str, measure: str, first: ScoreTable, second: ScoreTable) -> Agreement:
    ours, theirs = (_values(table, measure) for table in (first, second))
    both = [key for key in ours if key in theirs]
    a, b = ([values[key] for key in both] for values in (ours, theirs))
    gaps = [x - y for x, y in zip(a, b, strict=True)]
    return Agreement(
        system,
        measure,
        rows=len(both),
        only_first=len(ours) - len(both),
        only_second=len(theirs) - len(both),
        equal=sum(gap == 0 for gap in gaps) / len(both) if both else math.nan,
        difference=math.fsum(gaps) / len(both) if both else math.nan,
        alpha_interval=krippendorff_alpha([a, b], "interval"),
        alpha_nominal=krippendorff_alpha([a, b], "nominal"),
        weighted_kappa=quadratic_weighted_kappa(*map(_graded, (a, b))),
    )


def _values(table: ScoreTable, measure: str) -> dict[str, float]:
    scores = table.scores[measure].items()
    return {key: score.value for key, score in scores if score.value is not None}


def _graded(values: Sequence[float]) -> list[float]:
    return [float(round(value * (_GRADES - 1))) for value in values]


def agreement_frame(found: Sequence[Agreement]) -> pd.DataFrame:
    """A row for each system and measure."""
    import pandas as pd

    return pd.DataFrame([asdict(row) for row in found])


def agreement_markdown(found: Sequence[Agreement]) -> str:
    """The table in Markdown."""
    head = "| system | measure | rows | only one judge | equal | difference | α interval | "
    lines = [head + "α nominal | weighted κ |", "| --- | --- |" + " ---: |" * 7]
    for row in found:
        coefficients = (row.alpha_interval, row.alpha_nominal, row.weighted_kappa)
        cells = [row.system, row.measure, str(row.rows), str(row.only_first + row.only_second)]
        cells += [_shown(row.equal), _shown(row.difference, "+.3f"), *map(_shown, coefficients)]
        lines.append(f"| {' | '.join(cell.replace('|', '¦') for cell in cells)} |")
    return "\n".join(lines)


def _shown(value: float, form: str = ".3f") -> str:
    return "–" if math.isnan(value) else f"{value:{form}}"
