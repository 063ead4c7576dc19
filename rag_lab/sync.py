"""Calling the async library from synchronous code, in or out of a running event loop."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
from collections.abc import Coroutine
from functools import cache
from typing import Any, TypeVar

T = TypeVar("T")


def run_sync(coroutine: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine to its end and returns its result, also inside a running loop.

    Inside a loop (a notebook cell, an async web handler) it runs in a thread with a loop of its
    own, so the caller's loop is never re-entered; the caller blocks until it is done. In a
    notebook a top-level `await` is the better choice.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    return _in_thread(coroutine)


def _in_thread(coroutine: Coroutine[Any, Any, T]) -> T:
    results: list[T] = []
    failures: list[BaseException] = []

    def work() -> None:
        try:
            results.append(asyncio.run(coroutine))
        except BaseException as error:  # handed to the caller below, KeyboardInterrupt too
            failures.append(error)

    context = contextvars.copy_context()  # tracing and settings in context follow the call
    thread = threading.Thread(target=context.run, args=(work,), name="rag-lab-run-sync")
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
    return results[0]


_YOUNG_OBJECTS = 10_000
STOCK_THRESHOLD = gc.get_threshold()
"""What the interpreter had before `spare_garbage_collector`."""


@cache
def spare_garbage_collector() -> None:
    """Takes what is loaded by now out of garbage collection, and has it done less often.

    The imported libraries are half a million objects that live as long as the process; each full
    collection would look at all of them, and block the event loop for 70 to 100 ms. And a thousand
    questions under way are so many young objects that looking for garbage every 700 of them took a
    quarter of the CPU. A threshold that was raised, or set to 0, stays. Done once a process.
    """
    gc.collect()
    gc.freeze()
    young, *older = gc.get_threshold()
    if 0 < young < _YOUNG_OBJECTS:
        gc.set_threshold(_YOUNG_OBJECTS, *older)


def notebook_setup() -> None:
    """Makes nested event loops safe in this kernel; the first line of a notebook.

    Libraries such as RAGAS apply nest-asyncio by themselves, which loses queued cells under
    ipykernel 7.1 and later. Applying nest-asyncio2 first makes their call a no-op.
    """
    import nest_asyncio2

    nest_asyncio2.apply()
