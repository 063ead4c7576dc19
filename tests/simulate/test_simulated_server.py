"""Each endpoint, over real HTTP, with the real client."""

from __future__ import annotations

import asyncio
import base64
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import openai
import orjson
import pytest
from openai import AsyncOpenAI

from rag_lab.corpora.analysis import Analyzer
from rag_lab.errors import SettingsError
from rag_lab.models.local import LsaEmbedder
from rag_lab.simulate import expected_vector

Use = Callable[..., Any]

Client = Callable[..., AsyncOpenAI]
TEXTS = ["one", "two", "three"]


async def embed(client: AsyncOpenAI, texts: Any, **more: Any) -> Any:
    return await client.embeddings.create(model="simulated", input=texts, **more)


@pytest.mark.parametrize("encoding", ["float", "base64", None])
async def test_embeddings(use: Use, client: Client, encoding: str | None) -> None:
    await use()
    more = {"encoding_format": encoding} if encoding else {}
    async with client() as opened:
        reply = await embed(opened, TEXTS, **more)
    assert [item.index for item in reply.data] == [0, 1, 2]
    for item, text in zip(reply.data, TEXTS, strict=True):
        found = item.embedding
        if isinstance(found, str):
            found = np.frombuffer(base64.b64decode(found), "<f4")
        np.testing.assert_array_equal(np.float32(found), expected_vector(text, 8))
    assert reply.model == "simulated"
    assert reply.usage.prompt_tokens == reply.usage.total_tokens == 4  # 1 + 1 + 2


async def test_one_text_dimensions_and_token_ids(use: Use, client: Client) -> None:
    await use()
    async with client() as opened:
        (one,) = (await embed(opened, "one", dimensions=32)).data
        np.testing.assert_array_equal(np.float32(one.embedding), expected_vector("one", 32))
        assert len((await embed(opened, [1, 2, 3])).data) == 1
        assert len((await embed(opened, [[1, 2], [3]])).data) == 2


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b'{"input": "a"}',
        b'{"model": "simulated"}',
        b'{"model": "simulated", "input": []}',
        b'{"model": "simulated", "input": ["a", ""]}',
        b'{"model": "simulated", "input": "a", "encoding_format": "hex"}',
        b'{"model": "simulated", "input": "a", "dimensions": 0}',
        b'{"model": "simulated", "input": "a", "dimensions": true}',
    ],
)
async def test_bodies_that_no_provider_takes(use: Use, http: Any, body: bytes) -> None:
    provider = await use()
    async with http() as session, session.post("embeddings", data=body) as reply:
        assert reply.status == 400
        assert reply.headers["x-simulated"] == "true"
        assert (await reply.json())["error"]["type"] == "invalid_request_error"
    assert (await provider.stats()).statuses == {400: 1}


CHAT = [
    {"role": "system", "content": "Answer from the context."},
    {"role": "user", "content": [{"type": "text", "text": "The sky is blue. Grass is green."}]},
    {"role": "user", "content": "Query: What colour is the sky?"},
]


async def test_chat(use: Use, client: Client) -> None:
    await use()
    async with client() as opened:
        reply = await opened.chat.completions.create(model="simulated", messages=CHAT)  # type: ignore[arg-type]
        short = await opened.chat.completions.create(
            model="simulated",
            messages=CHAT,  # type: ignore[arg-type]
            max_tokens=2,
        )
    assert reply.choices[0].message.content == "The sky is blue."
    assert reply.choices[0].finish_reason == "stop"
    assert reply.usage is not None
    assert reply.usage.completion_tokens == 4
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + 4
    assert (short.choices[0].message.content, short.choices[0].finish_reason) == (
        "The sky",
        "length",
    )


