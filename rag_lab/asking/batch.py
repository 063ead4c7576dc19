"""Asking many questions: some at a time, told in order, each answer on disk before it is told."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

from rag_lab.asking.answer_log import AnswerLog, QuestionOutcome
from rag_lab.asking.questions import Asked
from rag_lab.errors import ProviderError, RagLabError, Rejection, SettingsError
from rag_lab.index.threads import in_thread
from rag_lab.records import Answer

AT_ONCE = 64
"""Enough for a limiter to choose from; how many calls are in flight is its decision."""
AHEAD = 8
"""Questions read, or answered and not yet told, for each one that is being asked."""

_LOOK_S = 2.0


class Engine(Protocol):
    """Anything that answers a question."""

    async def ask(self, question: str) -> Answer:
        """The answer to a question."""
        ...


@dataclass(frozen=True, slots=True)
class Outage:
    """What to do while a provider fails: questions wait for it, each so long at most."""

    failing: Callable[[], bool]
    patience_s: float


async def ask_all(
    engine: Engine,
    questions: Iterable[Asked | Rejection],
    *,
    at_once: int = AT_ONCE,
    log: AnswerLog | None = None,
    outage: Outage | None = None,
) -> AsyncGenerator[QuestionOutcome, None]:
    """Asks questions `at_once` and yields what became of each, in their order.

    Reading goes on while a slow question holds up those behind it, but `AHEAD * at_once` questions
    are held at most. Whatever one question raises is its failure alone. Use `aclosing`: however
    the iteration ends, no question is under way then, and what was answered is in the log.

    Args:
        engine: a `LabQueryEngine`, or anything like it.
        questions: read lazily, in a thread.
        at_once: questions that are being asked at a time.
        log: keeps the answers, and is asked first.
        outage: tells of one; without it a question that meets one fails or is degraded.

    Raises:
        CorpusError: the questions cannot be read.
        SettingsError: the log cannot be written, or `at_once` is below 1.
    """
    if at_once < 1:
        raise SettingsError(f"at_once must be at least 1 question, got {at_once}.")
    batch = _Batch(engine, asyncio.Semaphore(at_once), log, outage)
    source, most, ended = iter(questions), AHEAD * at_once, False
    held: deque[asyncio.Task[QuestionOutcome]] = deque()
    try:
        while True:
            if not ended and len(held) <= most // 2:  # a trip to a thread is for many questions
                room = most - len(held)
                read = await in_thread(_take, source, room)
                held.extend(asyncio.create_task(batch.outcome(each)) for each in read)
                ended = len(read) < room
            if not held:
                return
            await asyncio.wait([held[0]])
            yield held.popleft().result()
    finally:
        for task in held:
            task.cancel()
        await asyncio.gather(*held, return_exceptions=True)


def _take(source: Iterator[Asked | Rejection], most: int) -> list[Asked | Rejection]:
    return list(islice(source, most))


@dataclass(frozen=True, slots=True)
class _Batch:
    """How each question of a batch is asked."""

    engine: Engine
    slots: asyncio.Semaphore
    log: AnswerLog | None
    outage: Outage | None

    async def outcome(self, item: Asked | Rejection) -> QuestionOutcome:
        if isinstance(item, Rejection):
            outcome = QuestionOutcome(f"{item.file}:{item.line}", "", error=str(item))
        else:
            async with self.slots:
                outcome = await self._found(item) or await self._asked(item)
        if self.log is not None:  # without a slot: another question is asked meanwhile
            await self.log.add(outcome)
        return outcome

    async def _found(self, asked: Asked) -> QuestionOutcome | None:
        answer = None if self.log is None else await self.log.find(asked.text)
        if answer is None:
            return None
        return QuestionOutcome(asked.id, asked.text, answer, known=True)

    async def _asked(self, asked: Asked) -> QuestionOutcome:
        try:
            answer = await self._answer(asked.text)
        except RagLabError as error:
            return QuestionOutcome(asked.id, asked.text, error=str(error))
        except Exception as error:  # whatever it is, the others are asked
            reason = f"{type(error).__name__}: {error}"
            return QuestionOutcome(asked.id, asked.text, error=reason)
        return QuestionOutcome(asked.id, asked.text, answer)

    async def _answer(self, question: str) -> Answer:
        """The answer; while the provider fails, one without it is not good enough yet."""
        began = time.monotonic()
        while True:
            try:
                answer = await self.engine.ask(question)
                if not answer.degraded or not await self._ask_again(began):
                    return answer
            except ProviderError:
                if not await self._ask_again(began):
                    raise

    async def _ask_again(self, began: float) -> bool:
        outage = self.outage
        if outage is None or time.monotonic() - began > outage.patience_s:
            return False
        failing = outage.failing()
        await asyncio.sleep(_LOOK_S)  # the first failures of an outage do not tell that it is one
        return failing or outage.failing()
