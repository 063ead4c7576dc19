"""What a measure says of an answer: a value, or the reason why there is none.

A table keeps every question that was asked. A mean is over those that have a score; beside it stand
its coverage and the bounds it would have if all that is missing were worst, or best.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, Protocol

from rag_lab.records import Answer, Question

Fate = Literal["answered", "partial", "failed"]
"""What became of asking: an answer, one to some of its parts, none."""


@dataclass(frozen=True, slots=True)
class Score:
    """A value from 0 to 1, or why there is none."""

    value: float | None = None
    reason: str = ""

    @classmethod
    def none(cls, reason: str) -> Score:
        """No score, for a reason."""
        return cls(None, reason)


@dataclass(frozen=True, slots=True)
class Sample:
    """A question with what a system answered to it.

    Attributes:
        question: with its gold.
        answer: None if asking failed.
        failure: why it did.
        language: of the corpus, ISO 639-1.
        repeat: which of several askings it is, from 0.
    """

    question: Question
    answer: Answer | None
    failure: str = ""
    language: str = "en"
    repeat: int = 0

    @property
    def fate(self) -> Fate:
        """Answered, answered in part, or failed."""
        if self.answer is None:
            return "failed"
        parts = self.answer.parts
        return "partial" if parts and self.answer.answered_parts < len(parts) else "answered"


class Measure(Protocol):
    """Anything that scores an answer.

    Attributes:
        name: the name of its column; RAGAS' own where it is one of theirs.
    """

    name: str

    async def score(self, sample: Sample) -> Score:
        """The score of an answered sample. What goes wrong is a reason, not an exception."""
        ...


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean and what it stands on.

    Attributes:
        value: over the questions with a score; NaN if there is none.
        scored: how many have one.
        of: how many should: all that were asked and that the measure is for.
        low, high: the mean if what is missing scored 0, and 1.
    """

    value: float
    scored: int
    of: int
    low: float
    high: float

    @property
    def coverage(self) -> float:
        """Share of the questions that have a score."""
        return self.scored / self.of if self.of else math.nan


@dataclass(frozen=True)
class ScoreTable:
    """The scores of one system.

    Attributes:
        fates: question id → what became of asking it.
        scores: measure → question id → score; questions that a measure is not for are not in it.
    """

    fates: Mapping[str, Fate]
    scores: Mapping[str, Mapping[str, Score]]

    @property
    def attempted(self) -> int:
        """Questions that were asked."""
        return len(self.fates)

    def count(self, fate: Fate) -> int:
        """Questions of that fate."""
        return Counter(self.fates.values())[fate]

    def mean(self, measure: str, only: Callable[[str], bool] = lambda question_id: True) -> Mean:
        """The mean of a measure, over all questions or those whose id passes `only`."""
        given = [score for key, score in self.scores[measure].items() if only(key)]
        values = [score.value for score in given if score.value is not None]
        total, missing, of = math.fsum(values), len(given) - len(values), len(given)
        return Mean(
            value=total / len(values) if values else math.nan,
            scored=len(values),
            of=of,
            low=total / of if of else math.nan,
            high=(total + missing) / of if of else math.nan,
        )

    def unscored(self, measure: str) -> Mapping[str, str]:
        """Why questions have no score, by their id."""
        scores = self.scores[measure].items()
        return {key: score.reason for key, score in scores if score.value is None}


def decisive(means: Sequence[Mean]) -> bool:
    """Whether no pair of means could change its order if what is missing were known."""
    ordered = sorted(means, key=lambda mean: (mean.low, mean.high))
    return all(one.high <= other.low for one, other in pairwise(ordered))
