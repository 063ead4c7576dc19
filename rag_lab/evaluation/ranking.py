"""Ranking measures by `ir_measures`, over runs that keep every question.

A question for which nothing was retrieved scores zero and stays in the mean; a question whose
retrieval failed is counted as failed and has no score.
"""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from rag_lab.errors import SettingsError
from rag_lab.records import Question, Split

Run = Mapping[str, Mapping[str, float]]
_AT_ONCE = 16
_HIT = re.compile(r"^hit@")


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

    `hit@k` is 1 where a relevant document is among the first k, `Success@k` in `ir_measures`. Only
    questions with a judgement can be scored; failed ones are counted and left out.

    Raises:
        SettingsError: a measure is unknown.
    """
    judged = {key: gold for key, gold in qrels.items() if gold}
    asked = [key for key in judged if key in ranking.run]
    scores: dict[str, dict[str, float]] = {name: dict.fromkeys(asked, 0.0) for name in measures}
    names: defaultdict[Any, list[str]] = defaultdict(list)
    for name in scores:
        names[_parse(name)].append(name)
    if asked:
        import ir_measures

        rows = [_numbered(ranking.run[key], judged[key]) for key in asked]
        found = {str(number): run for number, (run, _) in enumerate(rows)}
        gold = {str(number): grades for number, (_, grades) in enumerate(rows)}
        for metric in ir_measures.iter_calc(list(names), gold, found):
            for name in names[metric.measure]:
                scores[name][asked[int(metric.query_id)]] = float(metric.value)
    failed = sum(key in judged for key in ranking.failed)
    return MeasureTable(scores, attempted=len(asked) + failed, failed=failed)


def _numbered(
    found: Mapping[str, float], gold: Mapping[str, int]
) -> tuple[dict[str, float], dict[str, int]]:
    """What was found and its judgements, with numbers for documents and scores by rank.

    trec_eval takes ids for C strings, which end at a NUL, and orders ties by document id; the order
    given is ours.
    """
    numbers = {key: str(place) for place, key in enumerate(dict.fromkeys([*found, *gold]))}
    run = {numbers[key]: float(-place) for place, key in enumerate(found)}
    return run, {numbers[key]: grade for key, grade in gold.items()}


def _parse(name: str) -> Any:
    import ir_measures

    try:
        return ir_measures.parse_measure(_HIT.sub("Success@", name))
    except (NameError, ValueError, TypeError) as error:
        raise SettingsError(
            f"measure {name!r} is unknown ({error}); examples: nDCG@10, RR@10, R@5, P@1, hit@5, AP."
        ) from None


def in_split(questions: Iterable[Question], split: Split) -> Callable[[str], bool]:
    """A filter on question ids: those of one half."""
    ids = {question.id for question in questions if question.split == split}
    return ids.__contains__
