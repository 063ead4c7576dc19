"""A small OpenAI-compatible provider on loopback: real HTTP, counted, with faults on order."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
import threading
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import numpy as np
from aiohttp import web

KEY = "sk-recognisable-0123456789"


def word_vector(text: str, dimensions: int) -> np.ndarray:
    """A hashed bag of words of unit length: alike for texts that share words."""
    vector = np.full(dimensions, 0.01, np.float32)
    for word in re.findall(r"\w+", text.lower()):
        vector[int(hashlib.sha256(word.encode()).hexdigest(), 16) % dimensions] += 1
    return vector / np.linalg.norm(vector)


@dataclass
class Asked:
    """One request as it came in."""

    path: str
    body: dict[str, Any]
    authorization: str


@dataclass
class Provider:
    """Serves `/v1/embeddings` and `/v1/chat/completions` from a thread of its own.

    Attributes:
        dimensions: length of a vector where the request names none.
        answer: what every chat completion says.
        faults: what becomes of the next embedding or chat requests, one entry each: an HTTP
            status, "count", "dimensions", "nan", "zero", "ragged", "order", "hang" or "" (none).
            The last entry holds for all further requests if `lasting`.
        refuse: a request for which this is true gets HTTP 400.
        asked: every request, in the order of arrival.
        heard: called in the server's thread with each request before it is answered.
        keep_alive: leave it to the client to close its connections.
    """

    dimensions: int = 48
    answer: str = "An answer from the model."
    faults: deque[int | str] = field(default_factory=deque)
    lasting: bool = False
    refuse: Callable[[dict[str, Any]], bool] = lambda body: False
    asked: list[Asked] = field(default_factory=list)
    heard: Callable[[Asked], None] = lambda asked: None
    keep_alive: bool = False
    connections: set[asyncio.Transport] = field(default_factory=set)

    @property
    def base_url(self) -> str:
        """What goes into RAG_LAB_EMBED_BASE_URL and RAG_LAB_LLM_BASE_URL."""
        return f"http://127.0.0.1:{self._port}/v1"

    @property
    def texts(self) -> Counter[str]:
        """How often each text was asked for an embedding."""
        return Counter(t for a in self.asked if "input" in a.body for t in inputs(a.body))

    @property
    def open_connections(self) -> int:
        """Connections that neither side has closed."""
        return sum(not transport.is_closing() for transport in self.connections)

    @property
    def calls(self) -> int:
        """Requests that came in."""
        return len(self.asked)

    def environment(
        self, stage: str = "EMBED", model: str = "words", **more: str
    ) -> dict[str, str]:
        """Variables that configure a stage (EMBED or LLM) for this provider."""
        chosen = {"MODEL": model, "BASE_URL": self.base_url, "API_KEY": KEY, **more}
        return {f"RAG_LAB_{stage}_{name}": value for name, value in chosen.items()}

    def __enter__(self) -> Provider:
        ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve(ready)))
        self._thread.start()
        assert ready.wait(30)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    async def _serve(self, ready: threading.Event) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        app = web.Application(client_max_size=2**26)
        app.on_response_prepare.append(self._finish)
        app.router.add_post("/v1/embeddings", self._embeddings)
        app.router.add_post("/v1/chat/completions", self._chat)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self._port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
        ready.set()
        await self._stop.wait()
        await runner.cleanup()

    async def _finish(self, request: web.Request, response: web.StreamResponse) -> None:
        if not self.keep_alive:
            response.headers["Connection"] = "close"
            response.force_close()

    async def _receive(self, request: web.Request) -> tuple[dict[str, Any], int | str]:
        body = await request.json()
        assert request.transport is not None
        self.connections.add(request.transport)  # type: ignore[arg-type]
        asked = Asked(request.path, body, request.headers.get("Authorization", ""))
        self.asked.append(asked)
        self.heard(asked)
        if self.refuse(body):
            return body, 400
        if not self.faults:
            return body, ""
        last = self.lasting and len(self.faults) == 1
        return body, self.faults[0] if last else self.faults.popleft()

    async def _embeddings(self, request: web.Request) -> web.Response:
        body, fault = await self._receive(request)
        if isinstance(fault, int):
            return _refusal(fault)
        if fault == "hang":
            await self._stop.wait()
        dimensions = body.get("dimensions") or self.dimensions
        rows = [word_vector(text, dimensions) for text in inputs(body)]
        rows = _SPOILT.get(fault, lambda given: given)(rows)
        as_base64 = body.get("encoding_format") == "base64"
        items: list[dict[str, Any]] = [
            {"object": "embedding", "index": place, "embedding": _encoded(row, as_base64)}
            for place, row in enumerate(rows)
        ]
        if fault == "order":
            items.reverse()
        usage = {"prompt_tokens": 1, "total_tokens": 1}
        return _json({"object": "list", "model": body["model"], "data": items, "usage": usage})

    async def _chat(self, request: web.Request) -> web.Response:
        body, fault = await self._receive(request)
        if isinstance(fault, int):
            return _refusal(fault)
        message = {"role": "assistant", "content": self.answer}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        return _json(
            {
                "id": "chat-1",
                "object": "chat.completion",
                "created": 0,
                "model": body["model"],
                "choices": [choice],
                "usage": usage,
            }
        )


def inputs(body: dict[str, Any]) -> list[str]:
    """The texts of an embedding request."""
    given = body["input"]
    return [given] if isinstance(given, str) else list(given)


_SPOILT: dict[Any, Callable[[list[np.ndarray]], list[np.ndarray]]] = {
    "count": lambda rows: rows[:-1],
    "dimensions": lambda rows: [row[:-1] for row in rows],
    "ragged": lambda rows: [row[: len(row) - place] for place, row in enumerate(rows)],
    "nan": lambda rows: [rows[0] * np.nan, *rows[1:]],
    "zero": lambda rows: [rows[0] * 0, *rows[1:]],
}


def _encoded(row: np.ndarray, as_base64: bool) -> Any:
    if as_base64:
        return base64.b64encode(row.astype("<f4").tobytes()).decode()
    return [float(value) for value in row]


def _json(value: Any) -> web.Response:
    return web.Response(text=json.dumps(value), content_type="application/json")


def _refusal(status: int) -> web.Response:
    error = {"error": {"message": f"refused, you sent {KEY}", "type": "fault", "code": "fault"}}
    return web.json_response(error, status=status)
