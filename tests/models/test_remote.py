"""Remote models over real HTTP: what is sent, what is refused, and that no key is ever shown."""

from __future__ import annotations

import gc
import json
import traceback
import warnings
from typing import Any

import numpy as np
import pytest

from provider import KEY, Provider, word_vector
from rag_lab.errors import ModelConfigError, ModelError, SettingsError
from rag_lab.models import Models, build_models
from rag_lab.models.remote import RemoteEmbedder
from rag_lab.settings import Settings, load_settings


def settings(provider: Provider, **more: Any) -> Settings:
    chosen = {"model": "words", "base_url": provider.base_url, "api_key": KEY, "max_retries": 0}
    return load_settings(embed={**chosen, **more}, llm={**chosen, "model": "house-model-7"})


def embedder(provider: Provider, **more: Any) -> RemoteEmbedder:
    return RemoteEmbedder(settings(provider, **more).embed)


async def test_vectors_come_back_in_order_at_unit_length(provider: Provider) -> None:
    texts = [f"text number {number}" for number in range(5)]
    matrix = await embedder(provider).embed_batch(texts)
    assert (matrix.dtype, matrix.shape) == (np.float32, (5, 48))
    assert np.linalg.norm(matrix, axis=1) == pytest.approx(np.ones(5), abs=1e-6)
    for row, text in zip(matrix, texts, strict=True):
        assert row == pytest.approx(word_vector(text, 48), abs=1e-6)
    assert provider.calls == 1


async def test_what_is_sent(provider: Provider) -> None:
    await embedder(provider, dimensions=16).embed_batch(["one", "two"])
    asked = provider.asked[0]
    assert asked.body["model"] == "words"
    assert asked.body["input"] == ["one", "two"]
    assert asked.body["dimensions"] == 16
    assert asked.body["encoding_format"] == "base64"
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
    matrix = await embedder(provider).embed_batch(["first one", "second two"])
    assert matrix[0] == pytest.approx(word_vector("first one", 48), abs=1e-6)


async def test_no_connection_is_left_open(provider: Provider) -> None:
    provider.keep_alive = True
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        for _ in range(3):
            await embedder(provider).embed_query("one")
        gc.collect()
    assert [str(warning.message) for warning in seen] == []
    assert provider.open_connections <= 1


FAULTS = [
    (401, r"refused the key \(HTTP 401\)\. Check RAG_LAB_EMBED_API_KEY"),
    (403, r"refused the key \(HTTP 403\)"),
    (404, r"does not exist \(HTTP 404\)\. Check RAG_LAB_EMBED_MODEL and RAG_LAB_EMBED_BASE_URL"),
    (429, r"rate limit \(HTTP 429\)\. Wait and run again: what was embedded is kept"),
    (500, r"answered HTTP 500\. Run again later"),
    (400, r"HTTP 400"),
    ("count", r"asked for 2 vectors, got 1"),
    ("nan", r"NaN or infinite"),
    ("zero", r"zero vector"),
    ("ragged", r"differing lengths"),
]


@pytest.mark.parametrize(("fault", "message"), FAULTS)
async def test_a_fault_says_what_happened_and_what_to_do(
    provider: Provider, fault: int | str, message: str
) -> None:
    provider.faults.append(fault)
    with pytest.raises(ModelError, match=message) as raised:
        await embedder(provider).embed_batch(["one", "two"])
    assert provider.calls == 1
    told = "".join(traceback.format_exception(raised.value))
    assert KEY not in told


async def test_wrong_dimensions_are_named(provider: Provider) -> None:
    provider.faults.append("dimensions")
    with pytest.raises(
        ModelError, match=r"asked for 16 dimensions, got 15\. Set RAG_LAB_EMBED_DIM"
    ):
        await embedder(provider, dimensions=16).embed_batch(["one"])


async def test_a_provider_that_hangs_is_given_up(provider: Provider) -> None:
    provider.faults.append("hang")
    with pytest.raises(ModelError, match=r"did not answer in time\. Raise RAG_LAB_EMBED_TIMEOUT_S"):
        await embedder(provider, timeout_s=0.2).embed_batch(["one"])


async def test_a_server_that_is_not_there_is_named_by_host() -> None:
    with Provider() as gone:
        made = embedder(gone)
    with pytest.raises(
        ModelError, match=r"at 127\.0\.0\.1:\d+ cannot be reached\. Is the server up"
    ):
        await made.embed_batch(["one"])


async def test_a_passing_fault_is_retried(provider: Provider) -> None:
    provider.faults.append(500)
    matrix = await embedder(provider, max_retries=2).embed_batch(["one"])
    assert len(matrix) == 1
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
    assert build_models(load_settings()) == Models(None, None)


def test_the_key_is_nowhere_to_be_read(provider: Provider) -> None:
    chosen = settings(provider)
    models = build_models(chosen)
    assert models.embedder is not None
    shown = [
        chosen,
        chosen.embed,
        chosen.llm,
        models,
        models.embedder,
        models.llm,
        models.embedder.llama_index(),  # type: ignore[attr-defined]
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
    assert provider.asked[0].body["model"] == "house-model-7"
    assert provider.asked[0].body["temperature"] == 0
