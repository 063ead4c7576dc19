"""Many questions: in order, so many at a time, each failure its own, nothing left running."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable, Iterator
from contextlib import aclosing, closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_lab.asking import LabQueryEngine, batch
from rag_lab.asking.answer_log import AnswerLog, Origin, QuestionOutcome
from rag_lab.asking.batch import AHEAD, Outage, ask_all
from rag_lab.asking.questions import Asked
from rag_lab.errors import ModelError, ProviderError, Rejection, SettingsError
from rag_lab.records import Answer
from small import indexed

ORIGIN = Origin("food", "5eed", "f00d")


class Scripted:
    """An engine that does for each question what the test says; else it answers in upper case."""

    def __init__(self, **does: Callable[[], Any]) -> None:
        self.does = does
        self.asked: list[str] = []
        self.answered: list[str] = []
        self.in_flight = self.peak = 0

    async def ask(self, question: str) -> Answer:
        self.asked.append(question)
        self.in_flight += 1
        self.peak = max(self.peak, self.in_flight)
        try:
            done = self.does[question]() if question in self.does else None
            answer = await done if asyncio.iscoroutine(done) else done
        finally:
            self.in_flight -= 1
        self.answered.append(question)
        return answer or Answer(question, question.upper(), "extractive")


def fails(error: Exception) -> Callable[[], Any]:
    def fail() -> Any:
        raise error

    return fail


async def waiting(gate: asyncio.Event) -> None:
    await gate.wait()


def degraded(question: str) -> Answer:
    return Answer(question, "a quotation", "extractive", degraded=("without the model",))


def asked(text: str) -> list[Asked]:
    return [Asked(str(number), word) for number, word in enumerate(text.split(), 1)]


async def told(engine: Any, questions: Any, **options: Any) -> list[QuestionOutcome]:
    return [outcome async for outcome in ask_all(engine, questions, **options)]


def texts(outcomes: list[QuestionOutcome]) -> list[str]:
    return [each.error if each.answer is None else each.answer.text for each in outcomes]


async def settled(look: Callable[[], Any]) -> None:
    """Until what is looked at has not changed for some turns of the loop."""
    last, same = look(), 0
    while same < 20:
        await asyncio.sleep(0.005)
        same = same + 1 if look() == last else 0
        last = look()


async def test_a_real_engine_answers_in_the_order_of_the_file() -> None:
    with closing(await indexed()) as index:
        engine = LabQueryEngine.over(index)
        questions = [
            Asked("b", "Where does the yellow banana grow?"),
            Asked("a", "On what does the red apple grow?"),
            Asked("x", "Who was Napoleon Bonaparte?"),
        ]
        outcomes = await told(engine, questions, at_once=2)
        assert [each.id for each in outcomes] == ["b", "a", "x"]
        valley, orchard, nothing = (each.answer for each in outcomes)
        assert valley is not None
        assert "warm valleys" in valley.text
        assert orchard is not None
        assert "cool orchards" in orchard.text
        assert nothing is not None
        assert nothing.refused


async def test_each_failure_is_its_questions_own() -> None:
    engine = Scripted(
        refused=fails(ModelError("the key is wrong")), odd=fails(KeyError("what is this"))
    )
    items = [*asked("one refused odd two"), Rejection("q.jsonl", 5, "malformed JSON")]
    outcomes = await told(engine, items)
    assert texts(outcomes) == [
        "ONE",
        "the key is wrong",
        "KeyError: 'what is this'",
        "TWO",
        "q.jsonl:5: malformed JSON",
    ]
    assert outcomes[1].to_dict() == {"id": "2", "question": "refused", "error": "the key is wrong"}
    assert outcomes[4].id == "q.jsonl:5"


@given(turns=st.lists(st.integers(0, 5), max_size=40), at_once=st.integers(1, 4))
def test_in_order_within_both_bounds_however_long_each_takes(
    turns: list[int], at_once: int
) -> None:
    async def wait(times: int) -> None:
        for _ in range(times):
            await asyncio.sleep(0)

    names = [f"q{number}" for number in range(len(turns))]
    does = {name: (lambda t=t: wait(t)) for name, t in zip(names, turns, strict=True)}
    engine, read = Scripted(**does), list[str]()

    def questions() -> Iterator[Asked]:
        for name in names:
            read.append(name)
            yield Asked(name, name)

    async def check() -> None:
        ids = []
        async for outcome in ask_all(engine, questions(), at_once=at_once):
            ids.append(outcome.id)
            assert len(read) - len(ids) < AHEAD * at_once
        assert ids == names

    asyncio.run(check())
    assert engine.peak <= at_once
    assert sorted(engine.asked) == sorted(names)


async def test_a_slow_first_question_holds_up_neither_the_others_nor_the_memory() -> None:
    gate = asyncio.Event()
    engine, read = Scripted(slow=lambda: waiting(gate)), list[int]()

    def endless() -> Iterator[Asked]:
        yield Asked("0", "slow")
        for number in range(1, 1_000):
            read.append(number)
            yield Asked(str(number), f"q{number}")

    async with aclosing(ask_all(engine, endless(), at_once=2)) as outcomes:
        first = asyncio.ensure_future(anext(outcomes))
        await settled(lambda: len(engine.answered))
        assert len(engine.answered) == len(read) == 2 * AHEAD - 1
        gate.set()
        assert (await first).id == "0"
        assert (await anext(outcomes)).id == "1"


@pytest.mark.parametrize("way", ["cancelled", "closed"])
async def test_stopped_it_keeps_what_is_answered_and_leaves_nothing_running(
    tmp_path: Path, way: str
) -> None:
    engine = Scripted(hangs=lambda: waiting(asyncio.Event()))
    path = tmp_path / "answers.jsonl"
    with closing(AnswerLog(path, ORIGIN)) as log:
        outcomes = ask_all(engine, asked("one hangs two three"), at_once=2, log=log)
        assert (await anext(outcomes)).id == "1"
        if way == "cancelled":
            consumer = asyncio.ensure_future(anext(outcomes))
            await settled(lambda: len(log))
            consumer.cancel()
            with pytest.raises(asyncio.CancelledError):
                await consumer
        else:
            await settled(lambda: len(log))
        await outcomes.aclose()
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert engine.in_flight == 0
    again = Scripted()
    with closing(AnswerLog(path, ORIGIN)) as log:
        assert len(log) == 3  # "two" and "three" were answered and not told
        resumed = await told(again, asked("one hangs two three"), log=log)
    assert texts(resumed) == ["ONE", "HANGS", "TWO", "THREE"]
    assert again.asked == ["hangs"]


async def test_answered_questions_are_not_asked_again_failed_and_degraded_ones_are(
    tmp_path: Path,
) -> None:
    questions = asked("one bad weak two")
    first = Scripted(bad=fails(ModelError("no")), weak=lambda: degraded("weak"))
    with closing(AnswerLog(tmp_path / "a.jsonl", ORIGIN)) as log:
        assert texts(await told(first, questions, log=log)) == ["ONE", "no", "a quotation", "TWO"]
        assert len(log) == 3
    second = Scripted()
    with closing(AnswerLog(tmp_path / "a.jsonl", ORIGIN)) as log:
        outcomes = await told(second, questions, log=log)
    assert sorted(second.asked) == ["bad", "weak"]
    assert texts(outcomes) == ["ONE", "BAD", "WEAK", "TWO"]
    assert [each.known for each in outcomes] == [True, False, False, True]


async def test_a_changed_question_or_origin_is_asked_again(tmp_path: Path) -> None:
    async def run(questions: list[Asked], origin: Origin) -> list[str]:
        engine = Scripted()
        with closing(AnswerLog(tmp_path / "a.jsonl", origin)) as log:
            await told(engine, questions, log=log)
        return engine.asked

    assert await run(asked("one two"), ORIGIN) == ["one", "two"]
    assert await run(asked("one three"), ORIGIN) == ["three"]
    assert await run(asked("one three"), Origin("food", "other", "f00d")) == ["one", "three"]
    assert await run(asked("one three"), Origin("food", "5eed", "other")) == ["one", "three"]
    assert await run(asked("zero one two three"), ORIGIN) == ["zero"]  # other lines, same texts


async def test_while_the_provider_fails_questions_wait_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(batch, "_LOOK_S", 0)
    engine = Scripted()

    def failing() -> bool:
        return len(engine.asked) < 5

    def raise_if_failing() -> None:
        if failing():
            raise ProviderError("it is down")

    engine.does["weak"] = lambda: degraded("weak") if failing() else None
    engine.does["down"] = raise_if_failing
    outcomes = await told(engine, asked("weak down one"), outage=Outage(failing, patience_s=60))
    assert texts(outcomes) == ["WEAK", "DOWN", "ONE"]
    assert engine.asked.count("one") == 1


async def test_an_answer_that_did_without_for_another_reason_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(batch, "_LOOK_S", 0)
    engine = Scripted(weak=lambda: degraded("weak"))
    outcomes = await told(engine, asked("weak"), outage=Outage(lambda: False, patience_s=60))
    assert texts(outcomes) == ["a quotation"]
    assert engine.asked == ["weak"]


async def test_patience_with_a_provider_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "_LOOK_S", 0)
    engine = Scripted(weak=lambda: degraded("weak"), down=fails(ProviderError("it is down")))
    outage = Outage(lambda: True, patience_s=0.02)
    outcomes = await told(engine, asked("weak down"), outage=outage)
    assert texts(outcomes) == ["a quotation", "it is down"]
    assert engine.asked.count("weak") > 1


async def test_no_error_but_the_providers_is_waited_for() -> None:
    engine = Scripted(bad=fails(ModelError("no such model")))
    outcomes = await told(engine, asked("bad"), outage=Outage(lambda: True, patience_s=60))
    assert texts(outcomes) == ["no such model"]


async def test_a_full_disk_stops_the_asking(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    engine = Scripted(hangs=lambda: waiting(asyncio.Event()))
    with closing(AnswerLog(tmp_path / "a.jsonl", ORIGIN)) as log:
        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(SettingsError, match=r"a\.jsonl: No space left on device\. Make room"):
            await told(engine, asked("one hangs two three four five"), at_once=1, log=log)
    assert engine.asked[:1] == ["one"]
    assert "five" not in engine.asked
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_file_that_cannot_be_read_ends_it() -> None:
    def broken() -> Iterator[Asked]:
        yield Asked("1", "one")
        raise SettingsError("unreadable")

    with pytest.raises(SettingsError, match="unreadable"):
        await told(Scripted(), broken())


async def test_at_least_one_at_a_time() -> None:
    with pytest.raises(SettingsError, match="at least 1 question, got 0"):
        await told(Scripted(), asked("one"), at_once=0)


async def test_without_questions_nothing_is_told() -> None:
    assert await told(Scripted(), []) == []
