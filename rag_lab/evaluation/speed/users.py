"""`rag-lab bench users`: many people asking, our engine beside LlamaIndex's."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final, Literal

from rag_lab.evaluation.bars import Bar
from rag_lab.evaluation.load import Ask, LoadResult, closed_loop, open_loop
from rag_lab.evaluation.speed.asking import DIMENSIONS, LLAMA_INDEX, OURS, Asking, asking
from rag_lab.evaluation.speed.corpus import made_up_questions
from rag_lab.evaluation.speed.ideal import ideal_calls_s
from rag_lab.evaluation.speed.measure import Measured, Tell, measured
from rag_lab.evaluation.speed.table import Column, Report, Row, Table, figure, ratio
from rag_lab.simulate import SimulatorSettings

Mode = Literal["at-once", "closed", "open"]

UNHEDGED: Final = "ours, no hedging"
_QUESTIONS_A_USER: Final = {"at-once": 1, "closed": 3, "open": 3}
_PROVIDER: Final = SimulatorSettings.of(
    {
        "dimensions": DIMENSIONS,
        "latency": {"base_ms": 200, "spread": "lognormal"},
        "chat_latency": {"base_ms": 200, "spread": "lognormal"},
        "capacity": 512,
        "draw_by": "ordinal",
    }
)
_TIMES_LLAMA_INDEX: Final = 5
_AT_USERS: Final = 1_000
_LAG_AT_USERS: Final = 100
_LAG_P99_MS: Final = 10
_LAG_MAX_MS: Final = 50

COLUMNS: Final = (
    Column("system", "system"),
    Column("users", "users", ",d"),
    Column("per_s", "questions/s", ".1f"),
    Column("success", "success", ".1%"),
    Column("p50_s", "p50 s", ".2f"),
    Column("p95_s", "p95 s", ".2f"),
    Column("p99_s", "p99 s", ".2f"),
    Column("to_ideal", "wall ÷ ideal", ".2f"),
    Column("embedding_calls", "embed calls", ",d"),
    Column("chat_calls", "chat calls", ",d"),
    Column("per_embedding_call", "questions/embed", ".1f"),
    Column("lag_p99_ms", "lag p99 ms", ".0f"),
    Column("lag_max_ms", "max", ".0f"),
    Column("cpu_ms", "CPU ms/question", ".1f"),
    Column("note", "note"),
)
NOTES: Final = (
    "Latencies count from the scheduled moment, over all requests; failed ones with the time they "
    "took to fail. 200 ms an embedding call and 200 ms an answer, lognormal, 512 calls at once. "
    "ideal: one mean embedding call, then all answers on those slots.",
)


async def bench_users(
    *,
    users: Sequence[int] = (1, 10, 100, 300, 1_000),
    mode: Mode = "at-once",
    documents: int = 1_458,
    budget_s: float = 60.0,
    seed: int = 0,
    tell: Tell,
) -> Report:
    """Every engine under every number of users; no question is asked of an engine twice.

    Args:
        users: how many; "open" takes it for questions a second.
        mode: all "at-once"; "closed": each asks again when answered; "open": at random moments.
        budget_s: a system that needs longer is cut off, and that is said.
    """
    rows: list[Row] = []
    async with asking(documents, seed) as place:
        for count in users:
            for name, engine in _engines(place).items():
                tell(f"{count:,} users {mode}: {name}")
                rows.append(await _run(place, name, engine, count, mode, budget_s, seed))
    title = f"embedding and chat, {mode}, {documents:,} documents"
    setup = {"mode": mode, "documents": documents, "budget_s": budget_s, "seed": seed}
    return Report("users", setup, [Table(title, COLUMNS, rows)], NOTES, _bars(rows, mode), rows)


def _engines(place: Asking) -> dict[str, Callable[[], AbstractAsyncContextManager[Ask]]]:
    @asynccontextmanager
    async def unhedged() -> AsyncIterator[Ask]:
        async with place.ours({"hedge": False, "hedge_chat": False}) as ask:
            yield ask

    return {LLAMA_INDEX: place.llama_index, UNHEDGED: unhedged, OURS: place.ours}


async def _run(
    place: Asking,
    name: str,
    engine: Callable[[], AbstractAsyncContextManager[Ask]],
    users: int,
    mode: Mode,
    budget_s: float,
    seed: int,
) -> Row:
    count = users * _QUESTIONS_A_USER[mode]
    questions = made_up_questions(count, seed)
    async with engine() as ask:

        async def work() -> LoadResult:
            if mode == "closed":
                return await closed_loop(
                    ask, questions, users=users, count=count, deadline_s=budget_s
                )
            rate = math.inf if mode == "at-once" else float(users)
            return await open_loop(
                ask, questions, rate_per_s=rate, count=count, seed=seed, deadline_s=budget_s
            )

        settings = _PROVIDER.changed(seed=seed)
        done = await measured(place.provider, settings, work, budget_s=2 * budget_s)
    row = {"system": name, "users": users, **_figures(done, count, budget_s)}
    if mode == "at-once":
        row["to_ideal"] = ratio(row["wall_s"], _ideal_s(count))
    return row


def _figures(done: Measured[LoadResult], count: int, budget_s: float) -> Row:
    embedding_calls = done.stats.by_endpoint.get("embeddings", 0)
    row: Row = {
        "wall_s": done.wall_s,
        "embedding_calls": embedding_calls,
        "chat_calls": done.stats.by_endpoint.get("chat", 0),
        "per_embedding_call": ratio(count, embedding_calls),
        "lag_p99_ms": done.lag.p99_ms,
        "lag_max_ms": done.lag.max_ms,
        "note": done.failure,
    }
    load = done.value
    if load is None:
        return row
    failures = [request.reason for request in load.asked if request.outcome == "failed"]
    if done.wall_s >= budget_s:
        row["note"] = f"cut off at {budget_s:g} s: {len(failures):,} of {count:,} not answered"
    elif failures:
        row["note"] = f"{len(failures):,} failed: {failures[0]}"
    return row | {
        **load.to_dict(),
        "success": load.answered / count,
        "cpu_ms": 1_000 * done.cpu_s / max(1, load.answered),
    }


def _ideal_s(count: int) -> float:
    chat_s = ideal_calls_s(_PROVIDER.chat_latency, count, _PROVIDER.capacity)
    return _PROVIDER.latency.mean_s(1, 0) + chat_s


def _bars(rows: Sequence[Row], mode: Mode) -> list[Bar]:
    if mode != "at-once":
        return []
    found: dict[tuple[str, int], Row] = {(row["system"], row["users"]): row for row in rows}

    def value(system: str, users: int, field: str) -> Any:
        return found[system, users].get(field)

    bars = []
    if (OURS, _AT_USERS) in found:
        times = ratio(value(OURS, _AT_USERS, "per_s"), value(LLAMA_INDEX, _AT_USERS, "per_s"))
        what = f"{_AT_USERS:,} users: questions/s, times LlamaIndex's"
        bars.append(Bar(what, figure(times), _TIMES_LLAMA_INDEX, ">="))
        success = figure(value(OURS, _AT_USERS, "success"))
        bars.append(Bar(f"{_AT_USERS:,} users: answered", success, 1, ">="))
    if (OURS, _LAG_AT_USERS) in found:
        for what, field, bound in (
            ("p99", "lag_p99_ms", _LAG_P99_MS),
            ("max", "lag_max_ms", _LAG_MAX_MS),
        ):
            lag_ms = figure(value(OURS, _LAG_AT_USERS, field))
            bars.append(Bar(f"{_LAG_AT_USERS} users: loop lag {what}, ms", lag_ms, bound, "<="))
    return bars
