"""What every measure of an answer has in common: whom it is for, and that nothing is raised."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from rag_lab.errors import ModelError
from rag_lab.evaluation.scores import Sample, Score
from rag_lab.records import Answer, Question

For = Callable[[Question], str]
"""Why a measure is not for a question; "" if it is."""

_IN_THREAD_FROM_CHARS = 2_000
"""Shorter texts are scored in less than the 5 ms that the event loop may stand still."""
_ROUNDING = 1e-6


def everything(question: Question) -> str:
    """For every question."""
    return ""


def with_reference(question: Question) -> str:
    """For questions with a reference answer that the corpus holds."""
    if not question.answerable:
        return "the corpus cannot answer the question"
    return "" if question.answer else "the question has no reference answer"


def with_documents(question: Question) -> str:
    """For questions with gold documents."""
    return "" if question.relevant_ids else "the question has no gold documents"


def value_of(number: float) -> Score:
    """A score from 0 to 1; what lies beyond by rounding, or a negative cosine, is cut."""
    if not math.isfinite(number):
        return Score.none("no number came out")
    if number > 1 + _ROUNDING:
        return Score.none(f"{number:.4g} came out; a score is from 0 to 1")
    return Score(min(max(float(number), 0.0), 1.0))


@dataclass(slots=True)
class AnswerMeasure:
    """A measure of answers that never raises.

    Attributes:
        name: of its column.
        ask: of a `ModelError` that it raises the message is the reason, of any other error only
            its kind: its text may hold what a model wrote.
        is_for: which questions.
        identity: what decides its scores besides the sample.
    """

    name: str
    ask: Callable[[Sample, Answer], Awaitable[Score]]
    is_for: For = everything
    identity: str = ""

    def applies_to(self, question: Question) -> bool:
        """Whether the measure is for this question; a table leaves out the others."""
        return not self.is_for(question)

    async def score(self, sample: Sample) -> Score:
        """The score, or the reason why there is none."""
        if why := self.is_for(sample.question):
            return Score.none(why)
        if sample.answer is None:
            return Score.none("the question was not answered")
        try:
            return await self.ask(sample, sample.answer)
        except ModelError as error:
            return Score.none(str(error))
        except Exception as error:  # a row is never lost to one measure
            return Score.none(f"it could not be computed ({type(error).__name__})")


def computed(
    name: str,
    compute: Callable[[Sample, Answer], Score],
    is_for: For = everything,
    identity: str = "",
) -> AnswerMeasure:
    """A measure that is computed from the sample alone; `compute` is pure."""

    async def ask(sample: Sample, answer: Answer) -> Score:
        if len(answer.text) + len(sample.question.answer) < _IN_THREAD_FROM_CHARS:
            return compute(sample, answer)
        return await asyncio.to_thread(compute, sample, answer)

    return AnswerMeasure(name, ask, is_for, identity)


@dataclass(slots=True)
class Invalid:
    """A measure that says nothing in a language; every question gets the reason."""

    name: str
    reason: str

    def applies_to(self, question: Question) -> bool:
        """It is in the table, unscored: a missing column would tell nobody why."""
        return True

    async def score(self, sample: Sample) -> Score:
        """The reason."""
        return Score.none(self.reason)
