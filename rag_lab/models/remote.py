"""Remote models: any OpenAI-compatible endpoint, made as LlamaIndex does, asked by the gateway."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llama_index.embeddings.openai import OpenAIEmbedding
from llama_index.llms.openai import OpenAI

from rag_lab.errors import ModelConfigError
from rag_lab.gateway.call import NO_KEY, OPENAI
from rag_lab.gateway.llama import GatewayEmbedding, GatewayLLM

if TYPE_CHECKING:
    from pydantic import SecretStr

    from rag_lab.gateway.gateway import Gateway
    from rag_lab.settings import EmbedSettings, LLMSettings


def build_embedder(settings: EmbedSettings, gateway: Gateway) -> GatewayEmbedding:
    """The embedding model that is set.

    Raises:
        ModelConfigError: neither a key nor an address is set.
    """
    embedding = OpenAIEmbedding(
        model_name=settings.model,
        api_base=settings.base_url or OPENAI,
        api_key=_key(settings.api_key, settings.base_url, "EMBED"),
        dimensions=settings.dimensions,
        timeout=settings.timeout_s,
        embed_batch_size=settings.batch_size,
    )
    return GatewayEmbedding.of(embedding, gateway)


def build_llm(settings: LLMSettings, gateway: Gateway) -> GatewayLLM:
    """The chat model that is set, whatever its name.

    Raises:
        ModelConfigError: neither a key nor an address is set.
    """
    llm = OpenAI(
        model=settings.model,
        api_base=settings.base_url or OPENAI,
        api_key=_key(settings.api_key, settings.base_url, "LLM"),
        temperature=settings.temperature,
        max_tokens=settings.max_tokens,
        timeout=settings.timeout_s,
    )
    return GatewayLLM.of(llm, gateway, context_window=settings.context_window)


def _key(given: SecretStr, base_url: str, stage: str) -> str:
    if given.get_secret_value():
        return given.get_secret_value()
    if not base_url:
        raise ModelConfigError(
            f"RAG_LAB_{stage}_MODEL is set, but neither RAG_LAB_{stage}_API_KEY nor "
            f"RAG_LAB_{stage}_BASE_URL. Set the key, or the address of a local server."
        )
    return NO_KEY
