"""Work in threads that has ended when its caller goes on, whatever happens."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
S = TypeVar("S")
T = TypeVar("T")


async def in_thread(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """As `asyncio.to_thread`, but a cancelled caller goes on only when the thread has ended.

    So nobody closes or deletes a file that it still uses.
    """
    task = asyncio.ensure_future(asyncio.to_thread(work, *args, **kwargs))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        if not task.cancelled():
            task.exception()  # seen, so that asyncio does not complain of it
        raise


async def side_by_side(
    first: Coroutine[Any, Any, S], second: Coroutine[Any, Any, T]
) -> tuple[S, T]:
    """The results of both; if one fails, the other is cancelled and has ended before that is said.

    Raises:
        Exception: what the first of them to fail raised.
    """
    tasks = asyncio.create_task(first), asyncio.create_task(second)
    try:
        await asyncio.gather(*tasks)
        return tasks[0].result(), tasks[1].result()
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        raise
