"""rag-lab's own side of a comparison: its public API with its defaults, in a cache of its own."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

from rag_lab.asking import LabQueryEngine
from rag_lab.corpora import Corpus
from rag_lab.evaluation.speed.peers import MODEL
from rag_lab.index import LabIndex, ingest, open_index
from rag_lab.models import Models, build_models
from rag_lab.settings import Settings, load_settings
from rag_lab.simulate import SimulatedProvider


def our_settings(
    provider: SimulatedProvider,
    cache: Path,
    *,
    dimensions: int,
    gateway: Mapping[str, Any] | None = None,
) -> Settings:
    """Defaults, but for the provider, the cache, and what is given for the gateway."""
    # A key is given so that one in the environment is not sent along.
    remote = {"model": MODEL, "base_url": provider.base_url, "api_key": "none"}
    return load_settings(
        embed={**remote, "dimensions": dimensions},
        llm=remote,
        gateway=gateway or {},
        paths={"cache": cache},
    )


@asynccontextmanager
async def our_models(settings: Settings) -> AsyncIterator[Models]:
    """Models whose connections are closed again."""
    models = build_models(settings)
    try:
        yield models
    finally:
        if models.gateway is not None:
            await models.gateway.aclose()


async def our_index(corpus: Corpus, settings: Settings) -> LabIndex:
    """Ingests a corpus and opens its index."""
    async with our_models(settings) as models:
        await ingest(corpus, models, settings)
        return open_index(corpus, models, settings)


@asynccontextmanager
async def our_engine(
    corpus: Corpus, settings: Settings, ingested: Path
) -> AsyncIterator[LabQueryEngine]:
    """An engine that knows no question yet, over a copy of a cache in which all is ingested."""
    shutil.copytree(ingested, settings.paths.cache_folder)
    async with our_models(settings) as models:
        with closing(open_index(corpus, models, settings)) as index:
            yield LabQueryEngine.over(index, models, settings)
