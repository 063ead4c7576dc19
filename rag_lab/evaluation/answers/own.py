"""The lab's own measures: what an answer holds, which parts it answers, when it must refuse."""

from __future__ import annotations

import unicodedata

from rag_lab.evaluation.answers.base import AnswerMeasure, computed
from rag_lab.evaluation.scores import Sample, Score
from rag_lab.records import Answer, Part, Question


def answer_contains() -> AnswerMeasure:
    """Share of the expected strings that stand in the answer; case, width and spaces aside."""
    return computed(
        "answer_contains",
        _contains,
        lambda q: "" if q.answer_contains else "no strings are expected of the answer",
    )


def completeness() -> AnswerMeasure:
    """Share of the gold parts that were answered from one of their documents, by the ledger.

    Where the question was not taken apart, a part counts if one of its documents is cited.
    """
    return computed("completeness", _completeness, _with_judged_parts)


def refusal_correctness() -> AnswerMeasure:
    """Whether a question that the corpus cannot answer was refused."""
    return computed(
        "refusal_correctness",
        lambda sample, answer: Score(float(answer.refused)),
        lambda q: "the corpus can answer the question" if q.answerable else "",
    )


def wrong_refusal() -> AnswerMeasure:
    """Whether a question that the corpus can answer was refused; lower is better."""
    return computed(
        "wrong_refusal",
        lambda sample, answer: Score(float(answer.refused)),
        lambda q: "" if q.answerable else "the corpus cannot answer the question",
    )


def _contains(sample: Sample, answer: Answer) -> Score:
    said = _folded(answer.text)
    expected = sample.question.answer_contains
    return Score(sum(_folded(each) in said for each in expected) / len(expected))


def _folded(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _with_judged_parts(question: Question) -> str:
    if not question.parts:
        return "the question has no gold parts"
    return "" if all(p.relevant_ids for p in question.parts) else "a part has no gold documents"


def _completeness(sample: Sample, answer: Answer) -> Score:
    parts = sample.question.parts
    return Score(sum(_answered(part, answer) for part in parts) / len(parts))


def _answered(part: Part, answer: Answer) -> bool:
    gold = set(part.relevant_ids)
    if not answer.parts:
        return not answer.refused and bool(gold & set(answer.cited_ids))
    return any(
        each.outcome == "answered" and bool(gold & set(each.document_ids)) for each in answer.parts
    )
