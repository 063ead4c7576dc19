"""Remote models over real HTTP: what is sent, what is refused, and that no key is ever shown."""

from __future__ import annotations

import asyncio
import gc
import json
import traceback
import warnings
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest

from provider import KEY, Provider, word_vector
from rag_lab.errors import ModelConfigError, ModelError, ProviderError, SettingsError
from rag_lab.gateway.gateway import Gateway
from rag_lab.gateway.llama import GatewayEmbedding, GatewayLLM
from rag_lab.models import Models, build_models
from rag_lab.settings import Settings, load_settings


def settings(provider: Provider, **more: Any) -> Settings:
    known = {"model": "words", "base_url": provider.base_url, "api_key": KEY}
    return load_settings(
        embed={**known, **more},
        llm={**known, "model": "house-model-7"},
        gateway={"attempts": 1, "question_patience_s": 0.01},
    )


def embedder(provider: Provider, **more: Any) -> GatewayEmbedding:
    made = build_models(settings(provider, **more)).embedder
    assert isinstance(made, GatewayEmbedding)
    return made


async def test_vectors_come_back_in_order_at_unit_length(provider: Provider) -> None:
    texts = [f"text number {number}" for number in range(5)]
    embedded = await embedder(provider).embed_documents(texts)
    assert (embedded.matrix.dtype, embedded.matrix.shape) == (np.float32, (5, 48))
    assert np.linalg.norm(embedded.matrix, axis=1) == pytest.approx(np.ones(5), abs=1e-6)
    for row, text in zip(embedded.matrix, texts, strict=True):
        assert row == pytest.approx(word_vector(text, 48), abs=1e-6)
    assert (embedded.failed, embedded.calls, provider.calls) == ({}, 1, 1)


async def test_what_is_sent(provider: Provider) -> None:
    await embedder(provider, dimensions=16).embed_documents(["one", "two"])
    asked = provider.asked[0]
    assert asked.body == {
        "model": "words",
        "input": ["one", "two"],
        "dimensions": 16,
        "encoding_format": "base64",
    }
    assert asked.authorization == f"Bearer {KEY}"


async def test_dimensions_are_sent_only_if_set(provider: Provider) -> None:
    made = embedder(provider)
    await made.embed_query("one")
    assert "dimensions" not in provider.asked[0].body
    assert made.dimensions is None
    assert embedder(provider, dimensions=16).dimensions == 16


async def test_a_question_is_embedded_like_a_text(provider: Provider) -> None:
    vector = await embedder(provider).embed_query("yellow fruit")
    assert vector.shape == (48,)
    assert vector == pytest.approx(word_vector("yellow fruit", 48), abs=1e-6)


async def test_replies_in_another_order_are_put_right(provider: Provider) -> None:
    provider.faults.append("order")
    embedded = await embedder(provider).embed_documents(["first one", "second two"])
    assert embedded.matrix[0] == pytest.approx(word_vector("first one", 48), abs=1e-6)


def test_settings_become_limits(provider: Provider) -> None:
    made = embedder(provider, batch_size=7)
    assert made.batch_limits.items == 7
    assert made.gateway.settings.attempts == 1


async def test_no_connection_is_left_open(
    provider: Provider, until: Callable[[Callable[[], Awaitable[bool]]], Awaitable[None]]
) -> None:
    async def closed() -> bool:
        return provider.open_connections == 0

    provider.keep_alive = True
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        for number in range(3):
            await embedder(provider).embed_query(f"question {number}")
        gc.collect()
    assert [str(warning.message) for warning in seen] == []
    assert provider.calls == 3
    await until(closed)


FAULTS = [
    (401, r"refused the key \(HTTP 401\)\. Check RAG_LAB_EMBED_API_KEY", ModelError),
    (403, r"refused the key \(HTTP 403\)", ModelError),
    (404, r"does not exist \(HTTP 404\)\. Check RAG_LAB_EMBED_MODEL and RAG", ModelError),
    (400, r"refused the request \(HTTP 400\)", ModelError),
    (429, r"rate limit \(HTTP 429\)\. Run again later: what is done is kept", ProviderError),
    (500, r"answered with an error \(HTTP 500\)\. Run again later", ProviderError),
    ("count", r"another number of vectors than texts", ModelError),
    ("ragged", r"one length; theirs are of 188, 192 bytes", ModelError),
    ("nan", r"sent NaN or infinity each time", ModelError),
    ("zero", r"sent a zero vector each time", ModelError),
]


