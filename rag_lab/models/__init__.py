"""Who turns text into vectors and passages into answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from rag_lab.sync import spare_garbage_collector

if TYPE_CHECKING:
    import numpy as np
    from llama_index.core.llms import LLM

    from rag_lab.gateway import BatchLimits, Embedded
    from rag_lab.gateway.gateway import Gateway
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
    def batch_limits(self) -> BatchLimits:
        """What one call may hold."""
        ...

    @property
    def concurrency(self) -> int:
        """Calls worth having in flight now; it may change while work goes on."""
        ...

    async def embed_documents(self, texts: Sequence[str]) -> Embedded:
        """The vectors of one batch, and why a text has none.

        Raises:
            ModelError: nothing can be embedded now (a wrong key, a provider that fails for long).
        """
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
        gateway: through which remote models are asked; None if there are none.
    """

    embedder: Embedder | None = None
    llm: LLM | None = None
    gateway: Gateway | None = None


def build_models(settings: Settings, gateway: Gateway | None = None) -> Models:
    """The configured models; what is not configured is local and needs no network.

    Args:
        settings: which models, where, and how they are called.
        gateway: to ask through, if there is one already; else one is made.

    Raises:
        ModelConfigError: a model is named without a key or a base URL.
    """
    if not settings.embed.model and not settings.llm.model:
        return Models()
    from rag_lab.gateway.gateway import Gateway
    from rag_lab.models.remote import build_embedder, build_llm

    spare_garbage_collector()
    used = gateway or Gateway(settings.gateway, settings.paths.cache_folder)
    return Models(
        embedder=build_embedder(settings.embed, used) if settings.embed.model else None,
        llm=build_llm(settings.llm, used) if settings.llm.model else None,
        gateway=used,
    )
