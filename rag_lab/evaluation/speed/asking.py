"""What the benches that ask questions share: one corpus, and engines that know no question yet."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np

from rag_lab.corpora import Corpus
from rag_lab.evaluation.load import Ask
from rag_lab.evaluation.speed import peers
from rag_lab.evaluation.speed.corpus import made_up_corpus, made_up_questions
from rag_lab.evaluation.speed.measure import stock_garbage_collection
from rag_lab.evaluation.speed.ours import our_engine, our_index, our_settings
from rag_lab.simulate import SimulatedProvider, SimulatorSettings, expected_vector, simulated

OURS: Final = "ours"
LLAMA_INDEX: Final = "LlamaIndex"
DIMENSIONS: Final = 1_536


class Asking:
    """A corpus that is ingested at a provider, and engines over it."""

    def __init__(self, provider: SimulatedProvider, corpus: Corpus, scratch: Path) -> None:
        self.provider = provider
        self._corpus = corpus
        self._scratch = scratch
        self._caches = 0
        documents = list(corpus.documents)
        self._documents = documents
        self._vectors = np.stack([expected_vector(item.text, DIMENSIONS) for item in documents])

    async def prepare(self) -> None:
        """Ingests the corpus at a provider without latency, and has every engine answer once."""
        await self.provider.reset(SimulatorSettings(dimensions=DIMENSIONS))
        settings = our_settings(self.provider, self._ingested, dimensions=DIMENSIONS)
        (await our_index(self._corpus, settings)).close()
        for engine in (self.ours(), self.llama_index()):
            async with engine as ask:
                for question in made_up_questions(2, seed=-1):
                    await ask(question, 0.0)

    @property
    def _ingested(self) -> Path:
        return self._scratch / "ingested"

    def engine(self, name: str) -> AbstractAsyncContextManager[Ask]:
        """A new engine: our own or LlamaIndex's."""
        return self.ours() if name == OURS else self.llama_index()

    @asynccontextmanager
    async def ours(self, gateway: Mapping[str, Any] | None = None) -> AsyncIterator[Ask]:
        """Our own engine, with empty caches of questions and answers."""
        self._caches += 1
        cache = self._scratch / f"cache-{self._caches}"
        settings = our_settings(self.provider, cache, dimensions=DIMENSIONS, gateway=gateway)
        async with our_engine(self._corpus, settings, self._ingested) as engine:
            yield lambda question, at: engine.ask(question, scheduled_at=at)

    @asynccontextmanager
    async def llama_index(self) -> AsyncIterator[Ask]:
        """LlamaIndex's engine over the same vectors, as many passages a question."""
        passages = our_settings(self.provider, self._scratch, dimensions=DIMENSIONS).answer.passages
        async with peers.http_client() as http:
            engine = peers.llama_index_engine(
                self.provider.base_url, http, self._documents, self._vectors, passages
            )
            with stock_garbage_collection():
                yield lambda question, at: engine.aquery(question)


@asynccontextmanager
async def asking(documents: int, seed: int) -> AsyncIterator[Asking]:
    """A provider, a corpus and engines that have been warmed up, for as long as the block runs."""
    with tempfile.TemporaryDirectory(prefix="rag-lab-bench-") as scratch:
        async with simulated() as provider:
            place = Asking(provider, made_up_corpus(documents, seed), Path(scratch))
            await place.prepare()
            yield place
