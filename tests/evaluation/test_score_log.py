"""Scores on disk: what is kept is found, what was cut off is taken away, what counts is named."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rag_lab.errors import SettingsError
from rag_lab.evaluation.score_log import RowLog, sample_digest, score_key, value_of
from rag_lab.evaluation.scores import Sample, Score
from rag_lab.records import Answer, Question, Timing, Usage


class Judged:
    """A measure with a judge."""

    def __init__(self, identity: str) -> None:
        self.name = "faithfulness"
        self.identity = identity

    async def score(self, sample: Sample) -> Score:
        return Score(1.0)


ROW: dict[str, Any] = {"question": "q1", "value": 0.5, "reason": ""}
SAMPLE = Sample(Question("q1", "What is it?"), Answer("What is it?", "A boat.", "extractive"))


async def test_what_was_added_is_found_by_the_next_run(tmp_path: Path) -> None:
    path = tmp_path / "scores.jsonl"
    with closing(RowLog(path)) as log:
        await log.add("a", ROW)
        await log.add("b", {**ROW, "value": None, "reason": "the judge timed out"})
        assert json.loads(path.read_text().splitlines()[0]) == {"key": "a", **ROW}
    with closing(RowLog(path)) as log:
        assert log.find("a") == ROW
        assert log.find("c") is None
        assert len(log) == 2
        assert log.notes == []


async def test_the_newest_line_counts_and_nothing_is_said_twice(tmp_path: Path) -> None:
    path = tmp_path / "scores.jsonl"
    with closing(RowLog(path)) as log:
        await log.add("a", {**ROW, "value": None})
        await log.add("a", ROW)
        await log.add("a", dict(ROW))
    assert len(path.read_text().splitlines()) == 2
    with closing(RowLog(path)) as log:
        assert log.find("a") == ROW


@pytest.mark.parametrize("kept", [1, 5, 30])
async def test_a_line_that_was_cut_off_is_taken_away(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "scores.jsonl"
    with closing(RowLog(path)) as log:
        await log.add("a", ROW)
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:kept])
    with closing(RowLog(path)) as log:
        assert log.find("a") == ROW
        assert log.notes == ["scores.jsonl: line 2 was cut off; taken away"]
        await log.add("b", ROW)
    assert path.read_bytes().startswith(whole)
    assert [json.loads(line)["key"] for line in path.read_text().splitlines()] == ["a", "b"]


async def test_a_first_line_that_was_cut_off_is_taken_away(tmp_path: Path) -> None:
    path = tmp_path / "scores.jsonl"
    path.write_bytes(b'{"ke')
    with closing(RowLog(path)) as log:
        await log.add("a", ROW)
    assert len(path.read_text().splitlines()) == 1


async def test_a_damaged_line_is_passed_over_and_said(tmp_path: Path) -> None:
    path = tmp_path / "scores.jsonl"
    with closing(RowLog(path)) as log:
        await log.add("a", ROW)
    path.write_bytes(path.read_bytes() + b"\0\0\0\n[1]\n")
    with closing(RowLog(path)) as log:
        assert log.find("a") == ROW
        assert [note.partition(": ")[2] for note in log.notes] == [
            "line 2 is no row; passed over",
            "line 3 is no row; passed over",
        ]


@pytest.mark.parametrize("content", ["id,value\n", '{"id": 1}\n', "notes"])
def test_a_file_of_something_else_is_left_alone(tmp_path: Path, content: str) -> None:
    path = tmp_path / "scores.jsonl"
    path.write_text(content)
    with pytest.raises(SettingsError, match="holds something else than scores"):
        RowLog(path)
    assert path.read_text() == content


def test_one_process_holds_it(tmp_path: Path) -> None:
    with (
        closing(RowLog(tmp_path / "scores.jsonl")),
        pytest.raises(SettingsError, match="being written by another evaluation"),
    ):
        RowLog(tmp_path / "scores.jsonl")
    RowLog(tmp_path / "scores.jsonl").close()


async def test_a_lone_surrogate_is_no_obstacle(tmp_path: Path) -> None:
    path = tmp_path / "scores.jsonl"
    with closing(RowLog(path)) as log:
        await log.add("a", {**ROW, "reason": "odd \ud800 text"})
    with closing(RowLog(path)) as log:
        assert log.find("a") is not None
        assert log.notes == []


def test_a_score_depends_on_answer_gold_language_and_asking_but_not_on_cost() -> None:
    assert SAMPLE.answer is not None
    slower = replace(SAMPLE.answer, timing=Timing(9.0), usage=Usage(calls=3))
    assert sample_digest(replace(SAMPLE, answer=slower)) == sample_digest(SAMPLE)
    others = [
        replace(SAMPLE, answer=replace(SAMPLE.answer, text="A ship.")),
        replace(SAMPLE, answer=None, failure="refused"),
        replace(SAMPLE, question=replace(SAMPLE.question, answer="a boat")),
        replace(SAMPLE, language="id"),
        replace(SAMPLE, repeat=1),
    ]
    assert len({sample_digest(sample) for sample in [SAMPLE, *others]}) == 6


def test_another_judge_gives_another_score() -> None:
    digest = sample_digest(SAMPLE)
    assert score_key(digest, Judged("small")) == score_key(digest, Judged("small"))
    assert score_key(digest, Judged("small")) != score_key(digest, Judged("large"))


def test_a_row_without_a_value_has_none() -> None:
    assert value_of(ROW) == 0.5
    assert value_of({"value": 0}) == 0.0
    assert value_of({"value": None, "reason": "the judge timed out"}) is None
