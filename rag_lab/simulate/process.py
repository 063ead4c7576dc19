"""A simulated provider in a process of its own, for as long as a block of code runs."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import rag_lab
from rag_lab.errors import SettingsError, SimulatorError
from rag_lab.simulate.settings import SimulatorSettings
from rag_lab.simulate.stats import Stats

_START_S = 60.0
_STOP_S = 5.0
_ASK_S = 30.0
_LOOPBACK = "127.0.0.1"
_CHILD = "import sys; sys.path[:] = sys.argv[1:]; from rag_lab.simulate.child import main; main()"


class SimulatedProvider:
    """A running provider. Make one with `simulated`, or with `start` and `stop`.

    Attributes:
        settings: what it was started with, or last reset to.
    """

    def __init__(
        self, settings: SimulatorSettings, process: subprocess.Popen[bytes], host: str
    ) -> None:
        self.settings = settings
        self._process = process
        self._host = host
        self._port = 0
        self._control_port = 0
        # An environment that names a proxy must not lead loopback calls to it.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    @classmethod
    def start(
        cls, settings: SimulatorSettings, *, host: str = _LOOPBACK, port: int = 0
    ) -> SimulatedProvider:
        """Starts a process and waits until it listens. Blocks.

        Raises:
            SimulatorError: it cannot listen there, cannot read its model, or did not start.
        """
        process = subprocess.Popen(
            [sys.executable, "-c", _CHILD, *_search_path()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for us; we may still want to ask it for its counts
        )
        provider = cls(settings, process, host)
        patience = threading.Timer(_START_S, process.kill)
        patience.start()
        try:
            provider._greet({"settings": settings.to_wire(), "host": host, "port": port})
        except BaseException:
            provider.stop()
            raise
        finally:
            patience.cancel()
        return provider

    def _greet(self, task: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):  # then it has no answer either, and that is told below
            self._process.stdin.write(json.dumps(task).encode() + b"\n")
            self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise SimulatorError(
                f"the simulated provider ended with status {self._process.wait(_STOP_S)} before it "
                "listened; what it wrote above says why."
            )
        answer = json.loads(line)
        if "error" in answer:
            raise SimulatorError(f"the simulated provider could not start: {answer['error']}")
        self._port, self._control_port = answer["port"], answer["control_port"]

    @property
    def base_url(self) -> str:
        """What a client is given, e.g. http://127.0.0.1:40001/v1."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}/v1"

    @property
    def port(self) -> int:
        """The public port."""
        return self._port

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process is alive."""
        return self._process.poll() is None

    def environment(self, *stages: str) -> dict[str, str]:
        """Variables that configure stages ("EMBED", "LLM") for this provider."""
        variables = {}
        for stage in stages or ("EMBED", "LLM"):
            variables[f"RAG_LAB_{stage}_BASE_URL"] = self.base_url
            variables[f"RAG_LAB_{stage}_MODEL"] = self.settings.models[0]
        return variables

    async def stats(self, *, texts: bool = False, times: bool = False) -> Stats:
        """What it has seen; with the count of each text, and the times of each call, if asked."""
        path = f"/stats?texts={texts:d}&times={times:d}"
        return Stats.model_validate(await asyncio.to_thread(self._ask, path))

    async def change(self, **changes: Any) -> SimulatorSettings:
        """Changes settings in mid-run; calls already being served finish as they began.

        Raises:
            SettingsError: there is no such setting, it cannot have that value, or it can only
                change with a reset.
        """
        wire = json.loads(json.dumps(changes, default=_plain))
        told = await asyncio.to_thread(self._ask, "/control", {"settings": wire})
        key = changes.get("api_key", self.settings.api_key)
        return SimulatorSettings.of(told | {"api_key": key})

    async def reset(self, settings: SimulatorSettings | None = None) -> None:
        """Starts afresh: counts at zero, budgets full, the clock at rest until the first call.

        Settings are those at the start, or those given, which then are the ones at the start.
        """
        if settings is None:
            await asyncio.to_thread(self._ask, "/control", {"reset": True})
            return
        task = {"settings": settings.to_wire(), "replace": True}
        await asyncio.to_thread(self._ask, "/control", task)
        self.settings = settings

    def stop(self) -> None:
        """Ends the process, and waits for it. Calls under way are dropped."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _ask(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        url = f"http://{_LOOPBACK}:{self._control_port}{path}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url, data, {"content-type": "application/json"})
        try:
            with self._opener.open(request, timeout=_ASK_S) as response:
                answer: dict[str, Any] = json.load(response)
                return answer
        except urllib.error.HTTPError as error:
            with error:
                raise SettingsError(json.load(error)["error"]["message"]) from None
        except OSError as error:
            state = "runs" if self.running else f"ended with status {self._process.returncode}"
            raise SimulatorError(
                f"the simulated provider (process {self.pid}, which {state}) "
                f"does not answer: {error}."
            ) from None


@asynccontextmanager
async def simulated(
    settings: SimulatorSettings | None = None, *, host: str = _LOOPBACK, port: int = 0
) -> AsyncIterator[SimulatedProvider]:
    """A provider that runs as long as the block does.

        async with simulated(preset("openai-like", time_scale=0.1)) as provider:
            client = AsyncOpenAI(base_url=provider.base_url, api_key="none")

    Raises:
        SimulatorError: it did not start.
    """
    chosen = settings or SimulatorSettings()
    starting = asyncio.ensure_future(
        asyncio.to_thread(SimulatedProvider.start, chosen, host=host, port=port)
    )
    try:
        provider = await asyncio.shield(starting)
    except asyncio.CancelledError:
        starting.add_done_callback(_stop_late)
        raise
    try:
        yield provider
    finally:
        await asyncio.shield(asyncio.to_thread(provider.stop))


def run_until_interrupt(
    settings: SimulatorSettings, greet: Callable[[SimulatedProvider], None], *, port: int = 0
) -> Stats:
    """Runs a provider until Ctrl-C, and gives what it has seen. Blocks.

    Raises:
        SimulatorError: it did not start, or ended by itself.
    """
    provider = SimulatedProvider.start(settings, port=port)
    try:
        with suppress(KeyboardInterrupt):
            greet(provider)
            status = provider._process.wait()
            raise SimulatorError(f"the simulated provider ended by itself with status {status}.")
        return asyncio.run(provider.stats())
    finally:
        provider.stop()


def _stop_late(starting: asyncio.Future[SimulatedProvider]) -> None:
    if not starting.cancelled() and starting.exception() is None:
        starting.result().stop()


def _search_path() -> list[str]:
    """Our own, so that the process imports what we imported, also after a change of folder."""
    root = str(Path(rag_lab.__file__).parents[1])
    known = [folder for folder in sys.path if folder]
    return known if root in known else [root, *known]


def _plain(value: Any) -> Any:
    if hasattr(value, "get_secret_value"):
        return value.get_secret_value()
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    return str(value)
