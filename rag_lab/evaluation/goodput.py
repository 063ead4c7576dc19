"""Quality under load: the same labelled questions at several levels, scored and timed."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from rag_lab.errors import SettingsError
from rag_lab.evaluation.levels import (
    Level,
    Mode,
    Objective,
    Request,
    next_load,
    queue_grows,
)
from rag_lab.evaluation.load import Asked, LoadResult, closed_loop, open_loop
from rag_lab.evaluation.scores import Measure, Sample, Score
from rag_lab.evaluation.under_load import UnderLoad, told
from rag_lab.records import Answer, Question

AskAnswer = Callable[[str, float], Awaitable[Answer]]
"""Asks a question that was scheduled at a moment of `telemetry.trace.clock`."""

LAW: Final = Objective()
MOST_LEVELS: Final = 12
_SCORED_AT_ONCE: Final = 16
_LOOKS: Final = 8
_GREW: Final = "dropped: the queue was growing"


async def quality_under_load(
    ask: AskAnswer,
    questions: Sequence[Question],
    measure: Measure,
    *,
    levels: Sequence[float] | None = None,
    first: float | None = None,
    mode: Mode = "open",
    objective: Objective = LAW,
    duration_s: float = 10.0,
    deadline_s: float = 30.0,
    language: str = "en",
    seed: int = 0,
    progress: Callable[[str], None] = lambda line: None,
) -> UnderLoad:
    """Asks the same questions at several levels of load, and scores what comes.

    Every level asks every question at least once, so that levels can be compared: a level lasts
    longer than `duration_s` if its load is low. Answers are scored after their level, lest a
    measure burdens the system under test. What the system keeps of earlier levels makes later ones
    look better: turn its caches of questions and answers off, and look at `cache_hits`.

    Args:
        questions: those that the measure is for, with their gold.
        levels: loads to try; None: the knee is looked for, by doubling (or halving) from `first`,
            then bisection, in 12 levels at most.
        first: by default as many requests as there are questions in `duration_s`, or one user.
        mode: a load is requests a second at random moments ("open"), or users ("closed").
        duration_s: of a level, at least.
        deadline_s: how long after it what is still under way is cut off, and counted as failed.
            A level whose queue is growing (`queue_grows`) is stopped at once.
        language: of the corpus, ISO 639-1.
        progress: called with a line after each level.

    Raises:
        SettingsError: no question, or a number that is not above 0.
    """
    _check(questions, levels, first, duration_s, deadline_s)
    asked = random.Random(seed).sample(list(questions), len(questions))  # kinds are mixed
    tested = _Tested(ask, asked, measure, language, mode, objective, duration_s, deadline_s, seed)
    start = first or (len(questions) / duration_s if mode == "open" else 1.0)
    waiting = [start] if levels is None else list(levels)
    done = UnderLoad(measure.name, mode, objective, ())
    while waiting:
        level = await tested.level(waiting.pop(0))
        done = UnderLoad(measure.name, mode, objective, (*done.levels, level))
        reasons = "; ".join(done.missed(level)) or "holds"
        progress(f"{told(mode, level.load)}: {level.good_per_s:.3g} good/s, {reasons}")
        if levels is None and len(done.levels) < MOST_LEVELS:
            further = next_load(done.holds, whole=mode == "closed")
            waiting += [] if further is None else [further]
    return done


@dataclass(frozen=True, slots=True)
class _Tested:
    """What is tested, and how."""

    ask: AskAnswer
    questions: Sequence[Question]
    measure: Measure
    language: str
    mode: Mode
    objective: Objective
    duration_s: float
    deadline_s: float
    seed: int

    async def level(self, load: float) -> Level:
        """Asks at one level, and scores what came."""
        count = max(len(self.questions), round(load * self.duration_s))
        watch = _Watch(count)
        run = self._open if self.mode == "open" else self._closed
        result = await run(load, count, watch)
        limit = asyncio.Semaphore(_SCORED_AT_ONCE)

        async def request(asked: Asked) -> Request:
            async with limit:
                return await self._scored(asked, watch.answers.get(asked.id))

        requests = await asyncio.gather(*map(request, result.asked))
        window_s = watch.grew_at_s or (count / load if self.mode == "open" else result.wall_s)
        grew = watch.grew_at_s is not None
        return Level(
            load, self.mode, self.objective, tuple(requests), result.planned, window_s, grew
        )

    async def _open(self, load: float, count: int, watch: _Watch) -> LoadResult:
        return await open_loop(
            self.ask,
            [question.text for question in self.questions],
            rate_per_s=load,
            count=count,
            seed=self.seed,
            deadline_s=count / load + self.deadline_s,
            exact=True,
            drop=watch.drop,
            ended=watch.ended,
        )

    async def _closed(self, load: float, count: int, watch: _Watch) -> LoadResult:
        return await closed_loop(
            self.ask,
            [question.text for question in self.questions],
            users=round(load),
            count=len(self.questions),
            deadline_s=self.duration_s + self.deadline_s,
            at_least_s=self.duration_s,
            ended=watch.ended,
        )

    async def _scored(self, asked: Asked, answer: Answer | None) -> Request:
        repeat, place = divmod(asked.id, len(self.questions))
        question = self.questions[place]
        sample = Sample(question, answer, asked.reason, self.language, repeat)
        if answer is None:
            return Request(asked, question.id, sample.fate, Score.none(asked.reason))
        score = await self.measure.score(sample)
        return Request(asked, question.id, sample.fate, score, answer.timing, answer.usage)


@dataclass(slots=True)
class _Watch:
    """What is seen of a level while it runs: answers, and whether the queue is growing."""

    planned: int
    answers: dict[int, Answer] = field(default_factory=dict)
    grew_at_s: float | None = None
    _arrived_s: list[float] = field(default_factory=list)
    _done_s: list[tuple[float, float]] = field(default_factory=list)

    def drop(self, number: int, at_s: float) -> str:
        """Why the rest is dropped, looked at a few times a level: each look can be wrong."""
        self._arrived_s.append(at_s)
        look = max(1, self.planned // _LOOKS)
        if number % look or number < 2 * look:
            return ""
        if not queue_grows(self._arrived_s, self._done_s, at_s):
            return ""
        self.grew_at_s = at_s
        return _GREW

    def ended(self, asked: Asked, answer: Answer | None) -> None:
        """Notes the end of a request."""
        self._done_s.append((asked.scheduled_s, asked.ended_s))
        if answer is not None:
            self.answers[asked.id] = answer


def _check(
    questions: Sequence[Question],
    levels: Sequence[float] | None,
    first: float | None,
    duration_s: float,
    deadline_s: float,
) -> None:
    if not questions:
        raise SettingsError("quality under load needs questions, got none.")
    if levels is not None and not levels:
        raise SettingsError("levels must be loads above 0, or None to look for the knee, got none.")
    numbers = {"duration_s": duration_s, "deadline_s": deadline_s, "first": first}
    for name, value in [*numbers.items(), *(("a level", load) for load in levels or ())]:
        if value is not None and not value > 0:
            raise SettingsError(f"{name} must be above 0, got {value}.")
