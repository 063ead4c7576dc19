"""`run_sync` gives the result or the exception, whether a loop runs or not."""

from __future__ import annotations

import asyncio
import contextvars
import threading

import pytest

from rag_lab.sync import run_sync


async def double(value: int) -> int:
    await asyncio.sleep(0)
    return 2 * value


async def fail() -> int:
    await asyncio.sleep(0)
    raise KeyError("seven")


def test_outside_a_loop() -> None:
    assert run_sync(double(21)) == 42


async def test_inside_a_running_loop() -> None:
    assert run_sync(double(21)) == 42
    assert await double(1) == 2


async def test_inside_a_running_loop_the_coroutine_gets_a_loop_of_its_own() -> None:
    async def where() -> tuple[asyncio.AbstractEventLoop, int]:
        return asyncio.get_running_loop(), threading.get_ident()

    loop, thread = run_sync(where())
    assert loop is not asyncio.get_running_loop()
    assert thread != threading.get_ident()


async def test_it_nests() -> None:
    async def outer() -> int:
        return run_sync(double(2)) + 1

    assert run_sync(outer()) == 5


def test_an_exception_is_carried_over() -> None:
    with pytest.raises(KeyError, match="seven"):
        run_sync(fail())


async def test_an_exception_is_carried_over_inside_a_loop() -> None:
    with pytest.raises(KeyError, match="seven") as raised:
        run_sync(fail())
    assert raised.traceback[-1].name == "fail"


async def test_an_interrupt_is_carried_over_inside_a_loop() -> None:
    async def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_sync(interrupted())


@pytest.mark.parametrize("inside", [False, True])
def test_none_is_a_result(inside: bool) -> None:
    async def nothing() -> None:
        return None

    async def from_a_loop() -> None:
        assert run_sync(nothing()) is None

    if inside:
        asyncio.run(from_a_loop())
    else:
        assert run_sync(nothing()) is None


async def test_context_variables_reach_the_coroutine() -> None:
    run_id = contextvars.ContextVar("run_id", default="none")
    run_id.set("r1")

    async def read() -> str:
        return run_id.get()

    assert run_sync(read()) == "r1"


async def test_no_thread_is_left_behind() -> None:
    before = threading.active_count()
    run_sync(double(1))
    assert threading.active_count() == before
