"""The call itself: one HTTP request to a model, its reply checked; nothing is tried twice here.

It goes through `openai`'s client, for its headers and its errors, and past its typed reply, which
costs five to a hundred times as much as the matrix. Retry, limits and batches lie outside.
"""

from __future__ import annotations

import asyncio
import ssl
import time
import weakref
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any
from urllib.parse import urlsplit

import httpx
import openai
from pydantic import SecretStr

from rag_lab.errors import ModelConfigError, SettingsError
from rag_lab.gateway.loops import PerLoop
from rag_lab.gateway.reply import (
    ChatReply,
    EmbeddingReply,
    decode_chat,
    decode_embeddings,
    encode,
)

OPENAI = "https://api.openai.com/v1"
NO_KEY = "no-key"
"""Clients insist on one, or take it from the environment; local servers ignore it."""
_HEADERS = {
    "Content-Type": "application/json",
    # Base64 of floats hardly shrinks, and unpacking it costs more than all the rest.
    "Accept-Encoding": "identity",
}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Which model, and where.

    Attributes:
        model: its name at the provider.
        base_url: an OpenAI-compatible address, usually ending in /v1.
        api_key: shows as stars; may be empty for a local server.
        dimensions: asked of the provider if set (embeddings).
        headers: sent with every request; kept out of the repr, for they may hold keys.
    """

    model: str
    base_url: str = OPENAI
    api_key: SecretStr = field(default_factory=lambda: SecretStr(""))
    dimensions: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def identity(self) -> str:
        """Address and model: what decides a reply besides what is asked."""
        return f"{self.base_url or OPENAI}#{self.model}"

    def __post_init__(self) -> None:
        if "@" in urlsplit(self.base_url).netloc:
            raise ModelConfigError(
                f"the address for {self.model!r} holds a login. Leave it out; the key is a "
                "parameter of its own."
            )
        key = self.api_key.get_secret_value()
        if not (key.isascii() and key.isprintable()) or key != key.strip():
            raise ModelConfigError(
                f"the key for {self.model!r} holds a space, a line end or a character that no "
                "header can carry. Copy it again."
            )


@dataclass(frozen=True, slots=True)
class CallSettings:
    """How a call is made.

    Attributes:
        timeout_s: for one call, from its first byte out to its last byte in.
        connect_timeout_s: for reaching the server.
        connections: open at once; more than the limiter's maximum (512), for hedges come on top.
        keepalive_s: how long an idle connection is kept.
        thread_from_bytes: larger replies are decoded off the event loop.
    """

    timeout_s: float = 60.0
    connect_timeout_s: float = 10.0
    connections: int = 640
    keepalive_s: float = 30.0
    thread_from_bytes: int = 64_000

    def __post_init__(self) -> None:
        for name in ("timeout_s", "connect_timeout_s", "connections"):
            if getattr(self, name) <= 0:
                raise SettingsError(
                    f"CallSettings.{name} must be more than 0, got {getattr(self, name)}."
                )


class Transport:
    """One `openai` client a running event loop, on aiohttp, made on first use.

    A client is closed with its loop (`asyncio.run` does so), with this object, or by `aclose`.
    """

    def __init__(self, endpoint: Endpoint, settings: CallSettings | None = None) -> None:
        self.endpoint = endpoint
        self.settings = settings or CallSettings()
        self._clients: PerLoop[asyncio.Task[_Client]] = PerLoop(
            lambda: asyncio.create_task(self._connected())
        )

    async def post(self, path: str, body: bytes) -> httpx.Response:
        """The response, read to its end.

        Raises:
            openai.APIStatusError: the provider refused; `status_code` and `response.headers`.
            openai.APITimeoutError: no answer in time.
            openai.APIConnectionError: refused, reset, or cut off in mid-reply.
        """
        client = (await self._client()).openai
        try:
            # The client's own timeout is for each read: a trickle would hold a slot for ever.
            async with asyncio.timeout(self.settings.timeout_s):
                return await client.post(
                    path, cast_to=httpx.Response, content=body, options={"headers": _HEADERS}
                )
        except TimeoutError:
            request = httpx.Request("POST", self.endpoint.base_url)
            raise openai.APITimeoutError(request) from None
        except openai.APITimeoutError as error:
            if _timed_out(error):
                raise
            raise openai.APIConnectionError(request=error.request) from error.__cause__

    async def connect(self) -> None:
        """Makes the client of the running loop, which takes 25 ms; `post` would do so too."""
        await self._client()

    async def aclose(self) -> None:
        """Closes the client of the running loop; the next call makes a new one."""
        connected = self._clients.pop()
        if connected is not None:
            await (await connected).keeper.aclose()

    async def _client(self) -> _Client:
        connected = self._clients.get()
        # One caller that gives up must not take the client from the others.
        return connected.result() if connected.done() else await asyncio.shield(connected)

    async def _connected(self) -> _Client:
        """Made in a thread: it takes 25 ms, which would block everything else."""
        client = _Client(await asyncio.to_thread(self._connect))
        client.unused = weakref.finalize(self, client.close_soon, asyncio.get_running_loop())
        return client

    def _connect(self) -> openai.AsyncOpenAI:
        settings = self.settings
        try:
            http = openai.DefaultAioHttpClient(
                verify=_trusted(),
                limits=httpx.Limits(
                    max_connections=settings.connections,
                    max_keepalive_connections=settings.connections,
                    keepalive_expiry=settings.keepalive_s,
                ),
                timeout=self._timeout,
            )
        except RuntimeError:
            raise ModelConfigError(
                "httpx-aiohttp is not installed, which remote models are called with. "
                'Run: pip install "openai[aiohttp]"'
            ) from None
        return openai.AsyncOpenAI(
            api_key=self.endpoint.api_key.get_secret_value() or NO_KEY,
            base_url=self.endpoint.base_url or OPENAI,
            default_headers=dict(self.endpoint.headers),
            max_retries=0,  # an attempt that the limiter does not see is not counted
            timeout=self._timeout,
            http_client=http,
        )

    @property
    def _timeout(self) -> httpx.Timeout:
        settings = self.settings
        connect = min(settings.connect_timeout_s, settings.timeout_s)
        return httpx.Timeout(settings.timeout_s, connect=connect, pool=None)

    def __repr__(self) -> str:
        return f"Transport({self.endpoint!r})"


class EmbeddingCall:
    """Asks an embedding model for the vectors of some texts, in one request.

    Attributes:
        endpoint: which model, and where.
        settings: how the call is made.
    """

    def __init__(self, endpoint: Endpoint, settings: CallSettings | None = None) -> None:
        self.endpoint = endpoint
        self.settings = settings or CallSettings()
        self._transport = Transport(endpoint, self.settings)
        self.connect = self._transport.connect

    async def __call__(self, texts: Sequence[str]) -> EmbeddingReply:
        """Unit vectors, one row a text, in their order.

        Raises:
            ReplyError: the answer is not what was asked for (see `reply.py`).
            UnsendableTextError: a text is no valid Unicode; nothing was sent.
            openai.APIError: what `Transport.post` raises.
        """
        asked: dict[str, Any] = {
            "input": list(texts),
            "model": self.endpoint.model,
            "encoding_format": "base64",
        }
        dimensions = self.endpoint.dimensions
        if dimensions is not None:
            asked["dimensions"] = dimensions
        response = await self._transport.post("/embeddings", encode(asked, texts))
        body, headers = response.content, response.headers
        started = time.perf_counter()
        if len(body) > self.settings.thread_from_bytes:
            reply = await asyncio.to_thread(
                decode_embeddings, body, len(texts), dimensions, headers
            )
        else:
            reply = decode_embeddings(body, len(texts), dimensions, headers)
        return replace(reply, decode_s=time.perf_counter() - started)

    async def aclose(self) -> None:
        """Closes the connections of the running loop."""
        await self._transport.aclose()

    def __repr__(self) -> str:
        return f"EmbeddingCall({self.endpoint!r})"


class ChatCall:
    """Asks a chat model for one answer, in one request.

    Args:
        endpoint: which model, and where.
        settings: how the call is made.
        options: sent with every request, e.g. `{"temperature": 0}`.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        settings: CallSettings | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.options = dict(options or {})
        self._transport = Transport(endpoint, settings)
        self.connect = self._transport.connect

    async def __call__(self, messages: Sequence[Mapping[str, Any]], **options: Any) -> ChatReply:
        """The first choice of the model.

        Args:
            messages: `{"role": …, "content": …}` each.
            **options: go before the options of this object, e.g. `max_tokens=64`.

        Raises:
            UnreadableReplyError: the answer holds no text.
            UnsendableTextError: a message is no valid Unicode; nothing was sent.
            openai.APIError: what `Transport.post` raises.
        """
        asked = {
            "model": self.endpoint.model,
            "messages": [dict(message) for message in messages],
            **self.options,
            **options,
        }
        texts = [str(message.get("content", "")) for message in messages]
        response = await self._transport.post("/chat/completions", encode(asked, texts))
        return decode_chat(response.content, response.headers)

    async def aclose(self) -> None:
        """Closes the connections of the running loop."""
        await self._transport.aclose()

    def __repr__(self) -> str:
        return f"ChatCall({self.endpoint!r})"


class _Client:
    """A client, and what closes it with its loop."""

    def __init__(self, client: openai.AsyncOpenAI) -> None:
        self.openai = client
        self.unused: weakref.finalize[..., Any] | None = None
        self.keeper = self._keep()
        with suppress(StopIteration):  # run to its `yield`: from here on the loop will close it
            self.keeper.__anext__().send(None)

    async def _keep(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            await self.openai.close()
            if self.unused is not None:
                self.unused.detach()

    def close_soon(self, loop: asyncio.AbstractEventLoop) -> None:
        """Closes it in its loop, while there is one: nobody can use it any more."""
        if loop.is_running():
            asyncio.run_coroutine_threadsafe(self.keeper.aclose(), loop)


@cache
def _trusted() -> ssl.SSLContext:
    """Shared by all clients: reading the certificates takes 20 ms."""
    return httpx.create_ssl_context()


def _timed_out(error: BaseException) -> bool:
    """Whether time ran out; the transport calls a refused or reset connection a timeout too."""
    cause = error.__cause__
    while cause is not None and not isinstance(cause, TimeoutError):
        cause = cause.__cause__
    return cause is not None
