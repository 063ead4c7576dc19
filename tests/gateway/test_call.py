"""Calls over real HTTP on loopback: what goes out, what comes back, and what can go wrong."""

from __future__ import annotations

import asyncio
import base64
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import numpy as np
import openai
import pytest
from aiohttp import web
from pydantic import SecretStr

from provider import KEY, word_vector
from rag_lab.errors import ModelConfigError, SettingsError
from rag_lab.gateway.call import CallSettings, ChatCall, EmbeddingCall, Endpoint
from rag_lab.gateway.reply import (
    ReplyCountError,
    ReplyDimensionError,
    ReplyValueError,
    UnreadableReplyError,
    UnsendableTextError,
)

DIMENSIONS = 24
Handler = Callable[[web.Request, dict[str, Any]], Awaitable[web.StreamResponse]]


class Server:
    """An OpenAI-compatible provider in the test's own loop; `answer` may be replaced."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.headers: list[Any] = []
        self.peers: set[Any] = set()
        self.answer: Handler = vectors()
        self.url = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(await request.json())
        self.headers.append(request.headers)
        assert request.transport is not None
        self.peers.add(request.transport.get_extra_info("peername"))
        return await self.answer(request, self.asked[-1])

    def endpoint(self, **more: Any) -> Endpoint:
        return Endpoint("words", self.url, SecretStr(KEY), **more)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    served = Server()
    app = web.Application(client_max_size=2**26)
    app.router.add_post("/v1/embeddings", served.handle)
    app.router.add_post("/v1/chat/completions", served.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    served.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    yield served
    await runner.cleanup()


@pytest.fixture
async def call(server: Server) -> AsyncIterator[EmbeddingCall]:
    made = EmbeddingCall(server.endpoint(), CallSettings(timeout_s=5))
    yield made
    await made.aclose()


def items_of(body: dict[str, Any]) -> list[dict[str, Any]]:
    rows = [word_vector(text, body.get("dimensions") or DIMENSIONS) for text in body["input"]]
    if body["encoding_format"] == "base64":
        encoded: list[Any] = [base64.b64encode(row.tobytes()).decode() for row in rows]
    else:
        encoded = [row.tolist() for row in rows]
    return [{"index": place, "embedding": value} for place, value in enumerate(encoded)]


def vectors(change: Callable[[list[dict[str, Any]]], Any] = lambda items: items) -> Handler:
    """Answers with the vectors of the texts, changed."""

    async def answer(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        usage = {"prompt_tokens": 7, "total_tokens": 7}
        reply = {"model": body["model"], "data": change(items_of(body)), "usage": usage}
        return web.json_response(reply, headers={"x-ratelimit-remaining-requests": "9"})

    return answer


def status(code: int, **headers: str) -> Handler:
    async def answer(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        error = {"message": f"refused, you sent {KEY}", "param": "input", "code": None}
        return web.json_response({"error": error}, status=code, headers=headers)

    return answer


async def test_texts_become_unit_rows(server: Server, call: EmbeddingCall) -> None:
    reply = await call(["umi no oto", "yama", "日本語"])
    expected = [word_vector(text, DIMENSIONS) for text in ("umi no oto", "yama", "日本語")]
    np.testing.assert_allclose(reply.matrix, expected, rtol=1e-6)
    assert (reply.tokens, reply.model) == (7, "words")
    assert reply.headers["X-RateLimit-Remaining-Requests"] == "9"
    assert reply.decode_s > 0


async def test_what_goes_out(server: Server) -> None:
    call = EmbeddingCall(server.endpoint(dimensions=8, headers={"x-team": "lab"}))
    reply = await call(("a", "b"))
    assert reply.matrix.shape == (2, 8)
    assert server.asked == [
        {"input": ["a", "b"], "model": "words", "encoding_format": "base64", "dimensions": 8}
    ]
    (headers,) = server.headers
    assert headers["Authorization"] == f"Bearer {KEY}"
    assert headers["Content-Type"] == "application/json"
    assert headers["Accept-Encoding"] == "identity"
    assert headers["x-team"] == "lab"
    await call.aclose()


async def test_no_key_is_needed_by_a_local_server(server: Server) -> None:
    call = EmbeddingCall(Endpoint("words", server.url))
    assert len((await call(["a"])).matrix) == 1
    await call.aclose()


def as_lists(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {**item, "embedding": np.frombuffer(base64.b64decode(item["embedding"]), "<f4").tolist()}
        for item in items
    ]


@pytest.mark.parametrize(
    "change",
    [lambda items: items[::-1], as_lists, lambda items: as_lists(items)[::-1]],
    ids=["shuffled", "float lists", "shuffled float lists"],
)
async def test_other_forms_of_the_same(server: Server, call: EmbeddingCall, change: Any) -> None:
    server.answer = vectors(change)
    texts = [f"text number {place}" for place in range(20)]
    reply = await call(texts)
    np.testing.assert_allclose(
        reply.matrix, [word_vector(text, DIMENSIONS) for text in texts], rtol=1e-5
    )


def with_nan(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    bad = base64.b64encode(np.full(DIMENSIONS, np.nan, "<f4").tobytes()).decode()
    return [*items[:-1], {**items[-1], "embedding": bad}]


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda items: items[1:], ReplyCountError),
        (with_nan, ReplyValueError),
        (lambda items: "nothing", UnreadableReplyError),
        (lambda items: [{**item, "embedding": [1.0, 2.0]} for item in items], ReplyDimensionError),
    ],
    ids=["count", "nan", "no list", "dimensions"],
)
async def test_wrong_replies(server: Server, change: Any, error: type[Exception]) -> None:
    call = EmbeddingCall(server.endpoint(dimensions=DIMENSIONS))
    server.answer = vectors(change)
    with pytest.raises(error):
        await call(["a", "b"])
    server.answer = vectors()
    assert len((await call(["a", "b"])).matrix) == 2  # the connection is as good as before
    await call.aclose()


async def test_json_that_was_cut_off(server: Server, call: EmbeddingCall) -> None:
    async def answer(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        return web.Response(text='{"data": [{"index": 0, "embed')

    server.answer = answer
    with pytest.raises(UnreadableReplyError, match="reply of 29 bytes is no JSON"):
        await call(["a"])


async def test_a_large_reply_is_decoded_off_the_loop(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rag_lab.gateway import call as module

    where = []
    decode = module.decode_embeddings

    def watched(*args: Any) -> Any:
        where.append(threading.current_thread() is threading.main_thread())
        return decode(*args)

    monkeypatch.setattr(module, "decode_embeddings", watched)
    call = EmbeddingCall(server.endpoint(), CallSettings(thread_from_bytes=1_000))
    await call(["a"])
    await call(["a"] * 50)
    assert where == [True, False]
    await call.aclose()


@pytest.mark.parametrize("code", [400, 401, 404, 413, 422, 429, 500, 503])
async def test_a_refusal_keeps_status_and_headers(
    server: Server, call: EmbeddingCall, code: int
) -> None:
    server.answer = status(code, **{"retry-after": "3"})
    with pytest.raises(openai.APIStatusError) as caught:
        await call(["a"])
    assert caught.value.status_code == code
    assert caught.value.response.headers["Retry-After"] == "3"
    assert len(server.asked) == 1  # nothing is tried twice here


async def cut_in_mid_body(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": "1000"})
    await response.prepare(request)
    await response.write(b'{"data": [')
    assert request.transport is not None
    request.transport.abort()
    return response


async def reset(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


@pytest.mark.parametrize("fault", [cut_in_mid_body, reset])
async def test_a_lost_connection_is_no_timeout(
    server: Server, call: EmbeddingCall, fault: Handler
) -> None:
    server.answer = fault
    with pytest.raises(openai.APIConnectionError) as caught:
        await call(["a"])
    assert not isinstance(caught.value, openai.APITimeoutError)
    server.answer = vectors()
    assert len((await call(["a"])).matrix) == 1


async def test_nobody_listens() -> None:
    call = EmbeddingCall(Endpoint("words", "http://127.0.0.1:9/v1"))
    with pytest.raises(openai.APIConnectionError) as caught:
        await call(["a"])
    assert not isinstance(caught.value, openai.APITimeoutError)
    await call.aclose()


async def test_silence_is_a_timeout(server: Server) -> None:
    async def silent(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        await asyncio.sleep(30)
        return web.Response()

    async def trickle(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(1_000):
            await response.write(b" ")
            await asyncio.sleep(0.01)
        return response

    call = EmbeddingCall(server.endpoint(), CallSettings(timeout_s=0.05))
    for server.answer in (silent, trickle):
        with pytest.raises(openai.APITimeoutError):
            await call(["a"])
    await call.aclose()


async def test_a_cancelled_call_leaves_a_usable_client(server: Server, call: EmbeddingCall) -> None:
    arrived = asyncio.Event()

    async def slow(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        arrived.set()
        await asyncio.sleep(30)
        return web.Response()

    server.answer = slow
    task = asyncio.create_task(call(["a"]))
    await asyncio.wait_for(arrived.wait(), 5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    server.answer = vectors()
    assert len((await call(["b"])).matrix) == 1


async def test_an_unsendable_text_is_not_sent(server: Server, call: EmbeddingCall) -> None:
    with pytest.raises(UnsendableTextError) as caught:
        await call(["good", "half \ud83d"])
    assert caught.value.places == (1,)
    assert server.asked == []


async def test_connections_are_kept_and_as_many_as_needed(
    server: Server, call: EmbeddingCall
) -> None:
    for _ in range(3):
        await call(["a"])
    assert len(server.peers) == 1
    together = 130  # more than an HTTP client's usual 100
    arrived, all_here = 0, asyncio.Event()
    plain = vectors()

    async def wait_for_all(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        nonlocal arrived
        arrived += 1
        if arrived == together:
            all_here.set()
        await all_here.wait()
        return await plain(request, body)

    server.answer = wait_for_all
    await asyncio.gather(*(call([str(place)]) for place in range(together)))
    assert arrived == together


async def test_one_object_serves_loops_that_come_and_go(server: Server) -> None:
    call = EmbeddingCall(server.endpoint())
    chat = ChatCall(server.endpoint())

    def another_loop() -> int:
        async def ask() -> int:
            replies = await asyncio.gather(call(["a"]), call(["b"]))
            return sum(len(reply.matrix) for reply in replies)

        return asyncio.run(ask())

    assert len((await call(["here"])).matrix) == 1
    for _ in range(3):
        assert await asyncio.to_thread(another_loop) == 2  # unclosed connections would warn
    assert len((await call(["here"])).matrix) == 1
    await call.aclose()
    assert len((await call(["again"])).matrix) == 1
    await call.aclose()
    await call.aclose()
    await chat.aclose()


async def test_a_forgotten_object_closes_its_connections(server: Server) -> None:
    call = EmbeddingCall(server.endpoint())
    await call(["a"])
    del call  # unclosed connections would warn, and warnings are errors
    await asyncio.sleep(0.01)


async def test_a_chat_answer(server: Server) -> None:
    async def answer(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        choice = {"index": 0, "finish_reason": "stop", "message": {"content": "Umi."}}
        usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
        reply = {"model": "chatty", "choices": [choice], "usage": usage}
        return web.json_response(reply, headers={"x-request-id": "r-1"})

    server.answer = answer
    chat = ChatCall(server.endpoint(), options={"temperature": 0, "max_tokens": 9})
    messages = [{"role": "user", "content": "What is the sea?"}]
    reply = await chat(messages, max_tokens=4)
    assert (reply.content, reply.finish_reason, reply.model) == ("Umi.", "stop", "chatty")
    assert (reply.prompt_tokens, reply.completion_tokens) == (3, 2)
    assert reply.headers["x-request-id"] == "r-1"
    assert server.asked == [
        {"model": "words", "messages": messages, "temperature": 0, "max_tokens": 4}
    ]
    with pytest.raises(UnsendableTextError):
        await chat([{"role": "user", "content": "\ud800"}])
    await chat.aclose()


async def test_no_repr_and_no_error_shows_the_key(server: Server) -> None:
    endpoint = server.endpoint(headers={"api-key": KEY})
    call, chat = EmbeddingCall(endpoint), ChatCall(endpoint)
    server.answer = vectors(lambda items: KEY)
    shown = [repr(thing) for thing in (endpoint, call, chat, call._transport, vars(call))]
    with pytest.raises(UnreadableReplyError) as caught:
        await call(["a"])
    assert all(KEY not in text for text in (*shown, str(caught.value), repr(caught.value)))
    await call.aclose()


@pytest.mark.parametrize("key", ["sk-1\n", " sk-1", "sk–1", "sk\x00"])
def test_a_key_that_no_header_can_carry_is_refused_unseen(key: str) -> None:
    with pytest.raises(ModelConfigError, match="Copy it again") as caught:
        Endpoint("words", "http://localhost/v1", SecretStr(key))
    assert "sk" not in str(caught.value)


def test_settings_must_be_possible() -> None:
    with pytest.raises(SettingsError, match=r"timeout_s must be more than 0, got 0"):
        CallSettings(timeout_s=0)
