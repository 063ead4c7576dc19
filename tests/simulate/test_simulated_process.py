"""The provider's process: it starts, and it never outlives its parent."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import rag_lab
from rag_lab.errors import IndexStateError, SimulatorError
from rag_lab.settings import load_settings
from rag_lab.simulate import (
    SimulatedProvider,
    SimulatorSettings,
    serving_corpus,
    simulated,
)

ROOT = Path(rag_lab.__file__).parents[1]
PARENT = """
import sys, time
from rag_lab.simulate import SimulatedProvider, SimulatorSettings
provider = SimulatedProvider.start(SimulatorSettings())
print(provider.pid, provider.port, flush=True)
time.sleep(600)
"""


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def until_gone(pid: int) -> bool:
    deadline = time.monotonic() + 15
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not alive(pid)


def start(code: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


async def test_it_runs_as_long_as_the_block() -> None:
    async with simulated() as provider:
        assert provider.running
        assert provider.base_url == f"http://127.0.0.1:{provider.port}/v1"
        assert provider.environment("EMBED") == {
            "RAG_LAB_EMBED_BASE_URL": provider.base_url,
            "RAG_LAB_EMBED_MODEL": "simulated",
        }
        assert (await provider.stats()).calls == 0
    assert not provider.running
    assert until_gone(provider.pid)
    with pytest.raises(SimulatorError, match="ended with status 0"):
        await provider.stats()


async def test_it_ends_when_the_block_is_cancelled(until: Any) -> None:
    pids: list[int] = []

    async def block() -> None:
        async with simulated() as provider:
            pids.append(provider.pid)
            await asyncio.sleep(600)

    task = asyncio.create_task(block())

    async def has_started() -> bool:
        return bool(pids)

    await until(has_started)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert until_gone(pids[0])


def test_it_ends_when_its_parent_is_killed() -> None:
    with start(PARENT) as parent:
        assert parent.stdout is not None
        pid, port = map(int, parent.stdout.readline().split())
        assert alive(pid)
        parent.kill()
        parent.wait()
        assert until_gone(pid)
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.1", port), timeout=5)


def test_a_port_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SimulatorError, match=r"could not start: .*in use"):
            SimulatedProvider.start(SimulatorSettings(), port=port)


def test_a_model_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SimulatorError, match="cannot be read"):
        SimulatedProvider.start(SimulatorSettings(embedder=tmp_path / "nothing"))


def test_a_corpus_without_a_fit() -> None:
    with pytest.raises(IndexStateError, match="rag-lab ingest food"):
        serving_corpus("food", SimulatorSettings())


def test_the_fit_of_a_corpus_is_served(tmp_path: Path) -> None:
    from small import food, indexed

    asyncio.run(indexed(food())).close()
    served = serving_corpus("food", SimulatorSettings(capacity=3), load_settings())
    assert served.capacity == 3
    assert served.embedder is not None
    assert (served.embedder / "lsa.npz").is_file()
    assert served.models == (f"simulated-{served.embedder.name}", "simulated")


CLI = "from rag_lab.cli import main; main()"


def interrupted(*arguments: str) -> tuple[str, str, int]:
    with start(CLI, "simulate", *arguments) as command:
        assert command.stdout is not None
        assert command.stderr is not None
        first = command.stdout.readline()
        command.send_signal(signal.SIGINT)
        out, err = command.stdout.read(), command.stderr.read()
    return first + out, err, command.returncode


def test_the_command_tells_how_to_use_it_and_what_it_saw() -> None:
    out, err, status = interrupted("--preset", "bad-day", "--latency-ms", "5")
    assert status == 0
    assert "export RAG_LAB_EMBED_BASE_URL=http://127.0.0.1:" in out
    assert "export RAG_LAB_EMBED_MODEL=simulated" in out
    assert "0 calls (none)" in err


def test_the_command_in_json() -> None:
    faults = "--fault", "503=0.5", "--fault", "poison=x"
    out, err, status = interrupted("--json", "--rpm", "60", "--capacity", "2", *faults)
    told, stats = map(json.loads, out.splitlines())
    assert (status, err) == (0, "")
    assert told["environment"]["RAG_LAB_LLM_BASE_URL"] == told["base_url"]
    assert told["settings"]["capacity"] == 2
    assert [fault["status"] for fault in told["settings"]["faults"]] == [503, 400]
    assert stats["calls"] == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--preset", "fast"], "no preset 'fast'"),
        (["--fault", "503"], "expected NAME=VALUE"),
        (["--rpm", "0"], "requests_per_minute"),
    ],
)
def test_the_command_refuses_what_cannot_be(
    arguments: list[str], says: str, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rag_lab.cli import main

    monkeypatch.setattr(sys, "argv", ["rag-lab", "simulate", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    assert says in capsys.readouterr().err
