"""Evaluating on the command line: table, data, exit status, and what it says of mistakes."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path

import pytest

from command import Run
from provider import Provider
from rag_lab.asking import LabQueryEngine
from rag_lab.errors import ModelError
from rag_lab.records import Answer

ROWS = {
    "anchor": "The anchor is made of iron.",
    "lantern": "The lantern burns oil.",
    "sail": "The sail is woven from flax.",
}
QUESTIONS = [
    {"id": "q1", "text": "What is the anchor made of?", "relevant_ids": ["anchor"],
     "answer_contains": ["iron"]},
    {"id": "q2", "text": "What does the lantern burn?", "relevant_ids": ["lantern"],
     "answer_contains": ["oil"]},
    {"id": "q3", "text": "What is the sail woven from?", "kind": "cloth", "relevant_ids": ["sail"],
     "answer_contains": ["silk"]},
]  # fmt: skip


@pytest.fixture
def ships(run: Run, tmp_path: Path) -> str:
    """A corpus with three questions; the expected answer to the last one is wrong."""
    file = tmp_path / "ships.jsonl"
    rows = [{"id": key, "title": key.title(), "text": text} for key, text in ROWS.items()]
    file.write_text("\n".join(map(json.dumps, rows)), "utf-8")
    asked = tmp_path / "questions.jsonl"
    asked.write_text("\n".join(map(json.dumps, QUESTIONS)), "utf-8")
    assert run("data", "add", "ships", file, "--questions", asked).status == 0
    return "ships"


CONTAINS = ("--measure", "answer_contains")


def test_a_table_for_people(run: Run, ships: str) -> None:
    told = run("evaluate", ships, *CONTAINS, "--measure", "RR@10", "--baseline", "keyword")
    assert told.status == 0
    assert "answer_contains" in told.out
    assert "baseline" in told.out
    assert "3 of 3" in told.out
    assert "cloth" in told.out
    assert "answers and scores: evaluations/ships" in told.err
    assert Path("evaluations/ships/hybrid/scores.jsonl").exists()


def test_data_for_programs(run: Run, ships: str, tmp_path: Path) -> None:
    told = run(
        "evaluate", ships, *CONTAINS, "--system", "keyword", "--system", "hybrid+parts",
        "--baseline", "keyword", "--out", tmp_path / "out", "--json",
    )  # fmt: skip
    assert told.status == 0
    assert (told.data["questions"], told.data["complete"], told.data["missed"]) == (3, True, [])
    assert [*told.data["systems"]] == ["keyword", "hybrid+parts"]
    found = told.data["systems"]["hybrid+parts"]["measures"]["answer_contains"]
    assert found["value"] == pytest.approx(2 / 3)
    assert found["difference"]["mean"] == 0
    assert found["kinds"]["cloth"]["value"] == 0


def test_a_second_run_asks_nothing(run: Run, ships: str, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run("evaluate", ships, *CONTAINS, "--json").data

    async def never(*_: object) -> Answer:
        raise AssertionError("asked again")

    monkeypatch.setattr(LabQueryEngine, "ask", never)
    assert run("evaluate", ships, *CONTAINS, "--json").data == first
    again = run("evaluate", ships, *CONTAINS, "--measure", "completeness", "--json")
    assert again.status == 0


def test_a_limit_draws_the_same_questions_every_time(run: Run, ships: str) -> None:
    few, more = (
        run("evaluate", ships, *CONTAINS, "--system", "keyword", "--limit", n, "--json").data
        for n in (1, 2)
    )
    assert (few["questions"], more["questions"]) == (1, 2)
    rows = Path("evaluations/ships/keyword/answers.jsonl").read_text("utf-8").splitlines()
    assert len(rows) == 2, "the question of the first run is one of the second's"


@pytest.mark.parametrize(
    ("bar", "status"), [("answer_contains=0.6", 0), ("answer_contains=0.7", 3)]
)
def test_a_build_can_be_stopped_by_a_mean(run: Run, ships: str, bar: str, status: int) -> None:
    told = run("evaluate", ships, *CONTAINS, "--system", "keyword", "--fail-below", bar)
    assert told.status == status
    assert ("worse than 0.7: answer_contains of keyword is 0.6667" in told.err) == (status == 3)


def test_where_lower_is_better_higher_is_worse(run: Run, ships: str) -> None:
    measure = ("--measure", "wrong_refusal", "--system", "keyword")
    assert run("evaluate", ships, *measure, "--fail-below", "wrong_refusal=0.5").status == 0


def test_the_baseline_is_not_held_to_the_bar(run: Run, ships: str) -> None:
    told = run(
        "evaluate", ships, *CONTAINS, "--baseline", "keyword", "--json",
        "--fail-below", "answer_contains=0.9",
    )  # fmt: skip
    assert told.status == 3
    assert {row["system"] for row in told.data["missed"]} == {"hybrid"}


def test_what_failed_is_status_2_and_how_to_go_on_is_said(
    run: Run, ships: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = LabQueryEngine.ask

    async def ask(engine: LabQueryEngine, question: str) -> Answer:
        if "anchor" in question:
            raise ModelError("the model refused")
        return await whole(engine, question)

    monkeypatch.setattr(LabQueryEngine, "ask", ask)
    told = run("evaluate", ships, *CONTAINS, "--system", "keyword")
    assert told.status == 2
    assert "0.500 (0.333 to 0.667)" in told.out
    assert "the model refused" in told.out
    assert "the same command tries again what failed" in told.err
    monkeypatch.setattr(LabQueryEngine, "ask", whole)
    assert run("evaluate", ships, *CONTAINS, "--system", "keyword").status == 0


def test_ctrl_c_says_how_to_go_on(run: Run, ships: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, asked = LabQueryEngine.ask, Counter[str]()

    async def ask(engine: LabQueryEngine, question: str) -> Answer:
        asked[question] += 1
        if asked.total() == 3:
            await asyncio.sleep(0.2)  # the first two are on disk by then
            raise KeyboardInterrupt
        return await whole(engine, question)

    monkeypatch.setattr(LabQueryEngine, "ask", ask)
    told = run("evaluate", ships, *CONTAINS, "--system", "keyword")
    assert told.status == 130
    assert "stopped; answers and scores are kept in evaluations/ships" in told.err
    assert run("evaluate", ships, *CONTAINS, "--system", "keyword").status == 0
    assert asked[str(QUESTIONS[2]["text"])] == 2
    assert asked.total() == 4


def test_a_judge_is_asked_once_for_each_score(
    run: Run, ships: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Provider(answer='{"statements": []}') as provider:
        monkeypatch.setenv("RAG_LAB_LLM_BASE_URL", provider.base_url)
        arguments = ("evaluate", ships, "--measure", "faithfulness", "--system", "keyword")
        first = run(*arguments, "--judge", "small", "--limit", 1, "--json")
        calls = provider.calls
        assert calls > 0
        assert {asked.body["model"] for asked in provider.asked} == {"small"}
        again = run(*arguments, "--judge", "small", "--limit", 1, "--json")
        assert provider.calls == calls
        assert again.status == first.status
        run(*arguments, "--judge", "large", "--limit", 1, "--json")
        assert provider.calls > calls
        answers = Path("evaluations/ships/keyword/answers.jsonl").read_text("utf-8").splitlines()
        assert len(answers) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--system", "hybird"), "Did you mean 'hybrid'?"),
        (("--system", "keyword", "--system", "keyword"), "'keyword' is given twice"),
        (("--measure", "ndgc@10"), "did you mean 'nDCG@10'?"),
        (("--measure", "faithfullness"), "did you mean 'faithfulness'?"),
        (("--measure", "bleu_score"), "chrf_score"),
        (("--measure", "faithfulness"), "judge"),
    ],
)
def test_a_mistake_is_one_line(run: Run, ships: str, arguments: tuple[str, ...], said: str) -> None:
    told = run("evaluate", ships, *arguments)
    assert told.status == 1
    assert said in told.err
    assert not Path("evaluations").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("--baseline", "dense"),
        ("--fail-below", "answer_contains"),
        ("--fail-below", "nDCG@10=high"),
        ("--fail-below", "AP=0.5"),
    ],
)
def test_an_option_that_cannot_be_is_a_usage_error(
    run: Run, ships: str, arguments: tuple[str, ...]
) -> None:
    assert run("evaluate", ships, *arguments).status == 2
    assert not Path("evaluations").exists()
