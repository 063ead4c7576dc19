"""Threads and tasks that have ended when their caller goes on."""

from __future__ import annotations

import asyncio
import threading
from typing import NoReturn

import pytest

from rag_lab.errors import ModelError
from rag_lab.index.threads import in_thread, side_by_side


async def one() -> int:
    return 1


async def test_a_result_comes_back_from_its_thread() -> None:
    assert await in_thread(divmod, 7, 2) == (3, 1)


@pytest.mark.parametrize("fails", [False, True])
async def test_a_cancelled_caller_waits_for_its_thread(fails: bool) -> None:
    begun, may_end, ended = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        may_end.wait()
        ended.set()
        if fails:
            raise OSError("disk full")

    task = asyncio.create_task(in_thread(work))
    await asyncio.to_thread(begun.wait)
    task.cancel()
    await asyncio.sleep(0)
    assert not task.done()
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()


async def test_both_results_come_in_order() -> None:
    assert await side_by_side(in_thread(str, 2), one()) == ("2", 1)


async def test_an_error_in_one_stops_the_other_before_it_is_told() -> None:
    began, stopped = asyncio.Event(), False

    async def fail() -> NoReturn:
        await began.wait()
        raise ModelError("refused")

    async def go_on() -> None:
        nonlocal stopped
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            stopped = True

    with pytest.raises(ModelError, match="refused"):
        await side_by_side(go_on(), fail())
    assert stopped


async def test_cancelled_it_stops_both() -> None:
    stopped: list[str] = []
    both_run = asyncio.Barrier(3)

    async def go_on(name: str) -> None:
        await both_run.wait()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.append(name)

    task = asyncio.create_task(side_by_side(go_on("first"), go_on("second")))
    await both_run.wait()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sorted(stopped) == ["first", "second"]
