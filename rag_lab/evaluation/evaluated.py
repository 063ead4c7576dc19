"""What an evaluation found: a table for each system, what it cost, and how sure the means are."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from rag_lab.errors import SettingsError
from rag_lab.evaluation.scores import Mean, Score, ScoreTable, decisive
from rag_lab.evaluation.statistics import (
    LEVEL,
    Interval,
    difference_interval,
    holm,
    score_interval,
    sign_flip_p,
    smallest_p,
)
from rag_lab.records import Question, Usage

if TYPE_CHECKING:
    import pandas as pd

_QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


def row_key(question_id: str, repeat: int) -> str:
    """The key of a row: the question's id; of one that was asked again with the number of it."""
    return f"{question_id} #{repeat + 1}" if repeat else question_id


@dataclass(frozen=True, slots=True)
class SystemRun:
    """What became of one system.

    Attributes:
        table: its scores, by `row_key`.
        latencies_s: of the answers, as they were asked: many at a time.
        usage: of answering.
        judging: of the scores in the table.
        degraded: answers that had to do without something.
        notes: what was amiss in the log of its scores.
    """

    table: ScoreTable
    latencies_s: tuple[float, ...] = ()
    usage: Usage = field(default_factory=Usage)
    judging: Usage = field(default_factory=Usage)
    degraded: int = 0
    notes: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether every question was answered undegraded, and every score is there."""
        unscored = any(self.table.unscored(measure) for measure in self.table.scores)
        return not (unscored or self.degraded or self.table.count("failed"))

    def latency_s(self, quantile: float) -> float:
        """A quantile of the latencies of answers; NaN without any."""
        return float(np.quantile(self.latencies_s, quantile)) if self.latencies_s else math.nan

    def with_scores(self, scores: Mapping[str, Mapping[str, Score]]) -> SystemRun:
        """The same with further measures."""
        return replace(self, table=ScoreTable(self.table.fates, {**self.table.scores, **scores}))

    def to_dict(self) -> dict[str, Any]:
        """Counts and costs as plain data."""
        fates = {fate: self.table.count(fate) for fate in ("answered", "partial", "failed")}
        return {
            "attempted": self.table.attempted,
            **fates,
            "degraded": self.degraded,
            "complete": self.complete,
            "latency_s": {name: _known(self.latency_s(q)) for name, q in _QUANTILES.items()},
            "usage": asdict(self.usage),
            "judging": asdict(self.judging),
        }


@dataclass(frozen=True, slots=True)
class Gap:
    """A system against the baseline on one measure, over the questions that both have a score for.

    Attributes:
        mean: of system minus baseline, question by question; repeats of a question count as one.
        interval: of 95 %.
        p_value: of the paired randomisation test, by Holm for all gaps of the table; NaN where
            too few questions differ for the test to reach .05.
        questions: that both have a score for.
    """

    mean: float
    interval: Interval
    p_value: float
    questions: int


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` found.

    Attributes:
        corpus: its name.
        questions: that were asked.
        repeats: how often each was asked.
        runs: by system.
    """

    corpus: str
    questions: tuple[Question, ...]
    repeats: int
    runs: Mapping[str, SystemRun]

    @property
    def tables(self) -> Mapping[str, ScoreTable]:
        """The scores of each system."""
        return {name: run.table for name, run in self.runs.items()}

    @property
    def measures(self) -> tuple[str, ...]:
        """The measures, in the order they were asked for."""
        return tuple(next(iter(self.runs.values())).table.scores)

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of questions, in the order they come in."""
        return tuple(dict.fromkeys(question.kind for question in self.questions))

    @property
    def complete(self) -> bool:
        """Whether nothing failed, was degraded or is unscored."""
        return all(run.complete for run in self.runs.values())

    def mean(
        self, system: str, measure: str, only: Callable[[Question], bool] = lambda question: True
    ) -> Mean:
        """The mean of a measure over all questions, or those that pass `only`."""
        kept = {key for key, question, _ in self._rows() if only(question)}
        return self.runs[system].table.mean(measure, kept.__contains__)

    def of_kind(self, system: str, measure: str, kind: str) -> Mean:
        """The mean of a measure over the questions of one kind."""
        return self.mean(system, measure, lambda question: question.kind == kind)

    def interval(self, system: str, measure: str) -> Interval:
        """The 95 % interval of a mean over questions; NaN without scores."""
        return score_interval(np.array([*self._by_question(system, measure).values()], float))

    def gaps(self, baseline: str) -> dict[tuple[str, str], Gap]:
        """Every other system against a baseline, by (system, measure).

        Raises:
            SettingsError: the baseline was not evaluated.
        """
        if baseline not in self.runs:
            raise SettingsError(f"baseline {baseline!r} is not among {', '.join(self.runs)}.")
        found = {
            (name, measure): self._gap(name, baseline, measure)
            for measure in self.measures
            for name in self.runs
            if name != baseline
        }
        tested = [key for key, gap in found.items() if not math.isnan(gap.p_value)]
        adjusted = holm([found[key].p_value for key in tested])
        for key, p_value in zip(tested, adjusted, strict=True):
            found[key] = replace(found[key], p_value=p_value)
        return found

    def _gap(self, system: str, baseline: str, measure: str) -> Gap:
        ours, theirs = (self._by_question(name, measure) for name in (system, baseline))
        gaps = np.array([ours[key] - theirs[key] for key in ours if key in theirs], float)
        mean = float(gaps.mean()) if len(gaps) else math.nan
        reachable = smallest_p(int((gaps != 0).sum())) <= LEVEL
        p_value = sign_flip_p(gaps) if reachable else math.nan
        return Gap(mean, difference_interval(gaps), p_value, len(gaps))

    def _by_question(self, system: str, measure: str) -> dict[str, float]:
        """The mean of the scores of each question that has any."""
        scores = self.runs[system].table.scores[measure]
        values: dict[str, list[float]] = {}
        for key, question, _ in self._rows():
            score = scores.get(key)
            if score is not None and score.value is not None:
                values.setdefault(question.id, []).append(score.value)
        return {key: math.fsum(found) / len(found) for key, found in values.items()}

    def _rows(self) -> Iterator[tuple[str, Question, int]]:
        for repeat in range(self.repeats):
            for question in self.questions:
                yield row_key(question.id, repeat), question, repeat

    def frame(self) -> pd.DataFrame:
        """A row for each score, or reason why there is none."""
        import pandas as pd

        columns = ("system", "question", "kind", "split", "repeat", "fate", "measure")
        rows = [
            (name, question.id, question.kind, question.split, repeat, run.table.fates[key],
             measure, math.nan if scores[key].value is None else scores[key].value,
             scores[key].reason)
            for name, run in self.runs.items()
            for measure, scores in run.table.scores.items()
            for key, question, repeat in self._rows()
            if key in scores
        ]  # fmt: skip
        return pd.DataFrame(rows, columns=[*columns, "value", "reason"])

    def to_dict(self, baseline: str = "") -> dict[str, Any]:
        """Plain data for JSON, without a number that is not one; scores are in the logs."""
        gaps = self.gaps(baseline) if baseline else {}
        return {
            "corpus": self.corpus,
            "questions": len(self.questions),
            "repeats": self.repeats,
            "complete": self.complete,
            "baseline": baseline or None,
            "systems": {
                name: run.to_dict()
                | {
                    "measures": {
                        each: self._told(name, each) | _gap_dict(gaps.get((name, each)))
                        for each in self.measures
                    }
                }
                for name, run in self.runs.items()
            },
        }

    def _told(self, system: str, measure: str) -> dict[str, Any]:
        low, high = self.interval(system, measure)
        reasons = Counter(self.runs[system].table.unscored(measure).values())
        halves = {
            half: _mean_dict(self.mean(system, measure, lambda q, half=half: q.split == half))  # type: ignore[misc]
            for half in ("dev", "held_out")
        }
        return _mean_dict(self.mean(system, measure)) | {
            "interval": [_known(low), _known(high)],
            "kinds": {kind: _mean_dict(self.of_kind(system, measure, kind)) for kind in self.kinds},
            **halves,
            "unscored": dict(reasons.most_common()),
        }

    def order_is_known(self, measure: str) -> bool:
        """Whether the order of the systems would be the same if what is missing were known."""
        means = [self.mean(name, measure) for name in self.runs]
        return all(mean.scored == mean.of for mean in means) or decisive(means)

    def markdown(self, baseline: str = "") -> str:
        """The tables in Markdown: the measures, by kind, what became of the questions."""
        from rag_lab.evaluation.evaluated_view import markdown

        return markdown(self, baseline)


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _mean_dict(mean: Mean) -> dict[str, Any]:
    """A mean as plain data."""
    bounds = {"value": mean.value, "low": mean.low, "high": mean.high, "coverage": mean.coverage}
    return {"scored": mean.scored, "of": mean.of} | {k: _known(v) for k, v in bounds.items()}


def _gap_dict(gap: Gap | None) -> dict[str, Any]:
    """A gap as plain data; nothing for the baseline."""
    if gap is None:
        return {}
    told = {
        "mean": _known(gap.mean),
        "interval": [_known(each) for each in gap.interval],
        "p_value": _known(gap.p_value),
        "questions": gap.questions,
    }
    return {"difference": told}
