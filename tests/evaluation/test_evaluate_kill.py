"""Killed with SIGKILL at any point and called again: the same table, and no call twice."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

QUESTIONS, AT_ONCE, MEASURES, KILLS = 24, 4, 2, 6
EVENTS = 2 * (2 * QUESTIONS + 2 * QUESTIONS * MEASURES)
"""Begin and end of each answer and each score of two systems, in a run that is left alone."""

DRIVER = f"""
import asyncio, json, os, signal, sys
from pathlib import Path
import rag_lab.evaluation.evaluate as passes
from rag_lab.corpora.base import in_memory
from rag_lab.evaluation.scores import Score
from rag_lab.records import Answer, Question

QUESTIONS = [Question(f"q{{n}}", f"What is boat {{n}}?", "kind") for n in range({QUESTIONS})]

class Calls:
    def __init__(self, path, kill_at):
        self.file, self.events, self.kill_at = open(path, "a"), 0, kill_at

    def event(self):
        self.events += 1
        if self.events == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    async def made(self, *call):
        self.file.write(json.dumps(call) + "\\n")
        self.file.flush()
        self.event()
        await asyncio.sleep(0.0005)
        self.event()

class Engine:
    retriever = answerer = decomposer = None

    def __init__(self, name, calls):
        self.name, self.calls = name, calls

    async def ask(self, question):
        await self.calls.made("answer", self.name, question)
        return Answer(question, f"{{self.name}} says: {{question}}", "generated")

class Measure:
    def __init__(self, name, calls):
        self.name, self.calls = name, calls

    async def score(self, sample):
        await self.calls.made("score", sample.answer.text, self.name)
        return Score(len(sample.answer.text) % 7 / 7)

async def work(out, calls):
    systems = {{name: Engine(name, calls) for name in ("a", "bb")}}
    measures = [Measure(name, calls) for name in ("m", "n")]
    corpus = in_memory("boats", [], questions=QUESTIONS)
    found = await passes.evaluate(systems, corpus, measures, out=Path(out), at_once={AT_ONCE})
    print("done", found.frame().to_json(), flush=True)

for line in sys.stdin:  # imported once; each evaluation is a process of its own
    out, log, kill_at = json.loads(line)
    child = os.fork()
    if not child:
        asyncio.run(work(out, Calls(log, kill_at)))
        os._exit(0)
    os.waitpid(child, 0)
    print("over", flush=True)
"""


class Driver:
    """Runs evaluations one after the other, each in a process that kills itself."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process = subprocess.Popen(
            [sys.executable, "-c", DRIVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(self, out: Path, kill_at: int = 0) -> tuple[str, Counter[str]]:
        """The table, empty if it was killed, and how often each call was made."""
        log = self._folder / "calls.jsonl"
        log.write_text("")
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([str(out), str(log), kill_at]) + "\n")
        self._process.stdin.flush()
        said = ""
        for line in map(str.strip, self._process.stdout):
            if line == "over":
                return said, Counter(log.read_text().splitlines())
            said = line.removeprefix("done ")
        raise AssertionError("the driver ended")

    def close(self) -> None:
        """Ends the driver."""
        self._process.communicate(timeout=30)


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[Driver]:
    driver = Driver(tmp_path)
    yield driver
    driver.close()


def whole_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The whole lines of a log."""
    for line in path.read_bytes().split(b"\n")[:-1] if path.exists() else ():
        yield json.loads(line)


def kept(out: Path) -> set[str]:
    """The calls whose outcome is on disk, as the driver writes them."""
    found = set()
    for system in ("a", "bb"):
        answers = {row["id"]: row for row in whole_rows(out / system / "answers.jsonl")}
        found |= {json.dumps(["answer", system, row["question"]]) for row in answers.values()}
        found |= {
            json.dumps(["score", answers[row["question"]]["text"], row["measure"]])
            for row in whole_rows(out / system / "scores.jsonl")
        }
    return found


def test_killed_again_and_again(tmp_path: Path, driver: Driver) -> None:
    chance = random.Random(20241105)
    undisturbed, once = driver.run(tmp_path / "undisturbed")
    assert len(once) == EVENTS // 2
    assert set(once.values()) == {1}

    out, calls, kills, killed_while = tmp_path / "killed", Counter[str](), 0, set()
    while kills < KILLS:
        left = 2 * (EVENTS // 2 - len(kept(out)))
        before = kept(out)
        table, made = driver.run(out, chance.randint(1, max(2, left // (KILLS - kills))))
        assert table == "", "not killed"
        assert not before & set(made), "called again for what was on disk"
        assert set(made.values()) == {1}
        killed_while.add("score" if any('"score"' in call for call in made) else "answer")
        calls += made
        kills += 1
    before = kept(out)
    table, made = driver.run(out)
    assert not before & set(made)
    assert set(made) == set(once) - before
    assert table == undisturbed
    # Under way, or answered and not yet on disk, when it was killed.
    assert (calls + made - once).total() <= kills * 2 * AT_ONCE * MEASURES
    assert killed_while == {"answer", "score"}
    assert driver.run(out) == (undisturbed, Counter())


def test_killed_while_a_line_is_written(tmp_path: Path, driver: Driver) -> None:
    undisturbed, _ = driver.run(tmp_path)
    for name in ("answers.jsonl", "scores.jsonl"):
        path = tmp_path / "a" / name
        path.write_bytes(path.read_bytes()[:-20])
        table, made = driver.run(tmp_path)
        assert table == undisturbed
        assert made.total() == 1
