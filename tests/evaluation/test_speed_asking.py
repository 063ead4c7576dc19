"""The benches that ask questions, from end to end on a small corpus; no speed is asserted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from rag_lab.evaluation.load import Ask
from rag_lab.evaluation.speed import users
from rag_lab.evaluation.speed.asking import LLAMA_INDEX, OURS, Asking
from rag_lab.evaluation.speed.questions import bench_parts, bench_questions
from rag_lab.evaluation.speed.users import UNHEDGED, Mode, bench_users

DOCUMENTS = 60


def quiet(line: str) -> None:
    """Progress is not what is tested here."""


async def test_every_way_of_asking_answers_every_question() -> None:
    report = await bench_questions(counts=[10], documents=DOCUMENTS, tell=quiet)
    found: dict[str, dict[str, Any]] = {row["system"]: row for row in report.tables[0].rows}
    assert len(found) == 4
    for name, row in found.items():
        assert (row["answered"], row["chat_calls"], row["failure"]) == (10, 10, ""), name
        assert row["slowest_s"] > 0, name
    assert found["LlamaIndex, gathered"]["embedding_calls"] == 10
    assert found["ours, gathered"]["embedding_calls"] < 10
    assert found["LlamaIndex, one after another"]["to_slowest"] > 2
    assert [bar.what for bar in report.bars] == ["ours, gathered, 10: wall ÷ slowest alone"]


async def test_parts_are_other_ones_in_every_repeat() -> None:
    told: list[str] = []
    report = await bench_parts(documents=DOCUMENTS, repeats=2, tell=told.append)
    assert {row["system"] for row in report.tables[0].rows} >= {"ours, at once"}
    assert len(report.runs) == 10
    in_parts = [run for run in report.runs if run["system"] == "ours, one question in parts"]
    assert [(run["answered"], run["failure"]) for run in in_parts] == [(1, ""), (1, "")]
    assert all(run["answered"] == 3 for run in report.runs if run not in in_parts)
    assert len({run["slowest_s"] for run in report.runs}) == 4  # two engines, two repeats
    assert any("run 2" in line for line in told)


async def test_users_at_once() -> None:
    report = await bench_users(users=[1, 8], documents=DOCUMENTS, tell=quiet)
    rows = {(row["system"], row["users"]): row for row in report.tables[0].rows}
    assert len(rows) == 6
    for row in rows.values():
        assert (row["success"], row["failed"], row["note"]) == (1.0, 0, "")
        assert 0 < row["p50_s"] <= row["p95_s"] <= row["p99_s"]
        assert row["to_ideal"] > 0
        assert row["chat_calls"] >= row["users"]
    assert rows[LLAMA_INDEX, 8]["embedding_calls"] == 8
    assert rows[OURS, 8]["embedding_calls"] < 8
    assert rows[UNHEDGED, 8]["chat_calls"] == 8
    assert not report.bars


@pytest.mark.parametrize("mode", ["closed", "open"])
async def test_users_who_ask_again_and_users_who_come_at_random(
    mode: Mode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(users, "_engines", lambda place: {OURS: place.ours})
    report = await bench_users(users=[3], mode=mode, documents=DOCUMENTS, tell=quiet)
    (row,) = report.tables[0].rows
    assert (row["attempted"], row["answered"]) == (9, 9)
    assert "to_ideal" not in row


async def test_a_system_that_is_too_slow_is_cut_off_and_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    @asynccontextmanager
    async def slow(place: Asking) -> AsyncIterator[Ask]:
        yield lambda question, at: asyncio.Event().wait()

    monkeypatch.setattr(users, "_engines", lambda place: {"slow": lambda: slow(place)})
    report = await bench_users(users=[4], documents=DOCUMENTS, budget_s=0.2, tell=quiet)
    (row,) = report.tables[0].rows
    assert row["note"] == "cut off at 0.2 s: 4 of 4 not answered"
    assert (row["success"], row["per_s"]) == (0.0, 0.0)
