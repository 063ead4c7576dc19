"""The gateway in LlamaIndex's own parts: they work, sync or async, and no key is ever shown."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import numpy as np
import pytest
from llama_index.core import VectorStoreIndex
from llama_index.core.base.llms.types import ChatMessage, MessageRole
from llama_index.core.ingestion import IngestionPipeline
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.instrumentation.events import BaseEvent
from llama_index.core.instrumentation.events.embedding import EmbeddingEndEvent
from llama_index.core.instrumentation.events.llm import LLMChatEndEvent, LLMChatStartEvent
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.schema import TextNode
from llama_index.embeddings.openai import OpenAIEmbedding
from llama_index.llms.openai import OpenAI

from provider import KEY
from rag_lab.errors import ModelConfigError, ModelError
from rag_lab.gateway.gateway import Gateway
from rag_lab.gateway.llama import GatewayEmbedding, GatewayLLM
from rag_lab.simulate import SimulatedProvider, expected_vector
from rag_lab.telemetry.trace import tracing

pytestmark = pytest.mark.usefixtures("no_long_waits")

Use = Callable[..., Awaitable[SimulatedProvider]]

TEXTS = [f"text number {number}" for number in range(50)]
PROMPT = "The anchor is made of iron.\nQuestion: What is the anchor made of?"
ANSWER = "The anchor is made of iron."


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    made = Gateway()
    yield made
    made.close()


@pytest.fixture
def embedding(
    shared_provider: SimulatedProvider, gateway: Gateway
) -> Callable[..., GatewayEmbedding]:
    def made(**more: Any) -> GatewayEmbedding:
        known = {"api_base": shared_provider.base_url, "api_key": KEY, "model_name": "simulated"}
        return GatewayEmbedding.of(OpenAIEmbedding(**{**known, **more}), gateway)

    return made


@pytest.fixture
def llm(shared_provider: SimulatedProvider, gateway: Gateway) -> Callable[..., GatewayLLM]:
    def made(**more: Any) -> GatewayLLM:
        known = {"api_base": shared_provider.base_url, "api_key": KEY, "model": "simulated"}
        return GatewayLLM.of(OpenAI(**{**known, **more}), gateway)

    return made


@pytest.fixture
def events() -> Iterator[list[BaseEvent]]:
    """What LlamaIndex is told while the test runs."""
    seen: list[BaseEvent] = []

    class Handler(BaseEventHandler):
        def handle(self, event: BaseEvent, **_: Any) -> None:
            seen.append(event)

    handlers = get_dispatcher().event_handlers
    handlers.append(Handler())
    yield seen
    handlers.pop()


def assert_is(vector: list[float], text: str, dimensions: int = 8) -> None:
    assert all(type(value) is float for value in vector)
    np.testing.assert_allclose(vector, expected_vector(text, dimensions), atol=1e-6)


async def test_every_way_to_embed(use: Use, embedding: Callable[..., GatewayEmbedding]) -> None:
    await use()
    model = embedding()
    assert_is(await model.aget_query_embedding("one"), "one")
    assert_is(await model.aget_text_embedding("two"), "two")
    for text, vector in zip(TEXTS, await model.aget_text_embedding_batch(TEXTS), strict=True):
        assert_is(vector, text)
    # Sync calls inside a running loop, as in a notebook.
    assert_is(model.get_query_embedding("three"), "three")
    assert_is(model.get_text_embedding("four"), "four")
    for text, vector in zip(TEXTS, model.get_text_embedding_batch(TEXTS), strict=True):
        assert_is(vector, text)


async def test_it_is_an_embedder_of_ours(
    use: Use, embedding: Callable[..., GatewayEmbedding]
) -> None:
    provider = await use()
    model = embedding(dimensions=4, embed_batch_size=7)
    assert (model.dimensions, model.batch_limits.items, model.concurrency) == (4, 7, 16)
    assert model.identity == f"{provider.base_url}#simulated"
    embedded = await model.embed_documents(["one", "two"])
    assert embedded.matrix.shape == (2, 4)
    assert (await model.embed_query("one")).dtype == np.float32
    assert model.identity != embedding(model_name="other").identity


async def test_it_stands_for_the_model_it_was_made_of(
    use: Use, embedding: Callable[..., GatewayEmbedding], llm: Callable[..., GatewayLLM]
) -> None:
    await use()
    assert embedding().model_name == "simulated"
    chat = llm(max_tokens=64, temperature=0.5)
    assert (chat.model, chat.max_tokens, chat.temperature) == ("simulated", 64, 0.5)
    assert (chat.metadata.model_name, chat.metadata.num_output) == ("simulated", 64)
    assert chat.metadata.is_chat_model
    assert embedding().gateway is chat.gateway


def test_options_that_would_change_vectors_are_not_left_out_silently(
    embedding: Callable[..., GatewayEmbedding],
) -> None:
    with pytest.raises(ModelConfigError, match="is to be asked with 'input_type'"):
        embedding(additional_kwargs={"input_type": "passage"})


def test_options_of_a_chat_model_are_sent_under_its_own_names(
    llm: Callable[..., GatewayLLM],
) -> None:
    made = llm(additional_kwargs={"top_p": 0.5, "seed": 3}, max_tokens=9)
    assert made.additional_kwargs == {"top_p": 0.5, "seed": 3}
    reasoning = llm(model="o3-mini", max_tokens=9, reasoning_effort="low")
    assert reasoning.max_tokens is None
    assert reasoning.additional_kwargs == {"max_completion_tokens": 9, "reasoning_effort": "low"}


async def test_a_refused_text_fails_where_nothing_else_can_be_said(
    use: Use, embedding: Callable[..., GatewayEmbedding]
) -> None:
    await use(faults=[{"kind": "status", "status": 400, "marker": "number 7"}])
    with pytest.raises(ModelError, match=r"1 of 50 texts; text 7: .*refused the request"):
        await embedding().aget_text_embedding_batch(TEXTS)


async def test_an_index_and_its_query_engine(
    use: Use, embedding: Callable[..., GatewayEmbedding], llm: Callable[..., GatewayLLM]
) -> None:
    await use()
    nodes = [TextNode(text=text, id_=str(place)) for place, text in enumerate([ANSWER, *TEXTS])]
    index = VectorStoreIndex(nodes, embed_model=embedding())
    retriever = index.as_retriever(similarity_top_k=3)
    assert (await retriever.aretrieve(ANSWER))[0].node.node_id == "0"
    assert retriever.retrieve(TEXTS[4])[0].node.node_id == "5"
    engine = RetrieverQueryEngine.from_args(index.as_retriever(similarity_top_k=51), llm=llm())
    question = "What is the anchor made of?"
    assert str(await engine.aquery(question)) == ANSWER
    assert str(engine.query(question)) == ANSWER


async def test_an_ingestion_pipeline(use: Use, embedding: Callable[..., GatewayEmbedding]) -> None:
    provider = await use()
    pipeline = IngestionPipeline(transformations=[embedding()], disable_cache=True)
    nodes = [TextNode(text=text) for text in TEXTS]
    for node in await pipeline.arun(nodes=nodes):
        assert node.embedding is not None
        assert_is(node.embedding, node.text)
    assert len(pipeline.run(nodes=[TextNode(text="sync")])) == 1
    assert (await provider.stats()).texts == 51


async def test_every_way_to_chat(use: Use, llm: Callable[..., GatewayLLM]) -> None:
    provider = await use()
    model = llm()
    messages = [ChatMessage(role=MessageRole.USER, content=PROMPT)]
    assert (await model.achat(messages)).message.content == ANSWER
    assert (await model.acomplete(PROMPT)).text == ANSWER
    assert model.chat(messages).message.content == ANSWER
    assert model.complete(PROMPT).text == ANSWER
    assert (await provider.stats()).calls == 4
    assert (await model.achat(messages, max_tokens=2)).message.content == "The anch"


async def test_a_stream_is_one_piece(use: Use, llm: Callable[..., GatewayLLM]) -> None:
    await use()
    model = llm()
    messages = [ChatMessage(role=MessageRole.USER, content=PROMPT)]
    pieces = [
        [piece.delta async for piece in await model.astream_chat(messages)],
        [piece.delta async for piece in await model.astream_complete(PROMPT)],
        [piece.delta for piece in model.stream_chat(messages)],
        [piece.delta for piece in model.stream_complete(PROMPT)],
    ]
    assert pieces == [[ANSWER]] * 4


async def test_a_repeat_is_kept(
    use: Use, shared_provider: SimulatedProvider, tmp_path: Any
) -> None:
    provider = await use()
    gateway = Gateway(cache_folder=tmp_path)
    made = OpenAI(api_base=provider.base_url, api_key=KEY, model="simulated")
    model = GatewayLLM.of(made, gateway)
    model.repeat = 1
    for _ in range(2):
        assert (await model.acomplete(PROMPT)).text == ANSWER
    assert (await provider.stats()).calls == 1
    gateway.close()


def test_one_object_serves_loop_after_loop(
    use: Use, embedding: Callable[..., GatewayEmbedding], llm: Callable[..., GatewayLLM]
) -> None:
    asyncio.run(use())
    model, chat = embedding(), llm()
    for number in range(3):
        text = f"loop {number}"
        assert_is(asyncio.run(model.aget_query_embedding(text)), text)
        assert_is(model.get_text_embedding(text), text)
        assert asyncio.run(chat.acomplete(PROMPT)).text == ANSWER
        assert chat.complete(PROMPT).text == ANSWER


async def test_events_are_told(
    use: Use,
    embedding: Callable[..., GatewayEmbedding],
    llm: Callable[..., GatewayLLM],
    events: list[BaseEvent],
) -> None:
    await use()
    await embedding().aget_text_embedding_batch(TEXTS[:3])
    llm().complete(PROMPT)
    ended = [event for event in events if isinstance(event, EmbeddingEndEvent)]
    assert [event.chunks for event in ended] == [TEXTS[:3]]
    assert sum(isinstance(event, LLMChatStartEvent) for event in events) == 1
    assert sum(isinstance(event, LLMChatEndEvent) for event in events) == 1
    assert KEY not in "".join(event.model_dump_json() for event in events)


async def test_usage_is_counted_through_llamaindex(
    use: Use, embedding: Callable[..., GatewayEmbedding], llm: Callable[..., GatewayLLM]
) -> None:
    await use()
    model, chat = embedding(), llm()
    with tracing() as trace:
        await model.aget_query_embedding("one")
        model.get_query_embedding("two")  # in a thread with a loop of its own
        chat.complete(PROMPT)
    assert (trace.usage.calls, trace.usage.texts) == (3, 2)
    assert trace.usage == model.gateway.usage


async def test_the_key_is_nowhere_to_be_read(
    use: Use, embedding: Callable[..., GatewayEmbedding], llm: Callable[..., GatewayLLM]
) -> None:
    provider = await use(api_key="another key")
    headers = {"x-own-key": KEY}
    model, chat = embedding(default_headers=headers), llm(default_headers=headers)
    errors = []
    for work in (model.aget_query_embedding("one"), chat.acomplete(PROMPT)):
        with pytest.raises(ModelError, match="refused the key") as raised:
            await work
        errors.append(raised.value)
    gateway = model.gateway
    things = [
        model,
        chat,
        gateway,
        *gateway.lanes.values(),
        gateway.health(),
        model._model.endpoint,
        chat._chat_model.endpoint,
        *errors,
    ]
    for thing in things:
        assert KEY not in f"{thing!r} {thing}", f"{type(thing).__name__} shows a key"
    for made in (model, chat):
        dumped = [made.model_dump(), made.to_dict(), made.dict(), made.to_json()]
        assert KEY not in json.dumps(dumped, default=str)
        assert provider.base_url in repr(made)
