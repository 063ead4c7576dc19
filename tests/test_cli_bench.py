"""The speed benches on the command line: options, data, exit statuses."""

from __future__ import annotations

from typing import Any

import pytest

from command import Run
from rag_lab.evaluation.bars import Bar
from rag_lab.evaluation.speed import goodput, ingest, limiter, outage, questions, users
from rag_lab.evaluation.speed.table import Column, Report, Table

BENCHES = {
    "ingest": (ingest, "bench_ingest"),
    "questions": (questions, "bench_questions"),
    "parts": (questions, "bench_parts"),
    "users": (users, "bench_users"),
    "outage": (outage, "bench_outage"),
    "goodput": (goodput, "bench_goodput"),
    "limiter": (limiter, "bench_limiter"),
}


class Fake:
    """Stands in for a bench: notes what it was asked, and has one bar."""

    def __init__(self, holds: bool) -> None:
        self._holds = holds
        self.options: dict[str, Any] = {}

    async def __call__(self, **options: Any) -> Report:
        self.options = options
        options["tell"]("measuring")
        table = Table("a table", (Column("system", "system"),), [{"system": "ours"}])
        bars = [Bar("fast", 1.0 if self._holds else 9.0, 2.0, "<=")]
        return Report("fake", {}, [table], ["a note"], bars)


@pytest.fixture(params=BENCHES)
def bench(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def faked(bench: str, monkeypatch: pytest.MonkeyPatch, *, holds: bool = True) -> Fake:
    fake = Fake(holds)
    monkeypatch.setattr(*BENCHES[bench], fake)
    return fake


def test_every_bench_has_help(bench: str, run: Run) -> None:
    told = run("bench", bench, "--help")
    assert told.status == 0
    assert f"bench {bench} [OPTIONS]" in told.out


def test_a_table_for_people_and_progress_beside_it(
    bench: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    faked(bench, monkeypatch)
    told = run("bench", bench)
    assert told.status == 0
    assert "a table" in told.out
    assert "holds" in told.out
    assert told.err == "measuring\n"


def test_data_for_programs(bench: str, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    faked(bench, monkeypatch)
    told = run("bench", bench, "--json")
    assert told.data["tables"] == [{"title": "a table", "rows": [{"system": "ours"}]}]
    assert told.data["bars"][0]["holds"]


def test_a_missed_bar_is_status_one_if_asked(
    bench: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    faked(bench, monkeypatch, holds=False)
    assert run("bench", bench).status == 0
    told = run("bench", bench, "--check")
    assert told.status == 1
    assert "MISSED" in told.out
    faked(bench, monkeypatch)
    assert run("bench", bench, "--check").status == 0


def test_options_reach_the_bench(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = faked("ingest", monkeypatch)
    run("bench", "ingest", "--scenario", "stall", "--only", "ours", "--repeats", "1", "--seed", "7")
    assert (fake.options["scenarios"], fake.options["only"]) == (["stall"], ["ours"])
    assert (fake.options["repeats"], fake.options["seed"]) == (1, 7)
    assert (fake.options["documents"], fake.options["capacity"]) == (1_458, 16)
    fake = faked("users", monkeypatch)
    run("bench", "users", "--users", "5", "--users", "50", "--mode", "open")
    assert (fake.options["users"], fake.options["mode"]) == ([5, 50], "open")
    fake = faked("questions", monkeypatch)
    run("bench", "questions")
    assert fake.options["counts"] == [10, 100]


def test_what_does_not_exist_is_one_line(run: Run) -> None:
    told = run("bench", "ingest", "--scenario", "sunny")
    assert (told.status, told.err.splitlines()[0]) == (
        1,
        "error: there is no scenario 'sunny'; there are plain, limits, poison, stall, outage, "
        "bad-day, each-fault, capacity-drop, capacity-4-reject, slow, all.",
    )
    assert run("bench", "users", "--mode", "sideways").status == 2
