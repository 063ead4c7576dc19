"""The gateway behind LlamaIndex's own interfaces: an embedding and a chat model for anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    ChatResponseAsyncGen,
    ChatResponseGen,
    CompletionResponse,
    CompletionResponseAsyncGen,
    CompletionResponseGen,
    LLMMetadata,
    MessageRole,
)
from llama_index.core.llms.callbacks import llm_chat_callback, llm_completion_callback
from llama_index.core.llms.custom import CustomLLM
from llama_index.embeddings.openai import OpenAIEmbedding
from llama_index.llms.openai import OpenAI
from llama_index_instrumentation import root_dispatcher
from llama_index_instrumentation.event_handlers.null import NullEventHandler
from llama_index_instrumentation.span_handlers.null import NullSpanHandler
from pydantic import Field, PrivateAttr, SecretStr

from rag_lab.errors import ModelConfigError, ModelError
from rag_lab.gateway.call import OPENAI, CallSettings, Endpoint
from rag_lab.gateway.chat import ChatModel
from rag_lab.gateway.embedded import Embedded
from rag_lab.gateway.embedding import EmbeddingModel
from rag_lab.gateway.gateway import Gateway
from rag_lab.gateway.plan import BatchLimits
from rag_lab.gateway.reply import ChatReply
from rag_lab.sync import run_sync

_MOST_TEXTS = 2_048  # the most that LlamaIndex hands over at once; the gateway cuts by itself


class GatewayEmbedding(BaseEmbedding):
    """An `OpenAIEmbedding`'s model, asked through a gateway.

    It is also what rag-lab's own ingestion and retrieval take (`Embedder`). It holds the key, and
    neither shows nor dumps it.
    """

    _gateway: Gateway = PrivateAttr()
    _model: EmbeddingModel = PrivateAttr()

    def __init__(self, gateway: Gateway, model: EmbeddingModel) -> None:
        super().__init__(model_name=model.endpoint.model, embed_batch_size=_MOST_TEXTS)
        self._gateway = gateway
        self._model = model

    @classmethod
    def of(cls, embedding: OpenAIEmbedding, gateway: Gateway) -> Self:
        """The same model at the same address with the same key, dimensions and time limit.

        Raises:
            ModelConfigError: it sends other options too, which would be left out here.
        """
        others = sorted({*embedding.additional_kwargs} - {"dimensions"})
        if others:
            raise ModelConfigError(
                f"{embedding.model_name!r} is to be asked with {others[0]!r}, which the gateway "
                "does not send: its vectors would be others. Leave it out of additional_kwargs."
            )
        endpoint = Endpoint(
            model=embedding._text_engine,
            base_url=embedding.api_base or OPENAI,
            api_key=SecretStr(embedding.api_key),
            dimensions=embedding.dimensions,
            headers=embedding.default_headers or {},
        )
        limits = BatchLimits(items=embedding.embed_batch_size)
        settings = CallSettings(timeout_s=embedding.timeout)
        return cls(gateway, gateway.embedding_model(endpoint, limits, settings))

    @classmethod
    def class_name(cls) -> str:
        return "GatewayEmbedding"

    @property
    def gateway(self) -> Gateway:
        """The gateway it asks through: its limits, usage and health."""
        return self._gateway

    @property
    def identity(self) -> str:
        """Endpoint and model: what decides the vectors besides text and dimensions."""
        return self._model.endpoint.identity

    @property
    def dimensions(self) -> int | None:
        """Length of a vector, if it was asked for; else the model decides."""
        return self._model.endpoint.dimensions

    @property
    def batch_limits(self) -> BatchLimits:
        """What one call may hold."""
        return self._model.limits

    @property
    def concurrency(self) -> int:
        """Calls worth having in flight now."""
        return self._model.lane.limiter.limit

    async def embed_documents(self, texts: Sequence[str]) -> Embedded:
        """The vectors of one batch that its caller has looked up and cut; see `Gateway`."""
        return await self._gateway.embed_batch(self._model, texts)

    async def embed_query(self, text: str) -> np.ndarray:
        """The vector of one question, float32 of shape (dimensions,)."""
        return await self._gateway.embed_query(self._model, text)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return _floats(await self.embed_query(query))

    def _get_query_embedding(self, query: str) -> list[float]:
        return run_sync(self._aget_query_embedding(query))

    async def _aget_text_embedding(self, text: str) -> list[float]:
        return (await self._aget_text_embeddings([text]))[0]

    def _get_text_embedding(self, text: str) -> list[float]:
        return run_sync(self._aget_text_embedding(text))

    async def _aget_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        """LlamaIndex knows no text without a vector: one that is refused fails them all."""
        embedded = await self._gateway.embed(self._model, texts)
        if embedded.failed:
            place, reason = next(iter(embedded.failed.items()))
            raise ModelError(
                f"{len(embedded.failed)} of {len(texts)} texts; text {place}: {reason}"
            )
        return list(map(_floats, embedded.matrix))

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return run_sync(self._aget_text_embeddings(texts))

    def __repr__(self) -> str:
        return f"GatewayEmbedding({self.identity!r})"

    __str__ = __repr__


class GatewayLLM(CustomLLM):
    """An `OpenAI`-compatible LlamaIndex chat model, asked through a gateway.

    Streams arrive in one piece. It holds the key, and neither shows nor dumps it.

    Attributes:
        additional_kwargs: further options of every request.
        repeat: see `Gateway.chat`; None: answers are not kept.
    """

    model: str
    temperature: float | None
    max_tokens: int | None
    context_window: int
    additional_kwargs: dict[str, Any] = Field(default_factory=dict)
    repeat: int | None = None
    _gateway: Gateway = PrivateAttr()
    _chat_model: ChatModel = PrivateAttr()

    def __init__(
        self,
        gateway: Gateway,
        chat_model: ChatModel,
        *,
        temperature: float | None = None,
        max_tokens: int | None = None,
        context_window: int = 16_384,
        additional_kwargs: Mapping[str, Any] | None = None,
        repeat: int | None = None,
    ) -> None:
        super().__init__(
            model=chat_model.endpoint.model,
            temperature=temperature,
            max_tokens=max_tokens,
            context_window=context_window,
            additional_kwargs=dict(additional_kwargs or {}),
            repeat=repeat,
        )
        self._gateway = gateway
        self._chat_model = chat_model

    @classmethod
    def of(cls, llm: OpenAI, gateway: Gateway, *, context_window: int = 16_384) -> Self:
        """The same model at the same address with the same key, options and time limit."""
        endpoint = Endpoint(
            model=llm.model,
            base_url=llm.api_base or OPENAI,
            api_key=SecretStr(llm.api_key or ""),
            headers=llm.default_headers or {},
        )
        model = gateway.chat_model(endpoint, CallSettings(timeout_s=llm.timeout))
        options = llm._get_model_kwargs()  # it knows which models take which names
        del options["model"]
        return cls(
            gateway,
            model,
            temperature=options.pop("temperature"),
            max_tokens=options.pop("max_tokens", None),
            context_window=context_window,
            additional_kwargs=options,
        )

    @classmethod
    def class_name(cls) -> str:
        return "GatewayLLM"

    @property
    def gateway(self) -> Gateway:
        """The gateway it asks through: its limits, usage and health."""
        return self._gateway

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(
            context_window=self.context_window,
            num_output=self.max_tokens or -1,
            is_chat_model=True,
            model_name=self.model,
        )

    async def write(self, messages: Sequence[ChatMessage]) -> str:
        """The text of one answer; without LlamaIndex's events where nobody listens to them.

        They are half a millisecond a call. Errors as `achat`.
        """
        if _observed():
            return (await self.achat(messages)).message.content or ""
        return (await self._reply(messages, {})).content

    async def _reply(self, messages: Sequence[ChatMessage], more: Mapping[str, Any]) -> ChatReply:
        options = {
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
            **self.additional_kwargs,
            **more,
        }
        return await self._gateway.chat(
            self._chat_model,
            [{"role": each.role.value, "content": each.content or ""} for each in messages],
            {name: value for name, value in options.items() if value is not None},
            repeat=self.repeat,
        )

    @llm_chat_callback()
    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """One answer.

        Raises:
            ModelError: it was refused; `ProviderError`: the provider fails for now.
        """
        reply = await self._reply(messages, kwargs)
        return ChatResponse(
            message=ChatMessage(role=MessageRole.ASSISTANT, content=reply.content),
            additional_kwargs={
                "finish_reason": reply.finish_reason,
                "prompt_tokens": reply.prompt_tokens,
                "completion_tokens": reply.completion_tokens,
            },
        )

    @llm_completion_callback()
    async def acomplete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponse:
        """One answer to a text."""
        response = await self.achat([ChatMessage(role=MessageRole.USER, content=prompt)], **kwargs)
        return CompletionResponse(
            text=response.message.content or "", additional_kwargs=response.additional_kwargs
        )

    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        response: ChatResponse = run_sync(self.achat(messages, **kwargs))
        return response

    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        response: CompletionResponse = run_sync(self.acomplete(prompt, formatted, **kwargs))
        return response

    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseGen:
        response = self.chat(messages, **kwargs)
        response.delta = response.message.content
        yield response

    def stream_complete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponseGen:
        response = self.complete(prompt, formatted, **kwargs)
        response.delta = response.text
        yield response

    async def astream_chat(
        self, messages: Sequence[ChatMessage], **kwargs: Any
    ) -> ChatResponseAsyncGen:
        async def pieces() -> ChatResponseAsyncGen:
            response = await self.achat(messages, **kwargs)
            response.delta = response.message.content
            yield response

        return pieces()

    async def astream_complete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponseAsyncGen:
        async def pieces() -> CompletionResponseAsyncGen:
            response = await self.acomplete(prompt, formatted, **kwargs)
            response.delta = response.text
            yield response

        return pieces()

    def __repr__(self) -> str:
        return f"GatewayLLM({self._chat_model.endpoint.identity!r})"

    __str__ = __repr__


def _floats(vector: np.ndarray) -> list[float]:
    floats: list[float] = vector.tolist()
    return floats


def _observed() -> bool:
    """Whether anybody listens to LlamaIndex's events or spans."""
    handlers = (*root_dispatcher.event_handlers, *root_dispatcher.span_handlers)
    return not all(isinstance(each, NullEventHandler | NullSpanHandler) for each in handlers)
