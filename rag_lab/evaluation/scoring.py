"""The second pass of an evaluation: what the logs of answers hold, scored and kept."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeAlias

import orjson
from pydantic import TypeAdapter, ValidationError

from rag_lab.errors import RagLabError, SettingsError
from rag_lab.evaluation.evaluated import SystemRun, row_key
from rag_lab.evaluation.score_log import RowLog, sample_digest, score_key, value_of
from rag_lab.evaluation.scores import Measure, Sample, Score, ScoreTable
from rag_lab.index.report import Progress
from rag_lab.records import Answer, Question, Usage
from rag_lab.telemetry import tracing

Tell: TypeAlias = Callable[[Progress], None]

_answers = TypeAdapter(Answer)


class Identified:
    """A measure, and what decides its scores besides the sample: a judge, an embedder.

    A score that was made with another identity is another score, and not found in the log.
    """

    def __init__(self, measure: Measure, identity: str) -> None:
        self.measure, self.identity = measure, identity
        self.name = measure.name

    def applies_to(self, question: Question) -> bool:
        """Whether the measure is for a question; every one is, if it does not say."""
        asked: Callable[[Question], bool] | None = getattr(self.measure, "applies_to", None)
        return asked is None or asked(question)

    async def score(self, sample: Sample) -> Score:
        """The measure's score."""
        return await self.measure.score(sample)


class Counting:
    """Counts what is done of a stage, and tells it."""

    def __init__(self, stage: str, total: int, progress: Tell) -> None:
        self._stage, self._total, self._progress = stage, total, progress
        self._done = 0
        progress(Progress(stage, 0, total))

    def __call__(self, done: int = 1) -> None:
        self._done += done
        self._progress(Progress(self._stage, self._done, self._total))


def system_folder(out: Path, system: str) -> Path:
    """The folder of a system's logs; made if it is not there."""
    folder = out / system
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(
            f"{folder} cannot be made: {error.strerror}. Give a folder that can be written."
        ) from None
    return folder


def answers_path(out: Path, system: str, repeat: int) -> Path:
    """The log of the answers of one asking, from 0."""
    return system_folder(out, system) / (
        "answers.jsonl" if not repeat else f"answers-{repeat + 1}.jsonl"
    )


def samples_in(
    out: Path, system: str, questions: Sequence[Question], language: str, repeats: int
) -> list[Sample]:
    """A sample for each asking of each question."""
    return [
        _sample(question, rows.get(question.id), language, repeat)
        for repeat in range(repeats)
        for rows in [_newest(answers_path(out, system, repeat), questions)]
        for question in questions
    ]


def _newest(path: Path, questions: Sequence[Question]) -> Mapping[str, Mapping[str, Any]]:
    """The newest line of each question in an answer log."""
    texts = {question.id: question.text for question in questions}
    if not path.is_file():
        raise SettingsError(f"{path} is not there: nothing was answered. Call evaluate() first.")
    rows = {row["id"]: row for row in _rows(path) if texts.get(row["id"]) == row["question"]}
    origins = {tuple(row["origin"].values()) for row in rows.values()}
    if len(origins) > 1:
        raise SettingsError(
            f"{path} holds answers to these questions of {len(origins)} different settings or "
            "indexes. Call evaluate() to ask for what is missing of one, or give another folder."
        )
    return rows


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    with path.open("rb") as lines:
        for line in lines:
            try:
                row = orjson.loads(line)
            except orjson.JSONDecodeError:  # cut off by a kill; its question is not in the log
                continue
            if isinstance(row, dict) and {"id", "question", "origin"} <= row.keys():
                yield row


def _sample(
    question: Question, row: Mapping[str, Any] | None, language: str, repeat: int
) -> Sample:
    answer, failure = None, "it was not asked"
    if row is not None and "error" in row:
        failure = str(row["error"])
    elif row is not None:
        try:
            answer, failure = _answers.validate_python(row), ""
        except ValidationError as error:
            failure = f"the log holds no sound answer: {error.errors()[0]['msg']}"
    return Sample(question, answer, failure, language, repeat)


async def score_samples(
    samples: Sequence[Sample],
    measures: Sequence[Measure],
    log: RowLog,
    at_once: int,
    told: Counting,
) -> SystemRun:
    """What became of a system: its scores, of which those that the log lacks are made and kept."""
    slots = asyncio.Semaphore(at_once)
    spent: list[Usage] = []

    async def score(sample: Sample) -> list[Score | None]:
        async with slots:
            digest = sample_digest(sample)
            scores = [_score(sample, digest, measure, log, spent) for measure in measures]
            found = await asyncio.gather(*scores)
        told()
        return found

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(score(sample)) for sample in samples]
    rows = [(row_key(sample.question.id, sample.repeat), sample) for sample in samples]
    table: dict[str, dict[str, Score]] = {measure.name: {} for measure in measures}
    for (key, _), task in zip(rows, tasks, strict=True):
        for measure, found in zip(measures, task.result(), strict=True):
            if found is not None:
                table[measure.name][key] = found
    answers = [sample.answer for sample in samples if sample.answer is not None]
    return SystemRun(
        ScoreTable({key: sample.fate for key, sample in rows}, table),
        tuple(answer.timing.total_s for answer in answers),
        sum((answer.usage for answer in answers), Usage()),
        sum(spent, Usage()),
        sum(bool(answer.degraded) for answer in answers),
        tuple(log.notes),
    )


async def _score(
    sample: Sample, digest: str, measure: Measure, log: RowLog, spent: list[Usage]
) -> Score | None:
    """A score that is known, or made and kept; None if the measure is not for the question."""
    applies_to: Callable[[Question], bool] | None = getattr(measure, "applies_to", None)
    if applies_to is not None and not applies_to(sample.question):
        return None
    key = score_key(digest, measure)
    row = log.find(key)
    if row is None or (value := value_of(row)) is None:
        score, usage = await _measured(measure, sample)
        used = {name: count for name, count in asdict(usage).items() if count}
        head = {"question": sample.question.id, "repeat": sample.repeat, "measure": measure.name}
        await log.add(key, {**head, "value": score.value, "reason": score.reason, "usage": used})
    else:
        score, usage = Score(value), Usage(**row.get("usage", {}))
    spent.append(usage)
    return score


async def _measured(measure: Measure, sample: Sample) -> tuple[Score, Usage]:
    """A score from 0 to 1 or a reason, whatever the measure does, and what it used."""
    if sample.answer is None:
        return Score.none(f"not answered: {sample.failure}"), Usage()
    with tracing() as trace:
        try:
            score = await measure.score(sample)
        except RagLabError as error:
            score = Score.none(str(error))
        except Exception as error:  # what it says may hold texts of the corpus or of a model
            score = Score.none(f"the measure failed: {type(error).__name__}")
    if score.value is not None and not 0 <= score.value <= 1:
        score = Score.none(f"the measure gave {score.value}; expected 0 to 1")
    return score, trace.usage