@pytest.mark.parametrize(("fault", "message", "kind"), FAULTS)
async def test_a_fault_says_what_happened_and_what_to_do(
    provider: Provider, fault: int | str, message: str, kind: type[ModelError]
) -> None:
    provider.faults.append(fault)
    provider.lasting = True
    texts = ["one", "two"] if fault == "ragged" else ["one"]
    made = embedder(provider)
    outcomes = await asyncio.gather(*map(made.embed_query, texts), return_exceptions=True)
    with pytest.raises(kind, match=message) as raised:
        raise next(outcome for outcome in outcomes if isinstance(outcome, Exception))
    assert isinstance(raised.value, ProviderError) == (kind is ProviderError)
    assert KEY not in "".join(traceback.format_exception(raised.value))


async def test_wrong_dimensions_are_named(provider: Provider) -> None:
    provider.faults.append("dimensions")
    with pytest.raises(
        ModelError, match=r"expected 16 dimensions, got 15: .*Set RAG_LAB_EMBED_DIM"
    ):
        await embedder(provider, dimensions=16).embed_documents(["one"])


async def test_a_provider_that_hangs_is_given_up(provider: Provider) -> None:
    provider.faults.append("hang")
    with pytest.raises(ModelError, match=r"did not answer in time\. Raise RAG_LAB_EMBED_TIMEOUT_S"):
        await embedder(provider, timeout_s=0.2).embed_query("one")


async def test_a_server_that_is_not_there_is_named_by_host() -> None:
    with Provider() as gone:
        made = embedder(gone)
    with pytest.raises(
        ProviderError, match=r"at 127\.0\.0\.1:\d+ cannot be reached\. Is the server up"
    ):
        await made.embed_query("one")


async def test_a_passing_fault_is_retried(provider: Provider) -> None:
    provider.faults.append(500)
    embedded = await embedder(provider).embed_documents(["one"])
    assert embedded.failed == {}
    assert provider.calls == 2


@pytest.mark.parametrize("stage", ["embed", "llm"])
def test_a_model_without_key_and_address_is_half_configured(stage: str) -> None:
    named = stage.upper()
    expected = rf"RAG_LAB_{named}_MODEL is set, but neither RAG_LAB_{named}_API_KEY nor"
    with pytest.raises(ModelConfigError, match=expected):
        build_models(load_settings(**{stage: {"model": "some-model"}}))


async def test_a_local_server_needs_no_key(provider: Provider) -> None:
    await embedder(provider, api_key="").embed_query("one")
    assert provider.asked[0].authorization == "Bearer no-key"


def test_nothing_configured_is_local() -> None:
    assert build_models(load_settings()) == Models(None, None, None)


def test_models_share_a_gateway(provider: Provider) -> None:
    chosen = settings(provider)
    models = build_models(chosen)
    assert isinstance(models.embedder, GatewayEmbedding)
    assert isinstance(models.llm, GatewayLLM)
    assert models.gateway is models.embedder.gateway is models.llm.gateway
    own = Gateway(chosen.gateway)
    assert build_models(chosen, own).gateway is own


async def test_what_was_embedded_is_kept_from_one_run_to_the_next(provider: Provider) -> None:
    for _ in range(2):
        made = embedder(provider)
        await made.aget_text_embedding("one")
        await made.gateway.aclose()
    assert provider.calls == 1


def test_the_key_is_nowhere_to_be_read(provider: Provider) -> None:
    chosen = settings(provider)
    models = build_models(chosen)
    assert isinstance(models.embedder, GatewayEmbedding)
    shown = [
        chosen,
        chosen.embed,
        chosen.llm,
        models,
        models.embedder,
        models.llm,
        models.gateway,
    ]
    for thing in shown:
        for text in (repr(thing), str(thing), f"{thing}"):
            assert KEY not in text, f"{type(thing).__name__} shows its key"
    assert KEY not in json.dumps(chosen.public())
    assert KEY not in models.embedder.identity
    assert KEY not in json.dumps(chosen.embed.model_dump(mode="json"))


def test_a_login_in_the_address_is_refused_without_showing_it() -> None:
    with pytest.raises(SettingsError, match=r"embed\.base_url.*holds a login") as raised:
        load_settings(embed={"model": "m", "base_url": "http://me:hidden-word@host:1/v1"})
    assert "hidden-word" not in str(raised.value)


def test_another_model_or_endpoint_is_another_identity(provider: Provider) -> None:
    here = embedder(provider)
    assert here.identity != embedder(provider, model="other").identity
    assert here.identity != embedder(provider, base_url="http://127.0.0.1:1/v1").identity
    assert here.identity == embedder(provider, api_key="another", batch_size=3).identity


async def test_a_chat_model_of_any_name_answers(provider: Provider) -> None:
    llm = build_models(settings(provider)).llm
    assert llm is not None
    assert llm.metadata.model_name == "house-model-7"
    assert llm.metadata.context_window == 16_384
    reply = await llm.acomplete("Say something.")
    assert str(reply) == provider.answer
    assert provider.asked[0].body == {
        "model": "house-model-7",
        "messages": [{"role": "user", "content": "Say something."}],
        "temperature": 0,
        "max_tokens": 512,
    }
