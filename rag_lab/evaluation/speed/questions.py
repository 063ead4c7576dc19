"""`rag-lab bench questions` and `bench parts`: many questions, and how to ask them together."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from rag_lab.evaluation.bars import Bar
from rag_lab.evaluation.load import Ask, LoadResult, closed_loop, open_loop
from rag_lab.evaluation.speed.asking import DIMENSIONS, LLAMA_INDEX, OURS, Asking, asking
from rag_lab.evaluation.speed.corpus import made_up_questions
from rag_lab.evaluation.speed.measure import Tell, measured
from rag_lab.evaluation.speed.table import Column, Report, Row, Table, figure, median, ratio
from rag_lab.records import Answer
from rag_lab.simulate import SimulatorSettings

Way = Callable[[Ask, Sequence[str]], Awaitable[LoadResult]]

PARTS: Final = 3
_BUDGET_S: Final = 120.0
_PROVIDER: Final[dict[str, Any]] = {
    "dimensions": DIMENSIONS,
    "latency": {"base_ms": 100, "spread": "lognormal"},
    "chat_latency": {"base_ms": 100, "spread": "lognormal"},
    "capacity": 512,
}
_MOST_TO_SLOWEST: Final = {10: 1.2, PARTS: 1.15}
"""Promised by how many are asked at once."""

COLUMNS: Final = (
    Column("system", "system"),
    Column("wall_s", "wall s", ".2f"),
    Column("slowest_s", "slowest alone s", ".2f"),
    Column("to_slowest", "÷ slowest", ".2f"),
    Column("embedding_calls", "embedding calls", ",.0f"),
    Column("chat_calls", "chat calls", ",.0f"),
    Column("answered", "answered", ",.0f"),
    Column("failure", "failed"),
)
NOTES: Final = (
    "slowest alone: of the same questions asked of the same engine one by one. Answers have the "
    "same luck then; embedding calls that questions share have their own, so a ratio can be below "
    "1. 100 ms an embedding call and 100 ms an answer, lognormal.",
)


@dataclass(frozen=True, slots=True)
class System:
    """An engine and a way of asking it many questions."""

    name: str
    engine: str
    way: Way


async def one_after_another(ask: Ask, questions: Sequence[str]) -> LoadResult:
    """Each when the one before is answered."""
    return await _users(1, ask, questions)


async def semaphore_5(ask: Ask, questions: Sequence[str]) -> LoadResult:
    """Five at a time."""
    return await _users(5, ask, questions)


async def all_at_once(ask: Ask, questions: Sequence[str]) -> LoadResult:
    """All together."""
    count = len(questions)
    return await open_loop(ask, questions, rate_per_s=math.inf, count=count, deadline_s=_BUDGET_S)


async def as_one_question(ask: Ask, questions: Sequence[str]) -> LoadResult:
    """As one question, which the engine takes apart and answers in parts."""

    async def asked(whole: str, scheduled_at: float) -> Answer:
        answer: Answer = await ask(whole, scheduled_at)
        if len(answer.parts) != len(questions):
            raise ValueError(f"{len(questions)} parts were asked, {len(answer.parts)} were found")
        return answer

    return await _users(1, asked, [" ".join(questions)])


async def _users(users: int, ask: Ask, questions: Sequence[str]) -> LoadResult:
    count = len(questions)
    return await closed_loop(ask, questions, users=users, count=count, deadline_s=_BUDGET_S)


_IN_PARTS: Final = "ours, one question in parts"

BATCHES: Final = (
    System("LlamaIndex, one after another", LLAMA_INDEX, one_after_another),
    System("LlamaIndex, Semaphore(5)", LLAMA_INDEX, semaphore_5),
    System("LlamaIndex, gathered", LLAMA_INDEX, all_at_once),
    System("ours, gathered", OURS, all_at_once),
)
IN_PARTS: Final = (
    System("LlamaIndex, one after another", LLAMA_INDEX, one_after_another),
    System("LlamaIndex, gathered", LLAMA_INDEX, all_at_once),
    System("ours, one after another", OURS, one_after_another),
    System("ours, at once", OURS, all_at_once),
    System(_IN_PARTS, OURS, as_one_question),
)


async def bench_questions(
    *, counts: Sequence[int] = (10, 100), documents: int = 1_458, seed: int = 0, tell: Tell
) -> Report:
    """So many questions in every way of asking them."""
    async with asking(documents, seed) as place:
        tables, runs = [], []
        for count in counts:
            rows = await _race(place, BATCHES, count, seed, f"{count} questions", tell)
            runs += rows
            tables.append(Table(f"{count} questions", COLUMNS, rows))
    bars = _bars(runs, "ours, gathered")
    return Report("questions", {"documents": documents, "seed": seed}, tables, NOTES, bars, runs)


async def bench_parts(
    *, documents: int = 1_458, repeats: int = 5, seed: int = 0, tell: Tell
) -> Report:
    """A question of three parts, asked as three questions; other parts in every repeat."""
    runs: list[Row] = []
    async with asking(documents, seed) as place:
        for repeat in range(repeats):
            what = f"{PARTS} parts (run {repeat + 1})"
            runs += await _race(place, IN_PARTS, PARTS, seed + repeat, what, tell)
    rows = [_medians([run for run in runs if run["system"] == s.name]) for s in IN_PARTS]
    title = f"one question in {PARTS} parts, each asked by itself; median of {repeats}"
    setup = {"documents": documents, "repeats": repeats, "seed": seed}
    table = Table(title, COLUMNS, rows)
    return Report(
        "parts",
        setup,
        [table],
        NOTES,
        [bar for system in ("ours, at once", _IN_PARTS) for bar in _bars(rows, system)],
        runs,
    )


async def _race(
    place: Asking, systems: Sequence[System], count: int, seed: int, what: str, tell: Tell
) -> list[Row]:
    """Every system on the same questions, and each engine asked them one by one."""
    questions = made_up_questions(count, seed)
    provider = SimulatorSettings.of({**_PROVIDER, "seed": seed})
    engines = dict.fromkeys(system.engine for system in systems)
    alone = [System(f"{engine}, each alone", engine, one_after_another) for engine in engines]
    done: dict[tuple[str, Way], Row] = {}
    for system in (*alone, *systems):
        if (system.engine, system.way) not in done:
            tell(f"{what}: {system.name}")
            done[system.engine, system.way] = await _run(place, system, questions, provider)
    rows = []
    for system in systems:
        row = done[system.engine, system.way]
        slowest_s = done[system.engine, one_after_another]["slowest_answer_s"]
        to_slowest = ratio(row["wall_s"], slowest_s)
        told = {"system": system.name, "count": count, "slowest_s": slowest_s}
        rows.append({**row, **told, "to_slowest": to_slowest})
    return rows


async def _run(
    place: Asking, system: System, questions: Sequence[str], provider: SimulatorSettings
) -> Row:
    async with place.engine(system.engine) as ask:

        async def work() -> LoadResult:
            return await system.way(ask, questions)

        done = await measured(place.provider, provider, work, budget_s=2 * _BUDGET_S)
    load = done.value or LoadResult((), len(questions), 0.0)
    failures = [request.reason for request in load.asked if request.outcome == "failed"]
    whole = load.answered == load.planned
    return {
        "wall_s": done.wall_s if whole else None,
        "slowest_answer_s": load.latency_s(1.0) if whole else None,
        "embedding_calls": done.stats.by_endpoint.get("embeddings", 0),
        "chat_calls": done.stats.by_endpoint.get("chat", 0),
        "answered": load.answered,
        "failure": done.failure or (f"{len(failures)}: {failures[0]}" if failures else ""),
    }


def _medians(runs: Sequence[Row]) -> Row:
    fields = ("wall_s", "slowest_s", "to_slowest", "embedding_calls", "chat_calls", "answered")
    return {
        "system": runs[0]["system"],
        "count": runs[0]["count"],
        **{field: median(run[field] for run in runs) for field in fields},
        "failure": next((run["failure"] for run in runs if run["failure"]), ""),
    }


def _bars(rows: Sequence[Row], system: str) -> list[Bar]:
    return [
        Bar(
            f"{system}, {row['count']}: wall ÷ slowest alone",
            figure(row["to_slowest"]),
            _MOST_TO_SLOWEST[row["count"]],
            "<=",
        )
        for row in rows
        if row["system"] == system and row["count"] in _MOST_TO_SLOWEST
    ]
