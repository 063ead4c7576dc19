"""Ranking measures by `ir_measures`, over runs that keep every question.

A question for which nothing was retrieved scores zero and stays in the mean; a question whose
retrieval failed is counted as failed and has no score.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from rag_lab.errors import SettingsError
from rag_lab.records import Question, Split

Run = Mapping[str, Mapping[str, float]]
_AT_ONCE = 16


class DocumentRanker(Protocol):
    """Anything that ranks documents for a question; every retriever here does."""

    async def rank_documents(self, query: str, k: int | None = None) -> list[tuple[str, float]]:
        """The k best (document id, score), best first."""
        ...


@dataclass(frozen=True)
class Ranking:
    """What a system returned for a set of questions.

    Attributes:
        run: question id → document id → score. Every answered question is there, empty or not.
        failed: question id → reason.
    """

    run: Run
    failed: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class MeasureTable:
    """Scores by measure: per question, and the mean over the questions that have one."""

    scores: Mapping[str, Mapping[str, float]]
    attempted: int
    failed: int = 0

    def mean(self, measure: str, only: Callable[[str], bool] = lambda question_id: True) -> float:
        """Mean over the questions, or over those whose id passes `only`; NaN if there is none."""
        kept = [value for key, value in self.scores[measure].items() if only(key)]
        return sum(kept) / len(kept) if kept else float("nan")


async def rank_questions(
    system: DocumentRanker,
    questions: Iterable[Question],
    *,
    k: int = 100,
    group: Callable[[str], str] | None = None,
) -> Ranking:
    """Asks a system to rank documents for every question, several at a time.

    Args:
        system: the retriever.
        questions: asked in any order; every one is in the result.
        k: documents kept a question, after grouping.
        group: maps a document id to a larger unit (a statute) that is judged in its place; a
            unit's score is that of its best document.
    """
    limit = asyncio.Semaphore(_AT_ONCE)
    failed: dict[str, str] = {}

    async def ask(question: Question) -> tuple[str, dict[str, float]] | None:
        async with limit:
            try:
                found = await system.rank_documents(question.text)
            except Exception as error:
                failed[question.id] = f"{type(error).__name__}: {error}"
                return None
        return question.id, _grouped(found, group, k)

    rows = await asyncio.gather(*map(ask, questions))
    return Ranking(dict(row for row in rows if row is not None), failed)


def _grouped(
    found: Sequence[tuple[str, float]], group: Callable[[str], str] | None, k: int
) -> dict[str, float]:
    kept: dict[str, float] = {}
    for document_id, score in found:
        unit = group(document_id) if group else document_id
        kept.setdefault(unit, score)  # best first: the first seen is the unit's best
        if len(kept) == k:
            break
    return kept


def score_ranking(
    ranking: Ranking, qrels: Mapping[str, Mapping[str, int]], measures: Sequence[str]
) -> MeasureTable:
    """Scores a ranking with measures in `ir_measures` notation, e.g. `nDCG@10`, `RR@10`, `AP`.

    Only questions with a judgement can be scored; failed ones are counted and left out.

    Raises:
        SettingsError: a measure is unknown.
    """
    judged = {key: dict(gold) for key, gold in qrels.items() if gold}
    asked = {key: gold for key, gold in judged.items() if key in ranking.run}
    scores: dict[str, dict[str, float]] = {name: dict.fromkeys(asked, 0.0) for name in measures}
    parsed = {_parse(name): name for name in measures}
    run = {key: _untied(ranking.run[key]) for key in asked}
    if asked:
        import ir_measures

        for metric in ir_measures.iter_calc(list(parsed), asked, run):
            scores[parsed[metric.measure]][metric.query_id] = float(metric.value)
    failed = sum(key in judged for key in ranking.failed)
    return MeasureTable(scores, attempted=len(asked) + failed, failed=failed)


def _untied(found: Mapping[str, float]) -> dict[str, float]:
    """Scores by rank: trec_eval orders ties by document id, we by the order given."""
    return {document_id: float(-place) for place, document_id in enumerate(found)}


def _parse(name: str) -> Any:
    import ir_measures

    try:
        return ir_measures.parse_measure(name)
    except (NameError, ValueError, TypeError) as error:
        raise SettingsError(
            f"measure {name!r} is unknown ({error}); examples: nDCG@10, RR@10, R@5, P@1, AP."
        ) from None


def in_split(questions: Iterable[Question], split: Split) -> Callable[[str], bool]:
    """A filter on question ids: those of one half."""
    ids = {question.id for question in questions if question.split == split}
    return ids.__contains__
