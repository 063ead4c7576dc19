"""Systems side by side on the same questions: values, intervals, paired differences."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rag_lab.corpora import Corpus
from rag_lab.errors import SettingsError
from rag_lab.evaluation.ranking import (
    DocumentRanker,
    MeasureTable,
    Ranking,
    rank_questions,
    score_ranking,
)

if TYPE_CHECKING:
    import pandas as pd

_RESAMPLES = 2_000
_LEVEL = 0.05


@dataclass(frozen=True, slots=True)
class Difference:
    """A system against the baseline on one measure, question by question."""

    mean: float
    low: float
    high: float
    p_value: float
    wins: int
    ties: int
    losses: int


@dataclass(frozen=True)
class Comparison:
    """What `compare` found. Shows itself as a table in a notebook.

    Intervals are 95 % bootstrap intervals over questions, differences are paired by question and
    tested by random sign flips (Smucker, Allan & Carterette, CIKM 2007).
    """

    corpus: str
    baseline: str
    tables: Mapping[str, MeasureTable]
    rankings: Mapping[str, Ranking]

    @property
    def measures(self) -> tuple[str, ...]:
        """The measures, in the order they were asked for."""
        return tuple(self.tables[self.baseline].scores)

    def interval(self, system: str, measure: str) -> tuple[float, float]:
        """The 95 % interval of a mean; both ends are NaN where there are no scores."""
        return _interval(np.array(list(self.tables[system].scores[measure].values())))

    def difference(self, system: str, measure: str) -> Difference:
        """A system minus the baseline, over the questions that both have a score for."""
        ours, theirs = (self.tables[name].scores[measure] for name in (system, self.baseline))
        gaps = np.array([ours[key] - theirs[key] for key in ours if key in theirs])
        low, high = _interval(gaps)
        return Difference(
            mean=float(gaps.mean()) if len(gaps) else math.nan,
            low=low,
            high=high,
            p_value=_sign_flip_p(gaps),
            wins=int((gaps > 0).sum()),
            ties=int((gaps == 0).sum()),
            losses=int((gaps < 0).sum()),
        )

    def frame(self) -> pd.DataFrame:
        """A row for each system and measure, for pandas."""
        import pandas as pd

        return pd.DataFrame(
            [self._row(system, measure) for measure in self.measures for system in self.tables]
        )

    def _row(self, system: str, measure: str) -> dict[str, object]:
        table = self.tables[system]
        low, high = self.interval(system, measure)
        row: dict[str, object] = {
            "measure": measure,
            "system": system,
            "mean": table.mean(measure),
            "low": low,
            "high": high,
            "attempted": table.attempted,
            "failed": table.failed,
        }
        if system != self.baseline:
            gap = self.difference(system, measure)
            row |= {
                "difference": gap.mean,
                "difference_low": gap.low,
                "difference_high": gap.high,
                "p_value": gap.p_value,
                "wins_ties_losses": f"{gap.wins}/{gap.ties}/{gap.losses}",
            }
        return row

    def verdict(self, measure: str | None = None) -> str:
        """One sentence on the best system, computed from the intervals."""
        name = measure or self.measures[0]
        others = [system for system in self.tables if system != self.baseline]
        best = max(others, key=lambda system: self.tables[system].mean(name))
        gap = self.difference(best, name)
        figures = (
            f"{name} {gap.mean:+.3f}, 95 % interval {gap.low:+.3f} to {gap.high:+.3f}, "
            f"p = {gap.p_value:.3f}, {self.tables[best].attempted} questions"
        )
        if gap.p_value >= _LEVEL or gap.low <= 0 <= gap.high:
            return f"{best} and {self.baseline} cannot be told apart here ({figures})."
        word = "more" if gap.mean > 0 else "less"
        return f"{best} finds {word} than {self.baseline} ({figures})."

    def worst(self, system: str, measure: str, n: int = 5) -> list[tuple[str, float]]:
        """The n questions (id, score) that the system does worst on."""
        scored = self.tables[system].scores[measure].items()
        return sorted(scored, key=lambda item: item[1])[:n]

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{html.escape(title)}</th>" for title in _TITLES)
        body = "".join(
            f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in self._cells(s, m))}</tr>"
            for m in self.measures
            for s in self.tables
        )
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"

    def _cells(self, system: str, measure: str) -> list[str]:
        table = self.tables[system]
        low, high = self.interval(system, measure)
        counts = f"{table.attempted} asked, {table.failed} failed"
        cells = [measure, system, f"{table.mean(measure):.3f}", f"{low:.3f} – {high:.3f}"]
        if system == self.baseline:
            return [*cells, "baseline", "", "", counts]
        gap = self.difference(system, measure)
        return [
            *cells,
            f"{gap.mean:+.3f} [{gap.low:+.3f}, {gap.high:+.3f}]",
            f"{gap.p_value:.3f}",
            f"{gap.wins} / {gap.ties} / {gap.losses}",
            counts,
        ]

    def __repr__(self) -> str:
        return f"Comparison({self.corpus!r}, {', '.join(self.tables)}): {self.verdict()}"


_TITLES = (
    "measure",
    "system",
    "mean",
    "95 % interval",
    "difference",
    "p",
    "wins / ties / losses",
    "questions",
)


async def compare(
    systems: Mapping[str, DocumentRanker],
    corpus: Corpus,
    measures: Sequence[str] = ("RR@10", "R@5", "nDCG@10"),
    *,
    baseline: str,
    progress: Callable[[str], None] = lambda system: None,
) -> Comparison:
    """Asks every system every judged question of a corpus and scores the rankings.

    Args:
        systems: by name; anything that ranks documents.
        corpus: its questions with judgements are asked.
        measures: in `ir_measures` notation.
        baseline: the system that the others are compared with.
        progress: called with the name of each system when its turn comes.

    Raises:
        SettingsError: the baseline is not among the systems, or no question is judged.
    """
    if baseline not in systems:
        raise SettingsError(f"baseline {baseline!r} is not among {', '.join(systems)}.")
    questions = [question for question in corpus.questions if corpus.qrels.get(question.id)]
    if not questions:
        raise SettingsError(f"{corpus.name} has no question with a judgement.")
    rankings = {}
    for name, system in systems.items():
        progress(name)
        rankings[name] = await rank_questions(system, questions)
    tables = {
        name: score_ranking(ranking, corpus.qrels, measures) for name, ranking in rankings.items()
    }
    return Comparison(corpus.name, baseline, tables, rankings)


def _interval(values: np.ndarray) -> tuple[float, float]:
    """Percentile bootstrap of the mean, 95 %, seeded."""
    if len(values) < 2:
        return math.nan, math.nan
    from scipy.stats import bootstrap

    if np.ptp(values) == 0:
        return float(values[0]), float(values[0])
    found = bootstrap(
        (values,),
        np.mean,
        n_resamples=_RESAMPLES,
        method="percentile",
        rng=np.random.default_rng(0),
    )
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def _sign_flip_p(gaps: np.ndarray) -> float:
    """Two-sided p of a mean difference as large under random signs; 1 where nothing differs."""
    if not len(gaps) or not gaps.any():
        return 1.0
    from scipy.stats import permutation_test

    tested = permutation_test(
        (gaps,),
        np.mean,
        permutation_type="samples",
        n_resamples=_RESAMPLES,
        rng=np.random.default_rng(0),
    )
    return float(tested.pvalue)
