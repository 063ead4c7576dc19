"""The process of a simulated provider: told by its standard input, gone when that closes."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from typing import Any

import orjson

from rag_lab.errors import RagLabError
from rag_lab.simulate.server import Server
from rag_lab.simulate.settings import SimulatorSettings

_STDIN = 0
_LOOK_FOR_PARENT_S = 1.0


def main() -> None:
    """Reads one line of JSON, serves, answers with one line of JSON, ends with its parent."""
    task = orjson.loads(sys.stdin.buffer.readline())
    _allow_many_connections()
    with suppress(KeyboardInterrupt):
        asyncio.run(_serve(task))


async def _serve(task: dict[str, Any]) -> None:
    stop = asyncio.Event()
    try:
        settings = SimulatorSettings.of(task["settings"])
        server = Server(settings, task["host"], task["port"])
        await server.start()
    except (RagLabError, OSError) as error:
        _tell({"error": str(error)})
        return
    _watch_parent(stop, asyncio.get_running_loop())
    gc.freeze()  # what was imported is never looked at again
    port, control_port = server.ports
    _tell({"port": port, "control_port": control_port})
    await stop.wait()
    await server.stop()


def _tell(value: dict[str, Any]) -> None:
    sys.stdout.buffer.write(orjson.dumps(value) + b"\n")
    sys.stdout.buffer.flush()


def _watch_parent(stop: asyncio.Event, loop: asyncio.AbstractEventLoop) -> None:
    """Stops at a signal, at the end of standard input, or when another process is the parent.

    Its end is told at once by the pipe, which the kernel closes however the parent dies. Should
    a process that the parent forked hold the pipe open, the parent's id still changes.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        with suppress(NotImplementedError):
            loop.add_signal_handler(number, stop.set)

    def end() -> None:
        with suppress(RuntimeError):  # the loop has already closed
            loop.call_soon_threadsafe(stop.set)

    def read() -> None:
        # Not through sys.stdin: its lock, held by this thread, would be fatal at the exit.
        while os.read(_STDIN, 1):
            pass
        end()

    def look() -> None:
        parent = os.getppid()
        while os.getppid() == parent:
            time.sleep(_LOOK_FOR_PARENT_S)
        end()

    for watch in (read, look):
        threading.Thread(target=watch, daemon=True).start()


def _allow_many_connections() -> None:
    with suppress(ImportError, ValueError, OSError):
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
