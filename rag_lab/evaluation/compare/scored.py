"""The scores of a system on one measure as a matrix: a row a question, a column an asking."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from rag_lab.evaluation.ranking import MeasureTable, Ranking
from rag_lab.evaluation.scores import Fate, Mean, Score, ScoreTable
from rag_lab.evaluation.statistics import Values

_DIGITS = 12  # means over repeats that are equal on paper are equal here, too


@dataclass(frozen=True, slots=True)
class Scored:
    """Scores by question and repeat.

    Attributes:
        ids: of the questions.
        values: shape (questions, repeats); NaN where there is no score.
    """

    ids: tuple[str, ...]
    values: Values

    @property
    def by_question(self) -> dict[str, float]:
        """The mean over its repeats of each question that has a score."""
        known = np.flatnonzero(~np.isnan(self.values).all(axis=1))
        means = np.nanmean(self.values[known], axis=1).round(_DIGITS)
        return {self.ids[row]: float(mean) for row, mean in zip(known, means, strict=True)}

    @property
    def mean(self) -> Mean:
        """Over the questions; its bounds are those of the missing repeats, too."""
        found = np.array(list(self.by_question.values()))
        of = len(self.ids)
        low, high = (
            float(np.nan_to_num(self.values, nan=missing).mean()) if of else float("nan")
            for missing in (0.0, 1.0)
        )
        value = float(found.mean()) if len(found) else float("nan")
        return Mean(value, len(found), of, low, high)


def scored(
    tables: Sequence[ScoreTable], measure: str, only: Callable[[str], bool] = lambda key: True
) -> Scored:
    """The scores of all askings on a measure, of the questions whose id passes `only`."""
    columns = [table.scores[measure] for table in tables]
    ids = tuple(dict.fromkeys(key for column in columns for key in column if only(key)))
    values = np.full((len(ids), len(columns)), np.nan)
    for place, column in enumerate(columns):
        for row, key in enumerate(ids):
            score = column.get(key)
            if score is not None and score.value is not None:
                values[row, place] = score.value
    return Scored(ids, values)


def score_table(table: MeasureTable, ranking: Ranking | None = None) -> ScoreTable:
    """Ranking measures as scores: what failed is kept, with its reason.

    Every question of the ranking should be judged: a failed one counts for every measure.
    """
    failed = ranking.failed if ranking is not None else {}
    fates: dict[str, Fate] = {key: "answered" for values in table.scores.values() for key in values}
    fates |= dict.fromkeys(failed, "failed")
    scores = {
        measure: {key: Score(value) for key, value in values.items()}
        | {key: Score.none(reason) for key, reason in failed.items()}
        for measure, values in table.scores.items()
    }
    return ScoreTable(fates, scores)
