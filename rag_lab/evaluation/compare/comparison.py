"""What a comparison found: means, paired differences and what they stand on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from rag_lab.evaluation.compare.scored import Scored, score_table, scored
from rag_lab.evaluation.compare.verdict import verdict
from rag_lab.evaluation.compare.view import View
from rag_lab.evaluation.ranking import MeasureTable, Ranking
from rag_lab.evaluation.scores import Mean, ScoreTable, decisive
from rag_lab.evaluation.statistics import (
    LEVEL,
    Components,
    Interval,
    Values,
    detectable_difference,
    difference_interval,
    effect_size,
    holm,
    questions_needed,
    score_interval,
    sign_flip_p,
    smallest_p,
    variance_components,
)

if TYPE_CHECKING:
    import pandas as pd

_Place = tuple[str, str, str]  # system, measure, kind of question or "" for all


@dataclass(frozen=True, slots=True)
class Difference:
    """A system against the baseline on one measure, question by question.

    Attributes:
        low, high: the 95 % interval.
        p_value: of the paired randomisation test.
        p_adjusted: corrected for the number of `comparisons` by Holm.
        effect: d_z, the mean in standard deviations of the differences.
        spread: that standard deviation.
        comparisons: how many were made.
    """

    mean: float
    low: float
    high: float
    p_value: float
    wins: int
    ties: int
    losses: int
    p_adjusted: float
    effect: float
    spread: float
    comparisons: int = 1

    @property
    def pairs(self) -> int:
        """Questions for which both systems have a score."""
        return self.wins + self.ties + self.losses

    @property
    def smallest_p(self) -> float:
        """The smallest p that the test can reach with the questions that differ."""
        return smallest_p(self.wins + self.losses)

    @property
    def testable(self) -> bool:
        """Whether enough questions differ for any verdict."""
        return self.smallest_p < LEVEL

    @property
    def significant(self) -> bool:
        """Whether test, corrected, and interval agree that the systems differ."""
        return self.testable and self.p_adjusted < LEVEL and not self.low <= 0 <= self.high

    @property
    def detectable(self) -> float:
        """The smallest difference found with 80 % power, at the level of the corrected test."""
        return detectable_difference(self.pairs, self.spread, LEVEL / self.comparisons)

    def questions_needed(self, difference: float) -> int:
        """How many questions would find a difference with 80 % power, by the spread seen here."""
        return questions_needed(difference, self.spread, LEVEL / self.comparisons)


@dataclass(frozen=True)
class Comparison:
    """What `compare` found. Shows itself as a table in a notebook.

    A question that was asked several times counts once, with its mean. Intervals, tests and their
    sources: `rag_lab.evaluation.statistics`.

    Attributes:
        tables: the scores of each system.
        rankings: what failed in a `MeasureTable`, and why.
        kinds: question id → kind.
        repeats: the scores of each further asking, by system.
        latency_s: system → question id → seconds.
    """

    corpus: str
    baseline: str
    tables: Mapping[str, MeasureTable | ScoreTable]
    rankings: Mapping[str, Ranking] = field(default_factory=dict)
    kinds: Mapping[str, str] = field(default_factory=dict)
    repeats: Mapping[str, Sequence[ScoreTable]] = field(default_factory=dict)
    latency_s: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @property
    def systems(self) -> tuple[str, ...]:
        """The systems, the baseline among them."""
        return tuple(self.tables)

    @property
    def challengers(self) -> tuple[str, ...]:
        """The systems that are compared with the baseline."""
        return tuple(system for system in self.tables if system != self.baseline)

    @property
    def measures(self) -> tuple[str, ...]:
        """The measures, in the order they were asked for."""
        return tuple(self.tables[self.baseline].scores)

    @property
    def question_kinds(self) -> tuple[str, ...]:
        """The kinds of the questions that were asked."""
        fates = self.score_tables[self.baseline][0].fates
        return tuple(dict.fromkeys(self.kinds[key] for key in fates if key in self.kinds))

    @cached_property
    def score_tables(self) -> dict[str, tuple[ScoreTable, ...]]:
        """The scores of each system, a table for each asking."""
        return {
            system: (
                score_table(table, self.rankings.get(system))
                if isinstance(table, MeasureTable)
                else table,
                *self.repeats.get(system, ()),
            )
            for system, table in self.tables.items()
        }

    def scored(self, system: str, measure: str, kind: str = "") -> Scored:
        """The scores of a system, of one kind of question or of all."""
        tables = self.score_tables[system]
        if not kind:
            return scored(tables, measure)
        return scored(tables, measure, lambda key: self.kinds.get(key) == kind)

    def mean(self, system: str, measure: str, kind: str = "") -> Mean:
        """The mean of a system with its coverage and bounds."""
        return self.scored(system, measure, kind).mean

    def interval(self, system: str, measure: str, kind: str = "") -> Interval:
        """The 95 % interval of a mean; both ends are NaN where there are no scores."""
        place = (system, measure, kind)
        if place not in self._intervals:
            values = self.scored(*place).by_question.values()
            self._intervals[place] = score_interval(np.array(list(values)))
        return self._intervals[place]

    def difference(self, system: str, measure: str, kind: str = "") -> Difference:
        """A system minus the baseline, over the questions that both have a score for.

        Those of all questions are one family of comparisons, those of all the kinds another.
        """
        return (self._by_kind if kind else self._overall)[system, measure, kind]

    def decisive(self, system: str, measure: str, kind: str = "") -> bool:
        """Whether missing scores could not change the order of a system and the baseline."""
        return decisive([self.mean(name, measure, kind) for name in (system, self.baseline)])

    def components(self, system: str, measure: str) -> Components | None:
        """Variance by question and by repeat; None without repeats."""
        return variance_components(self.scored(system, measure).values)

    def variance(self) -> pd.DataFrame:
        """A row for each system and measure: what of the variance is due to asking again."""
        import pandas as pd

        found = {(s, m): self.components(s, m) for m in self.measures for s in self.tables}
        return pd.DataFrame(
            {
                "measure": measure,
                "system": system,
                "question_variance": parts.question,
                "generation_variance": parts.generation,
                "generation_share": parts.generation_share,
                "standard_error": parts.standard_error,
            }
            for (system, measure), parts in found.items()
            if parts is not None
        )

    def worst(self, system: str, measure: str, n: int = 5) -> list[tuple[str, float]]:
        """The n questions (id, score) that the system does worst on."""
        by_question = self.scored(system, measure).by_question
        return sorted(by_question.items(), key=lambda item: item[1])[:n]

    def verdict(self, measure: str | None = None) -> str:
        """One sentence on the best system, computed from the intervals."""
        return verdict(self, measure or self.measures[0])

    @property
    def by_kind(self) -> View:
        """The same table for each kind of question."""
        return View(self, self.question_kinds)

    def frame(self) -> pd.DataFrame:
        """A row for each system and measure, for pandas."""
        return View(self).frame()

    def markdown(self) -> str:
        """Table and verdict as Markdown."""
        return View(self).markdown()

    def _repr_html_(self) -> str:
        return View(self)._repr_html_()

    def __repr__(self) -> str:
        return f"Comparison({self.corpus!r}, {', '.join(self.tables)}): {self.verdict()}"

    @cached_property
    def _intervals(self) -> dict[_Place, Interval]:
        return {}

    @cached_property
    def _overall(self) -> dict[_Place, Difference]:
        return self._family(("",))

    @cached_property
    def _by_kind(self) -> dict[_Place, Difference]:
        return self._family(self.question_kinds)

    def _family(self, kinds: Sequence[str]) -> dict[_Place, Difference]:
        """All comparisons that are corrected together; one without a pair is none."""
        found = {
            place: _difference(self._gaps(place))
            for kind in kinds
            for measure in self.measures
            for system in self.challengers
            for place in [(system, measure, kind)]
        }
        made = [place for place, difference in found.items() if difference.pairs]
        adjusted = holm([found[place].p_value for place in made])
        return found | {
            place: replace(found[place], p_adjusted=p, comparisons=len(made))
            for place, p in zip(made, adjusted, strict=True)
        }

    def _gaps(self, place: _Place) -> Values:
        system, measure, kind = place
        ours, theirs = (
            self.scored(name, measure, kind).by_question for name in (system, self.baseline)
        )
        return np.array([ours[key] - theirs[key] for key in ours if key in theirs]).round(12)


def _difference(gaps: Values) -> Difference:
    low, high = difference_interval(gaps)
    p_value = sign_flip_p(gaps)
    return Difference(
        mean=float(gaps.mean()) if len(gaps) else float("nan"),
        low=low,
        high=high,
        p_value=p_value,
        wins=int((gaps > 0).sum()),
        ties=int((gaps == 0).sum()),
        losses=int((gaps < 0).sum()),
        p_adjusted=p_value,
        effect=effect_size(gaps),
        spread=float(gaps.std(ddof=1)) if len(gaps) > 1 else float("nan"),
    )
