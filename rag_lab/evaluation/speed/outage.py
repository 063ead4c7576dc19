"""`rag-lab bench outage`: what a question costs while the provider of both models is down."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rag_lab.evaluation.bars import Bar
from rag_lab.evaluation.load import LoadResult, closed_loop
from rag_lab.evaluation.speed.asking import DIMENSIONS, LLAMA_INDEX, OURS, Asking, asking
from rag_lab.evaluation.speed.corpus import made_up_questions
from rag_lab.evaluation.speed.measure import Tell, measured
from rag_lab.evaluation.speed.table import Column, Report, Row, Table, figure
from rag_lab.simulate import Fault, SimulatorSettings

_QUESTIONS: Final = 20
_BEFORE: Final = 12
"""Questions asked until the breakers are open: ten failures over two seconds."""
_BUDGET_S: Final = 60.0
_SLOWEST_S: Final = 1.0
_OUTAGES: Final = {
    "503": Fault(kind="status", status=503),
    "refused": Fault(kind="refuse"),
}

COLUMNS: Final = (
    Column("system", "system"),
    Column("outage", "outage"),
    Column("answered", "answered", ",d"),
    Column("degraded", "marked degraded", ",d"),
    Column("slowest_s", "slowest s", ".3f"),
    Column("median_s", "median s", ".3f"),
    Column("calls", "calls", ",d"),
    Column("failure", "failed"),
)
NOTES: Final = (
    f"{_QUESTIONS} questions one after another, after {_BEFORE} that are not counted: by then the "
    "breakers are open. answered: from keywords and quoted passages, if marked degraded.",
)


async def bench_outage(
    *,
    documents: int = 1_458,
    systems: Sequence[str] = (LLAMA_INDEX, OURS),
    seed: int = 0,
    tell: Tell,
) -> Report:
    """Questions during an outage of everything, ours and LlamaIndex's engine."""
    rows: list[Row] = []
    async with asking(documents, seed) as place:
        for outage, fault in _OUTAGES.items():
            for engine in systems:
                tell(f"outage ({outage}): {engine}")
                rows.append(await _run(place, engine, outage, fault, seed))
    bars = []
    for row in rows:
        if row["system"] == OURS:
            what = f"{row['outage']}: slowest question with the breakers open, s"
            bars.append(Bar(what, figure(row["slowest_s"]), _SLOWEST_S, "<="))
            marked = f"{row['outage']}: answered and marked degraded"
            bars.append(Bar(marked, figure(row["degraded"]), _QUESTIONS, ">="))
    table = Table("everything fails", COLUMNS, rows)
    return Report("outage", {"documents": documents, "seed": seed}, [table], NOTES, bars, rows)


async def _run(place: Asking, engine: str, outage: str, fault: Fault, seed: int) -> Row:
    provider = SimulatorSettings(dimensions=DIMENSIONS, faults=(fault,))
    questions = made_up_questions(_BEFORE + _QUESTIONS, seed)
    async with place.engine(engine) as ask:

        async def work() -> tuple[LoadResult, int]:
            await closed_loop(ask, questions[:_BEFORE], users=_BEFORE, count=_BEFORE)
            before = await place.provider.stats()
            asked = questions[_BEFORE:]
            return await closed_loop(ask, asked, users=1, count=_QUESTIONS), before.calls

        done = await measured(place.provider, provider, work, budget_s=_BUDGET_S)
    load, before = done.value or (LoadResult((), _QUESTIONS, 0.0), 0)
    failures = [request.reason for request in load.asked if request.outcome == "failed"]
    return {
        "system": engine,
        "outage": outage,
        "answered": load.answered,
        "degraded": load.degraded,
        "slowest_s": load.latency_s(1.0) if load.answered else None,
        "median_s": load.latency_s(0.5) if load.answered else None,
        "calls": done.stats.calls - before,
        "failure": done.failure or (f"{len(failures)}: {failures[0]}" if failures else ""),
    }
