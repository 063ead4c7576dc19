"""The call itself: one HTTP request to a model, its reply checked; nothing is tried twice here.

Its errors and headers are those of `openai`'s client. The request goes past that client, straight
to the aiohttp session its transport would use (a third of the CPU, and 25 ms less to set up), and
past its typed reply, which costs five to a hundred times as much as the matrix. Retry, limits and
batches lie outside.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import time
import weakref
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import httpx
import openai
import orjson
from multidict import CIMultiDict
from pydantic import SecretStr
from yarl import URL

from rag_lab import __version__
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
_READ_BYTES = 1 << 20
"""Read ahead: a batch's vectors are half a megabyte and more, and each pause costs a turn."""
_HEADERS = {
    "Accept": "application/json",
    "Content-Type": "application/json",
    "User-Agent": f"rag-lab/{__version__}",
    # Base64 of floats hardly shrinks, and unpacking it costs more than all the rest.
    "Accept-Encoding": "identity",
}
_ACCOUNT = {"OpenAI-Organization": "OPENAI_ORG_ID", "OpenAI-Project": "OPENAI_PROJECT_ID"}


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


@dataclass(frozen=True, slots=True)
class Response:
    """A response as it came; look-ups in its headers ignore case."""

    content: bytes
    headers: Mapping[str, str]


class Transport:
    """One aiohttp session a running event loop, made on first use.

    A session is closed with its loop (`asyncio.run` does so), with this object, or by `aclose`.
    """

    def __init__(self, endpoint: Endpoint, settings: CallSettings | None = None) -> None:
        self.endpoint = endpoint
        self.settings = settings or CallSettings()
        self._sessions: PerLoop[asyncio.Task[_Session]] = PerLoop(
            lambda: asyncio.create_task(self._connected())
        )

    async def post(self, path: str, body: bytes) -> Response:
        """The response, read to its end.

        Raises:
            openai.APIStatusError: the provider refused; `status_code` and `response.headers`.
            openai.APITimeoutError: no answer in time.
            openai.APIConnectionError: refused, reset, or cut off in mid-reply.
        """
        session = await self._session()
        url = session.url(path)
        try:
            # For the whole call: a trickle would outlive a limit on each read, and hold a slot.
            async with asyncio.timeout(self.settings.timeout_s):
                async with session.http.post(url, data=body, headers=session.headers) as response:
                    content = await response.read()
        except TimeoutError:
            raise openai.APITimeoutError(_request(url)) from None
        except (aiohttp.ClientError, OSError) as error:
            raise openai.APIConnectionError(request=_request(url)) from error
        if response.status >= HTTPStatus.BAD_REQUEST:
            raise _refusal(response, content)
        return Response(content, response.headers)

    async def connect(self) -> None:
        """Makes the session of the running loop; with TLS that takes 20 ms, once a process."""
        await self._session()

    async def aclose(self) -> None:
        """Closes the session of the running loop; the next call makes a new one."""
        connected = self._sessions.pop()
        if connected is not None:
            await (await connected).keeper.aclose()

    async def _session(self) -> _Session:
        connected = self._sessions.get()
        # One caller that gives up must not take the session from the others.
        return connected.result() if connected.done() else await asyncio.shield(connected)

    async def _connected(self) -> _Session:
        settings = self.settings
        address = self.endpoint.base_url or OPENAI
        secure = urlsplit(address).scheme == "https"
        proxy = _proxy_for(address)
        http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=settings.connections,
                keepalive_timeout=settings.keepalive_s,
                ssl=await asyncio.to_thread(_trusted) if secure else True,
            ),
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=min(settings.connect_timeout_s, settings.timeout_s)
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            read_bufsize=_READ_BYTES,
            proxy=proxy,
            proxy_auth=_login_of(proxy),
        )
        session = _Session(http, self.endpoint)
        session.unused = weakref.finalize(self, session.close_soon, asyncio.get_running_loop())
        return session

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


class _Session:
    """A session, the headers of its requests, and what closes it with its loop."""

    def __init__(self, http: aiohttp.ClientSession, endpoint: Endpoint) -> None:
        self.http = http
        self.headers = _headers(endpoint)
        self._base_url = (endpoint.base_url or OPENAI).rstrip("/")
        self.unused: weakref.finalize[..., Any] | None = None
        self.keeper = self._keep()
        with suppress(StopIteration):  # run to its `yield`: from here on the loop will close it
            self.keeper.__anext__().send(None)

    def url(self, path: str) -> URL:
        return URL(f"{self._base_url}{path}")

    async def _keep(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            await self.http.close()
            if self.unused is not None:
                self.unused.detach()

    def close_soon(self, loop: asyncio.AbstractEventLoop) -> None:
        """Closes it in its loop, while there is one: nobody can use it any more."""
        if loop.is_running():
            asyncio.run_coroutine_threadsafe(self.keeper.aclose(), loop)


def _headers(endpoint: Endpoint) -> CIMultiDict[str]:
    """What `openai`'s client would send: organisation and project are read where it reads them."""
    headers = CIMultiDict(_HEADERS)
    headers["Authorization"] = f"Bearer {endpoint.api_key.get_secret_value() or NO_KEY}"
    for name, variable in _ACCOUNT.items():
        if value := os.environ.get(variable):
            headers[name] = value
    headers.update(endpoint.headers)
    return headers


def _proxy_for(address: str) -> URL | None:
    """The proxy that the environment names for an address.

    aiohttp's `trust_env` would look it up in two threads for every request, and read `~/.netrc`.
    """
    parts = urlsplit(address)
    found = getproxies().get(parts.scheme)
    return URL(found) if found and not proxy_bypass(parts.netloc) else None


def _login_of(proxy: URL | None) -> aiohttp.BasicAuth | None:
    if proxy is None or proxy.user is None:
        return None
    return aiohttp.BasicAuth(proxy.user, proxy.password or "")


@cache
def _trusted() -> ssl.SSLContext:
    """Shared by all sessions: reading the certificates takes 20 ms."""
    return httpx.create_ssl_context()


_REFUSALS: Mapping[int, type[openai.APIStatusError]] = {
    400: openai.BadRequestError,
    401: openai.AuthenticationError,
    403: openai.PermissionDeniedError,
    404: openai.NotFoundError,
    409: openai.ConflictError,
    422: openai.UnprocessableEntityError,
    429: openai.RateLimitError,
}


def _refusal(response: aiohttp.ClientResponse, content: bytes) -> openai.APIStatusError:
    """The error that `openai`'s client would raise for a response."""
    told = content.decode("utf-8", "replace").strip()
    try:
        body = orjson.loads(content)
    except orjson.JSONDecodeError:
        body = told
    status = response.status
    server = openai.InternalServerError if status >= 500 else openai.APIStatusError
    kept = [(k, v) for k, v in response.headers.items() if k.lower() != "content-encoding"]
    return _REFUSALS.get(status, server)(
        f"Error code: {status} - {body}",
        response=httpx.Response(
            status, headers=kept, content=content, request=_request(response.url)
        ),
        body=body.get("error", body) if isinstance(body, dict) else body,
    )


def _request(url: URL) -> httpx.Request:
    return httpx.Request("POST", str(url))
