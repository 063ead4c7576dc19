"""Runs a coroutine in a loop of its own, and sees that it leaves nothing behind."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable
from typing import Any


async def settle() -> None:
    """Lets what is ready run, and what that makes ready."""
    for _ in range(10):
        await asyncio.sleep(0)


def run(
    main: Callable[[], Awaitable[None]],
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
) -> None:
    """Runs to the end in a loop of its own; what the loop complains about is an error."""
    complaints: list[dict[str, Any]] = []

    async def watched() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: complaints.append(context))
        await main()
        await settle()
        gc.collect(0)  # the young: what this run left behind
        assert asyncio.all_tasks() == {asyncio.current_task()}

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(watched())
    assert complaints == []
