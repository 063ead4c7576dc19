"""An embedder in this process that does as a test tells it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence

import numpy as np

from provider import word_vector
from rag_lab.gateway import BatchLimits, Embedded
from rag_lab.records import Usage
from rag_lab.telemetry import spend


async def at_once(texts: Sequence[str]) -> None:
    """Answers in the next turn of the event loop."""
    await asyncio.sleep(0)


class Scripted:
    """Hashed bags of words as vectors.

    Attributes:
        refused: texts that get no vector.
        before_answer: awaited with the texts of each call; it may raise.
        concurrency: what it says of itself; a test may change it.
        batches: the texts of every call, in the order of arrival.
        most_under_way: calls at the same time.
    """

    identity = "scripted"

    def __init__(
        self,
        *,
        items: int = 4,
        concurrency: int = 2,
        dimensions: int | None = None,
        refused: Sequence[str] = (),
        before_answer: Callable[[Sequence[str]], Awaitable[None]] = at_once,
    ) -> None:
        self.batch_limits = BatchLimits(items=items)
        self.concurrency = concurrency
        self.dimensions = dimensions
        self.refused = set(refused)
        self.before_answer = before_answer
        self.batches: list[list[str]] = []
        self.under_way = self.most_under_way = 0

    @property
    def asked(self) -> Counter[str]:
        """How often each text was asked for."""
        return Counter(text for batch in self.batches for text in batch)

    async def embed_documents(self, texts: Sequence[str]) -> Embedded:
        self.batches.append(list(texts))
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            await self.before_answer(texts)
        finally:
            self.under_way -= 1
        spend(Usage(calls=1, texts=len(texts), prompt_tokens=10 * len(texts)))
        failed = {at: "refused by the script" for at, t in enumerate(texts) if t in self.refused}
        if len(failed) == len(texts):
            return Embedded(np.zeros((len(texts), 0), np.float32), failed)
        rows = [self.vector(text) * (place not in failed) for place, text in enumerate(texts)]
        return Embedded(np.stack(rows), failed)

    async def embed_query(self, text: str) -> np.ndarray:
        return self.vector(text)

    def vector(self, text: str) -> np.ndarray:
        """The right answer."""
        return word_vector(text, self.dimensions or 48)
