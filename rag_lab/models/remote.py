"""Remote models: any OpenAI-compatible endpoint through LlamaIndex's own classes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np
import openai
from pydantic import Field

from rag_lab.errors import ModelConfigError, ModelError

if TYPE_CHECKING:
    from llama_index.core.llms import LLM
    from llama_index.embeddings.openai import OpenAIEmbedding

    from rag_lab.settings import EmbedSettings, LLMSettings

_OPENAI = "https://api.openai.com/v1"
_NO_KEY = "no-key"  # the client insists on one; local servers ignore it


class RemoteEmbedder:
    """An embedding model behind an OpenAI-compatible endpoint."""

    def __init__(self, settings: EmbedSettings) -> None:
        self._settings = settings
        self._key = _key(settings.api_key.get_secret_value(), settings.base_url, "EMBED")

    @property
    def identity(self) -> str:
        """Endpoint and model: what decides the vectors besides text and dimensions."""
        return f"{self._settings.base_url or _OPENAI}#{self._settings.model}"

    @property
    def dimensions(self) -> int | None:
        """Length of a vector, if it was asked for; else the model decides."""
        return self._settings.dimensions

    @property
    def embed_batch_size(self) -> int:
        """Texts a call."""
        return self._settings.batch_size

    def llama_index(self) -> OpenAIEmbedding:
        """The same model as LlamaIndex's own embedding, for use in LlamaIndex; hides its key."""
        from llama_index.embeddings.openai import OpenAIEmbedding

        class QuietEmbedding(OpenAIEmbedding):  # type: ignore[misc]
            """Its parent shows and dumps the key."""

            api_key: str = Field(default="", repr=False, exclude=True)

            @classmethod
            def class_name(cls) -> str:
                return "OpenAIEmbedding"

        return QuietEmbedding(
            model_name=self._settings.model,
            api_base=self._settings.base_url or _OPENAI,
            api_key=self._key,
            dimensions=self._settings.dimensions,
            timeout=self._settings.timeout_s,
            max_retries=self._settings.max_retries,
            embed_batch_size=self._settings.batch_size,
            reuse_client=False,  # a client belongs to the event loop it is first used in
        )

    async def embed_batch(self, texts: Sequence[str]) -> np.ndarray:
        """Unit row vectors of one call, float32 of shape (len(texts), dimensions).

        Raises:
            ModelError: the provider refused or failed, or its answer is no usable matrix.
        """
        with translate_errors("embedding", self._settings.base_url, self._settings.model):
            async with self._client() as client:
                reply = await client.embeddings.create(
                    model=self._settings.model,
                    input=list(texts),
                    dimensions=openai.omit if self.dimensions is None else self.dimensions,
                )
        # The protocol lets items come in any order: 'index' says whose they are.
        # Servers that leave it out keep the order.
        placed = {
            place if item.index is None else item.index: item.embedding
            for place, item in enumerate(reply.data)
        }
        if sorted(placed) != list(range(len(texts))) or len(reply.data) != len(texts):
            raise ModelError(f"asked for {len(texts)} vectors, got {len(reply.data)}.")
        return _checked([placed[place] for place in range(len(texts))], self.dimensions)

    async def embed_query(self, text: str) -> np.ndarray:
        """The vector of one question, float32 of shape (dimensions,)."""
        vector: np.ndarray = (await self.embed_batch([text]))[0]
        return vector

    def _client(self) -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(
            api_key=self._key,
            base_url=self._settings.base_url or _OPENAI,
            timeout=self._settings.timeout_s,
            max_retries=self._settings.max_retries,
        )

    def __repr__(self) -> str:
        return f"RemoteEmbedder({self.identity!r})"


