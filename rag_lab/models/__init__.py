"""Who turns text into vectors and passages into answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from llama_index.core.llms import LLM

    from rag_lab.settings import Settings


class Embedder(Protocol):
    """Anything that turns text into unit float32 vectors."""

    @property
    def identity(self) -> str:
        """Names what decides the vectors; a part of every cache key and index fingerprint."""
        ...

    @property
    def dimensions(self) -> int | None:
        """Length of a vector, or None where only the model knows."""
        ...

    @property
    def embed_batch_size(self) -> int:
        """Texts a call."""
        ...

    async def embed_batch(self, texts: Sequence[str]) -> np.ndarray:
        """Unit row vectors of one call, shape (len(texts), dimensions)."""
        ...

    async def embed_query(self, text: str) -> np.ndarray:
        """The vector of one question, shape (dimensions,)."""
        ...


@dataclass(frozen=True)
class Models:
    """The models of a run.

    Attributes:
        embedder: a remote embedder, or None: the local one, fitted to each corpus by `ingest`.
        llm: a LlamaIndex chat model, or None: answers are extracted, not written.
    """

    embedder: Embedder | None = None
    llm: LLM | None = None


def build_models(settings: Settings) -> Models:
    """The configured models; what is not configured is local and needs no network.

    Raises:
        ModelConfigError: a model is named without a key or a base URL.
    """
    if not settings.embed.model and not settings.llm.model:
        return Models()
    from rag_lab.models.remote import RemoteEmbedder, build_llm

    return Models(
        embedder=RemoteEmbedder(settings.embed) if settings.embed.model else None,
        llm=build_llm(settings.llm) if settings.llm.model else None,
    )
