"""Evaluation in two passes: answering is logged as it happens, scoring reads the log.

What is in the folder after an evaluation of the systems "a" and "b":

    a/answers.jsonl     a line for each question (`asking.answer_log`); answers-2.jsonl: asked again
    a/rankings.jsonl    the documents found for each question, if there is a ranking measure
    a/scores.jsonl      a line for each score, or reason why there is none
    b/…

Whatever stops an evaluation, the same call goes on: what has an answer is not asked, what has a
score is not scored. What failed, had to do without something or has no score is tried again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import aclosing, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rag_lab.asking.answer_log import AnswerLog
from rag_lab.asking.batch import AT_ONCE, Outage, ask_all
from rag_lab.asking.questions import Asked
from rag_lab.corpora import Corpus
from rag_lab.errors import SettingsError
from rag_lab.evaluation.evaluated import Evaluation, SystemRun
from rag_lab.evaluation.ranking import Ranking, score_ranking
from rag_lab.evaluation.score_log import RowLog
from rag_lab.evaluation.scores import Measure, Score, ScoreTable
from rag_lab.evaluation.scoring import (
    Counting,
    Tell,
    answers_path,
    samples_in,
    score_samples,
    system_folder,
)
from rag_lab.evaluation.systems import origin_of, rank_kept
from rag_lab.index.threads import in_thread
from rag_lab.records import Question

if TYPE_CHECKING:
    from rag_lab.asking import LabQueryEngine

_NAME = re.compile(r"\w[\w+. -]*")


async def evaluate(
    systems: Mapping[str, LabQueryEngine],
    corpus: Corpus,
    measures: Sequence[Measure] = (),
    *,
    out: Path,
    ranking: Sequence[str] = (),
    questions: Sequence[Question] | None = None,
    at_once: int = AT_ONCE,
    repeats: int = 1,
    outage: Outage | None = None,
    progress: Tell = lambda progress: None,
) -> Evaluation:
    """Asks every system every question, one system after the other, and scores what they say.

    Called again with other measures, or with a measure of another judge, it asks nothing. Without a
    measure of answers no answers are asked for.

    Args:
        systems: by name, which is also that of a folder in `out`.
        corpus: what the questions are about.
        measures: of answers.
        out: the folder of the logs; made if it is not there.
        ranking: measures of what the systems retrieve, in `ir_measures` notation.
        questions: some of those of the corpus; default: all.
        at_once: questions that are asked, or scored, at a time.
        repeats: how often each question is asked; an answer that a model writes varies.
        outage: see `ask_all`.
        progress: told after each question.

    Raises:
        SettingsError: a name, a number or a measure is unusable, or a log cannot be written.
    """
    asked = corpus.questions if questions is None else tuple(questions)
    _check(systems, [*(measure.name for measure in measures), *ranking], asked, at_once, repeats)
    score_ranking(Ranking({}), {}, ranking)  # an unknown measure is told before anything is asked
    for name, engine in systems.items() if measures else ():
        for repeat in range(repeats):
            again = f" {repeat + 1}" if repeat else ""
            told = Counting(f"{name}: answers{again}", len(asked), progress)
            log = AnswerLog(answers_path(out, name, repeat), origin_of(engine, corpus))
            with closing(log):
                await _answer(engine, asked, log, at_once, outage, told)
    ranked = {}
    for name, engine in systems.items() if ranking else ():
        told = Counting(f"{name}: rankings", len(asked), progress)
        log_path = system_folder(out, name) / "rankings.jsonl"
        ranked[name] = await rank_kept(engine, corpus, asked, log_path, told)
    if not measures:
        runs = {name: SystemRun(ScoreTable(_fates(found), {})) for name, found in ranked.items()}
    else:
        scored = await score_answers(
            [*systems], corpus, measures, out=out, questions=asked, at_once=at_once,
            repeats=repeats, progress=progress,
        )  # fmt: skip
        runs = dict(scored.runs)
    for name, found in ranked.items():
        runs[name] = runs[name].with_scores(_ranking_scores(found, corpus, ranking))
    return Evaluation(corpus.name, asked, repeats, runs)


async def score_answers(
    systems: Sequence[str],
    corpus: Corpus,
    measures: Sequence[Measure],
    *,
    out: Path,
    questions: Sequence[Question] | None = None,
    at_once: int = AT_ONCE,
    repeats: int = 1,
    progress: Tell = lambda progress: None,
) -> Evaluation:
    """The second pass alone: scores the answers that are in the logs; nothing is asked.

    A question that is not in the log is a failed one. Arguments are those of `evaluate`.

    Raises:
        SettingsError: a system has no log, or answers of different settings in it.
    """
    asked = corpus.questions if questions is None else tuple(questions)
    _check(systems, [measure.name for measure in measures], asked, at_once, repeats)
    runs = {}
    for name in systems:
        told = Counting(f"{name}: scores", len(asked) * repeats, progress)
        samples = await in_thread(samples_in, out, name, asked, corpus.language, repeats)
        with closing(RowLog(system_folder(out, name) / "scores.jsonl")) as log:
            runs[name] = await score_samples(samples, measures, log, at_once, told)
    return Evaluation(corpus.name, asked, repeats, runs)


def _check(
    systems: Sequence[str] | Mapping[str, Any],
    measures: Sequence[str],
    questions: Sequence[Question],
    at_once: int,
    repeats: int,
) -> None:
    for name in systems:
        if not _NAME.fullmatch(name):
            raise SettingsError(
                f"system {name!r} cannot be the name of a folder; expected letters, digits, "
                "spaces, '+', '-', '_' and '.', e.g. 'hybrid+parts'."
            )
    twice = sorted({name for name in measures if measures.count(name) > 1})
    if twice:
        raise SettingsError(f"measure {twice[0]!r} is given twice; give each once.")
    if not systems or not measures or not questions:
        raise SettingsError(
            f"nothing to evaluate: {len(systems)} systems, {len(measures)} measures, "
            f"{len(questions)} questions. Give at least one of each."
        )
    if min(at_once, repeats) < 1:
        raise SettingsError(f"at_once and repeats must be at least 1, got {at_once} and {repeats}.")


async def _answer(
    engine: LabQueryEngine,
    questions: Sequence[Question],
    log: AnswerLog,
    at_once: int,
    outage: Outage | None,
    told: Counting,
) -> None:
    asked = (Asked(question.id, question.text) for question in questions)
    async with aclosing(
        ask_all(engine, asked, at_once=at_once, log=log, outage=outage)
    ) as outcomes:
        async for _ in outcomes:
            told()


def _fates(ranking: Ranking) -> Mapping[str, Any]:
    return dict.fromkeys(ranking.run, "answered") | dict.fromkeys(ranking.failed, "failed")


def _ranking_scores(
    ranking: Ranking, corpus: Corpus, measures: Sequence[str]
) -> dict[str, dict[str, Score]]:
    """The scores of judged questions; those whose retrieval failed have none."""
    found = score_ranking(ranking, corpus.qrels, measures).scores
    failed = {
        key: Score.none(f"not retrieved: {reason}")
        for key, reason in ranking.failed.items()
        if corpus.qrels.get(key)
    }
    return {
        name: {key: Score(value) for key, value in found[name].items()} | failed
        for name in measures
    }
