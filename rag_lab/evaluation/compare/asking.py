"""One asking of a set of questions: what a system answers, how it scores, what it takes."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from rag_lab.asking.batch import Engine
from rag_lab.corpora import Corpus
from rag_lab.errors import SettingsError
from rag_lab.evaluation.compare.scored import score_table
from rag_lab.evaluation.ranking import DocumentRanker, Ranking, rank_questions, score_ranking
from rag_lab.evaluation.scores import Fate, Measure, Sample, Score, ScoreTable
from rag_lab.records import Question, Usage
from rag_lab.telemetry.trace import clock, tracing

AT_ONCE = 16

System = DocumentRanker | Engine
"""What ranks documents is scored with ranking measures, what answers with measures of answers."""


@dataclass
class Asking:
    """What came of asking a system some questions once.

    Attributes:
        ranking: if it ranks.
        latency_s: question id → seconds of each question without a failure, scoring left out.
        scoring_s: question id → seconds that measures of answers took.
        usage: of the system and of the judges.
    """

    table: ScoreTable
    ranking: Ranking | None = None
    latency_s: dict[str, float] = field(default_factory=dict)
    scoring_s: dict[str, float] = field(default_factory=dict)
    usage: Usage = field(default_factory=Usage)


def questions_for(corpus: Corpus, measures: Sequence[str | Measure]) -> list[Question]:
    """The questions to ask: those with a judgement if documents are ranked, else all.

    Raises:
        SettingsError: there is none, no measure, or measures of both sorts.
    """
    ranked = [isinstance(measure, str) for measure in measures]
    if not measures or any(ranked) != all(ranked):
        raise SettingsError(
            "compare needs measures of rankings (names like R@5) or measures of answers, "
            f"not both and not none; got {len(measures)}, {sum(ranked)} of them of rankings."
        )
    if not ranked[0] and corpus.questions:
        return list(corpus.questions)
    questions = [question for question in corpus.questions if corpus.qrels.get(question.id)]
    if not questions:
        raise SettingsError(f"{corpus.name} has no question with a judgement.")
    return questions


def check_systems(systems: Mapping[str, System], measures: Sequence[str | Measure]) -> None:
    """Whether every system can be scored.

    Raises:
        SettingsError: one cannot; it is named.
    """
    needed = "rank_documents" if isinstance(measures[0], str) else "ask"
    for name, system in systems.items():
        if not hasattr(system, needed):
            raise SettingsError(
                f"system {name!r} ({type(system).__name__}) has no {needed}: retrievers are "
                "compared with ranking measures, query engines with measures of answers."
            )


async def ask_system(
    system: System,
    questions: Sequence[Question],
    corpus: Corpus,
    measures: Sequence[str | Measure],
    repeat: int = 0,
) -> Asking:
    """Asks a system all questions, several at a time, and scores what it returns."""
    names = [measure for measure in measures if isinstance(measure, str)]
    if names:
        return await _ask_ranker(cast(DocumentRanker, system), questions, corpus, names)
    others = [measure for measure in measures if not isinstance(measure, str)]
    return await _ask_engine(cast(Engine, system), questions, corpus, others, repeat)


async def _ask_ranker(
    system: DocumentRanker, questions: Sequence[Question], corpus: Corpus, measures: Sequence[str]
) -> Asking:
    """Ranks documents for all questions and scores the rankings."""
    timed = _Timed(system)
    ranking = await rank_questions(timed, questions)
    table = score_table(score_ranking(ranking, corpus.qrels, measures), ranking)
    latency_s = {q.id: timed.latency_s[q.text] for q in questions if q.text in timed.latency_s}
    return Asking(table, ranking, latency_s, usage=timed.usage)


class _Timed:
    """A ranker whose latencies and usage are kept, by the text of the question."""

    def __init__(self, ranker: DocumentRanker) -> None:
        self._ranker = ranker
        self.latency_s: dict[str, float] = {}
        self.usage = Usage()

    async def rank_documents(self, query: str, k: int | None = None) -> list[tuple[str, float]]:
        with tracing() as trace:
            began = clock()
            try:
                found = await self._ranker.rank_documents(query, k)
                self.latency_s[query] = clock() - began
            finally:
                self.usage += trace.usage
        return found


async def _ask_engine(
    engine: Engine,
    questions: Sequence[Question],
    corpus: Corpus,
    measures: Sequence[Measure],
    repeat: int = 0,
) -> Asking:
    """Asks an engine all questions and scores each answer as it comes."""
    scores: dict[str, dict[str, Score]] = {measure.name: {} for measure in measures}
    fates: dict[str, Fate] = {}
    asking = Asking(ScoreTable(fates, scores))
    slots = asyncio.Semaphore(AT_ONCE)

    async def one(question: Question) -> None:
        async with slots:
            sample = await _sampled(engine, question, corpus.language, repeat, asking)
            fates[question.id] = sample.fate
            began = clock()
            with tracing() as trace:
                for measure in measures:
                    scores[measure.name][question.id] = await _scored(measure, sample)
            asking.scoring_s[question.id] = clock() - began
            asking.usage += trace.usage

    await asyncio.gather(*map(one, questions))
    return asking


async def _sampled(
    engine: Engine, question: Question, language: str, repeat: int, asking: Asking
) -> Sample:
    began = clock()
    with tracing() as trace:
        try:
            answer = await engine.ask(question.text)
        except Exception as error:  # any failure of the system under test is a result
            asking.usage += trace.usage
            reason = f"{type(error).__name__}: {error}"
            return Sample(question, None, reason, language, repeat)
    asking.latency_s[question.id] = clock() - began
    asking.usage += trace.usage if trace.usage != Usage() else answer.usage
    return Sample(question, answer, "", language, repeat)


async def _scored(measure: Measure, sample: Sample) -> Score:
    if sample.answer is None:
        return Score.none(sample.failure)
    try:
        return await measure.score(sample)
    except Exception as error:  # a measure that fails has no score; the others have theirs
        return Score.none(f"{type(error).__name__}: {error}")
