"""How replies leave the server: whole, in events, cut off, or as a reset connection.

And the port they leave by, which can refuse connections for a while.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass, field

from aiohttp import web

from rag_lab.simulate.provider import Refusal
from rag_lab.simulate.replies import error_body

LOOPBACK = "127.0.0.1"
_BACKLOG = 4_096
_LINGER_NOT = struct.pack("ii", 1, 0)
_MARK = {"x-simulated": "true"}


@dataclass(frozen=True, slots=True)
class Reply:
    """What goes back: a body, or events that are `pace_s` real seconds apart."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    events: tuple[bytes, ...] = ()
    pace_s: float = 0.0
    truncated: bool = False
    reset: bool = False

    @classmethod
    def refused(cls, refusal: Refusal) -> Reply:
        """An HTTP error."""
        return cls(refusal.status, error_body(refusal), refusal.headers)


async def send(request: web.BaseRequest, reply: Reply) -> web.StreamResponse:
    """Sends a reply; a whole body is left to aiohttp, which sends what is returned."""
    headers = _MARK | reply.headers
    if reply.reset:
        reset(request.transport)
        return web.Response()
    if reply.events:
        return await _send_events(request, reply, headers)
    if reply.truncated:
        return await _send_half(request, reply, headers)
    return web.Response(
        body=reply.body, status=reply.status, headers=headers, content_type="application/json"
    )


async def _send_events(
    request: web.BaseRequest, reply: Reply, headers: dict[str, str]
) -> web.StreamResponse:
    response = web.StreamResponse(headers=headers)
    response.content_type = "text/event-stream"
    await response.prepare(request)
    events = reply.events[: len(reply.events) // 2] if reply.truncated else reply.events
    if reply.pace_s:
        for event in events:
            await response.write(event)
            await asyncio.sleep(reply.pace_s)
    else:
        await response.write(b"".join(events))
    if reply.truncated:
        _hang_up(request)
    return response


async def _send_half(
    request: web.BaseRequest, reply: Reply, headers: dict[str, str]
) -> web.StreamResponse:
    response = web.StreamResponse(headers=headers)
    response.content_type = "application/json"
    response.content_length = len(reply.body)
    await response.prepare(request)
    await response.write(reply.body[: len(reply.body) // 2])
    _hang_up(request)
    return response


def _hang_up(request: web.BaseRequest) -> None:
    if request.transport is not None:
        request.transport.close()  # what is written still goes out


def reset(transport: asyncio.BaseTransport | None) -> None:
    """Drops a connection the hard way: the client sees a reset, not an end."""
    if transport is None:
        return
    with suppress(OSError):
        transport.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT
        )
    assert isinstance(transport, asyncio.WriteTransport)
    transport.abort()


class Port:
    """A port that serves, or refuses connections and resets those that are open."""

    def __init__(self, server: web.Server, host: str, port: int) -> None:
        self._server = server
        self._host = host
        # Bound but never listening: keeps the port ours while it is closed.
        self._reserved = _bound(host, port)
        self.number: int = self._reserved.getsockname()[1]
        self._listener: asyncio.Server | None = None

    async def open(self) -> None:
        """Starts to listen."""
        if self._listener is None:
            door = _bound(self._host, self.number)
            loop = asyncio.get_running_loop()
            # Nothing is awaited before the listener is known, so opening twice opens once.
            self._listener = await loop.create_server(
                self._server, sock=door, backlog=_BACKLOG, start_serving=False
            )
            await self._listener.start_serving()

    def refuse(self) -> None:
        """Refuses connections from now on, and resets the open ones."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None
            for connection in self._server.connections:
                reset(connection.transport)

    async def close(self) -> None:
        """Stops for good."""
        self.refuse()
        self._reserved.close()
        await self._server.shutdown(0.1)


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((host, port))
    except OSError:
        made.close()
        raise
    return made