@pytest.mark.parametrize("pace_ms", [0, 1])
async def test_streamed_chat(use: Use, client: Client, pace_ms: int) -> None:
    provider = await use(chat_latency={"per_output_token_ms": pace_ms})
    async with client() as opened:
        stream = await opened.chat.completions.create(
            model="simulated",
            messages=CHAT,  # type: ignore[arg-type]
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = [chunk async for chunk in stream]
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == "The sky is blue."
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 4
    assert (await provider.stats()).by_endpoint == {"chat": 1}


async def test_models(use: Use, client: Client) -> None:
    await use(models=("small", "large"))
    async with client() as opened:
        listed = [model async for model in opened.models.list()]
        assert [(model.id, model.owned_by) for model in listed] == [
            ("small", "rag-lab simulation"),
            ("large", "rag-lab simulation"),
        ]
        assert (await opened.models.retrieve("small")).id == "small"
        with pytest.raises(openai.NotFoundError, match="model 'medium' does not exist"):
            await opened.models.retrieve("medium")
        with pytest.raises(openai.NotFoundError, match="model 'simulated' does not exist"):
            await embed(opened, "text")


async def test_a_key_is_asked_for_if_set(use: Use, client: Client) -> None:
    provider = await use(api_key="sk-right")
    async with client(api_key="sk-wrong") as wrong, client(api_key="sk-right") as right:
        with pytest.raises(openai.AuthenticationError):
            await embed(wrong, "text")
        with pytest.raises(openai.AuthenticationError):
            await wrong.models.list()
        assert await embed(right, "text")
    assert (await provider.stats()).statuses == {200: 1, 401: 1}


async def test_other_addresses(use: Use, http: Any) -> None:
    await use()
    async with http() as session:
        async with session.get("embeddings") as reply:
            assert reply.status == 404
        async with session.post("completions", json={}) as reply:
            assert reply.status == 404
            assert reply.headers["x-simulated"] == "true"


async def test_bodies_of_megabytes(use: Use, http: Any) -> None:
    await use()
    texts = ["x" * 10_000 + str(number) for number in range(300)]
    body = orjson.dumps({"model": "simulated", "input": texts, "encoding_format": "base64"})
    async with http() as session, session.post("embeddings", data=io.BytesIO(body)) as reply:
        assert len((await reply.json())["data"]) == 300


async def test_statistics(use: Use, client: Client) -> None:
    provider = await use(time_scale=0.1, latency={"base_ms": 50}, models=("simulated",))
    async with client() as opened:
        await asyncio.gather(embed(opened, ["a", "b"]), embed(opened, ["b"]))
        with pytest.raises(openai.NotFoundError):
            await opened.embeddings.create(model="other", input="c")
    stats = await provider.stats(texts=True, times=True)
    assert (stats.calls, stats.texts, stats.tokens, stats.served) == (3, 3, 3, 2)
    assert stats.text_counts == {"a": 1, "b": 2, "c": 1}
    assert stats.times is not None
    assert [call.status for call in stats.times] == [200, 200, 404]
    for call in stats.times[:2]:
        assert call.started_s is not None
        assert call.ended_s is not None
        assert call.ended_s - call.started_s >= 0.049  # modelled: 5 ms in real time
    assert 0 <= stats.times[0].arrived_s < 0.05
    assert stats.first_call_at is not None
    assert (await provider.stats()).text_counts is None
    assert "3 calls (200: 2, 404: 1), 3 texts" in str(stats)
    async with client() as opened:
        told = await opened.get("/../stats", cast_to=object)
    assert told["simulated"] is True  # type: ignore[index]


async def test_a_reset_starts_afresh(use: Use, client: Client) -> None:
    provider = await use(requests_per_minute=1)
    async with client() as opened:
        await embed(opened, "a")
        await provider.change(dimensions=16)
        with pytest.raises(openai.RateLimitError):
            await embed(opened, "a")
        await provider.reset()
        assert (await provider.stats()).calls == 0
        assert len((await embed(opened, "a")).data[0].embedding) == 8


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"capacity": 0}, "capacity"),
        ({"colour": 1}, "colour"),
        ({"time_scale": 2}, "time_scale can only change with a reset"),
    ],
)
async def test_a_change_that_cannot_be(use: Use, changes: dict[str, Any], says: str) -> None:
    provider = await use()
    with pytest.raises(SettingsError, match=says):
        await provider.change(**changes)


async def test_the_real_embedder_is_served(use: Use, client: Client, tmp_path: Path) -> None:
    texts = ["Pidana denda dijatuhkan hakim", "Anak berhak belajar", "Hakim memutus perkara"]
    known = np.zeros(0, np.uint64)
    fitted = LsaEmbedder.fit(texts, Analyzer("id"), dimensions=4, max_features=50, known=known)
    fitted.save(tmp_path / "fit")
    provider = await use(embedder=tmp_path / "fit")
    async with client() as opened:
        replies = await asyncio.gather(*(embed(opened, [text]) for text in texts))
        vectors = np.float32([reply.data[0].embedding for reply in replies])
        np.testing.assert_allclose(vectors, fitted.vectors(texts), atol=1e-6)
        with pytest.raises(openai.BadRequestError, match="dimensions must be from 1 to"):
            await embed(opened, "text", dimensions=fitted.dimensions + 1)
    with pytest.raises(SettingsError, match="cannot be read"):
        await provider.change(embedder=tmp_path / "nothing")