def build_llm(settings: LLMSettings) -> LLM:
    """A LlamaIndex chat model for an OpenAI-compatible endpoint, whatever its name."""
    from llama_index.core.base.llms.types import LLMMetadata
    from llama_index.llms.openai import OpenAI

    class CompatibleChat(OpenAI):
        """LlamaIndex looks sizes up by model name and refuses names it does not know.

        Its own class also shows and dumps the key.
        """

        api_key: str = Field(default="", repr=False, exclude=True)

        @property
        def metadata(self) -> LLMMetadata:
            return LLMMetadata(
                context_window=settings.context_window,
                num_output=settings.max_tokens,
                is_chat_model=True,
                is_function_calling_model=False,
                model_name=settings.model,
            )

        @property
        def _tokenizer(self) -> None:
            """None: tiktoken would fetch the vocabulary of a known model from the network."""
            return

    return CompatibleChat(
        model=settings.model,
        api_base=settings.base_url or _OPENAI,
        api_key=_key(settings.api_key.get_secret_value(), settings.base_url, "LLM"),
        temperature=settings.temperature,
        max_tokens=settings.max_tokens,
        timeout=settings.timeout_s,
        max_retries=settings.max_retries,
        reuse_client=False,
    )


@contextmanager
def translate_errors(purpose: str, base_url: str, model: str) -> Iterator[None]:
    """Turns the client's errors into ours, with what to do; no key and no reply text in them."""
    where = f"{purpose} model {model!r} at {_host(base_url)}"
    stage = "EMBED" if purpose == "embedding" else "LLM"
    try:
        yield
    except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
        raise ModelError(
            f"{where} refused the key (HTTP {error.status_code}). "
            f"Check RAG_LAB_{stage}_API_KEY; 'rag-lab doctor' shows what is set."
        ) from None
    except openai.NotFoundError:
        raise ModelError(
            f"{where} does not exist (HTTP 404). Check RAG_LAB_{stage}_MODEL and "
            f"RAG_LAB_{stage}_BASE_URL (it usually ends in /v1)."
        ) from None
    except openai.RateLimitError:
        raise ModelError(
            f"{where} is at its rate limit (HTTP 429). Wait and run again: "
            "what was embedded is kept."
        ) from None
    except openai.APIStatusError as error:
        raise ModelError(
            f"{where} answered HTTP {error.status_code}. Run again later: what is done is kept."
        ) from None
    except openai.APITimeoutError:
        raise ModelError(
            f"{where} did not answer in time. Raise RAG_LAB_{stage}_TIMEOUT_S or run again."
        ) from None
    except openai.APIConnectionError:
        raise ModelError(
            f"{where} cannot be reached. Is the server up and RAG_LAB_{stage}_BASE_URL right?"
        ) from None


def _host(base_url: str) -> str:
    return urlsplit(base_url or _OPENAI).netloc.rpartition("@")[2]


def _key(given: str, base_url: str, stage: str) -> str:
    if given:
        return given
    if not base_url:
        raise ModelConfigError(
            f"RAG_LAB_{stage}_MODEL is set, but neither RAG_LAB_{stage}_API_KEY nor "
            f"RAG_LAB_{stage}_BASE_URL. Set the key, or the address of a local server."
        )
    return _NO_KEY


def _checked(rows: Sequence[Any], dimensions: int | None) -> np.ndarray:
    try:
        matrix = np.asarray(rows, np.float32)
    except (ValueError, TypeError):
        raise ModelError("the provider sent vectors of differing lengths.") from None
    if dimensions is not None and matrix.shape[1] != dimensions:
        raise ModelError(
            f"asked for {dimensions} dimensions, got {matrix.shape[1]}. "
            "Set RAG_LAB_EMBED_DIMENSIONS to what the model gives, or leave it out."
        )
    if not np.isfinite(matrix).all():
        raise ModelError("the provider sent a vector with NaN or infinite values.")
    lengths = np.linalg.norm(matrix, axis=1, keepdims=True)
    if (lengths < 1e-9).any():
        raise ModelError("the provider sent a zero vector.")
    unit: np.ndarray = matrix / lengths
    return unit
