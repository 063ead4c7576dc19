"""One run of one system against a provider that was just reset: wall, CPU, loop lag, calls."""

from __future__ import annotations

import asyncio
import gc
import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

from rag_lab.simulate import SimulatedProvider, SimulatorSettings, Stats
from rag_lab.sync import STOCK_THRESHOLD
from rag_lab.telemetry.loop_lag import LoopLag, LoopLagMonitor

T = TypeVar("T")

Tell = Callable[[str], None]
"""Called with a line on what is being measured now."""

_SETTLE_S = 0.02
_SETTLES = 50
_REASON_CHARS = 60


@dataclass(frozen=True, slots=True)
class Measured(Generic[T]):
    """What came of a run.

    Attributes:
        value: what the work returned; None if it failed.
        failure: why it failed; empty if it did not.
        cpu_s: CPU seconds of this process, all threads.
    """

    value: T | None
    failure: str
    wall_s: float
    cpu_s: float
    lag: LoopLag
    stats: Stats


async def measured(
    provider: SimulatedProvider,
    settings: SimulatorSettings,
    work: Callable[[], Awaitable[T]],
    *,
    budget_s: float,
) -> Measured[T]:
    """Runs work against the provider as those settings make it; a failure is a result too.

    Tasks that the work leaves behind are cancelled, so that they do not burden the next run.
    """
    await provider.reset(settings)
    gc.collect()
    gc.freeze()  # what earlier systems left does not slow down this one's collections
    logging.disable(logging.WARNING)  # LlamaIndex tells of every retry; the counts do too
    before = asyncio.all_tasks()
    value, failure = None, ""
    async with LoopLagMonitor() as monitor:
        cpu_s, began = time.process_time(), time.perf_counter()
        try:
            async with asyncio.timeout(budget_s):
                value = await work()
        except Exception as error:  # of any client: the row says so and the bench goes on
            failure = why(error, budget_s)
        wall_s = time.perf_counter() - began
        cpu_s = time.process_time() - cpu_s
    gc.unfreeze()
    await _cancel_what_is_left(before)
    logging.disable(logging.NOTSET)
    return Measured(value, failure, wall_s, cpu_s, monitor.report(), await _settled(provider))


@contextmanager
def stock_garbage_collection() -> Iterator[None]:
    """What others write runs as it would in a process of its own, where rag-lab tunes nothing."""
    tuned = gc.get_threshold()
    gc.set_threshold(*STOCK_THRESHOLD)
    try:
        yield
    finally:
        gc.set_threshold(*tuned)


def why(error: BaseException, budget_s: float) -> str:
    """An error in a few words; of an HTTP error its status says enough."""
    if isinstance(error, TimeoutError):
        return f"not done within {budget_s:g} s"
    status = getattr(error, "status_code", None)
    said = f"HTTP {status}" if status else " ".join(str(error).split())
    return f"{type(error).__name__}: {said}"[:_REASON_CHARS]


async def _cancel_what_is_left(before: set[asyncio.Task[object]]) -> None:
    left = asyncio.all_tasks() - before
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)


async def _settled(provider: SimulatedProvider) -> Stats:
    """Its counts once it has noticed that calls were cancelled."""
    for _ in range(_SETTLES):
        stats = await provider.stats()
        if not stats.in_flight:
            break
        await asyncio.sleep(_SETTLE_S)
    return await provider.stats(texts=True)


def texts_sent(stats: Stats) -> int:
    """Texts of all embedding calls, those in vain too."""
    return sum((stats.text_counts or {}).values())


def rotated(items: Sequence[T], by: int) -> list[T]:
    """The items, beginning elsewhere: no system is always the first or the last."""
    turn = by % len(items) if items else 0
    return [*items[turn:], *items[:turn]]
