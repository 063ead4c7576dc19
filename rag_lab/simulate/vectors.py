"""Vectors to serve: those of a fitted local model, or such as can be told from the text alone."""

from __future__ import annotations

import asyncio
import json
from collections import OrderedDict
from collections.abc import Sequence
from hashlib import shake_128
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from rag_lab.models.local import LsaEmbedder

_CACHE_BYTES = 128 * 2**20
_MODEL_BATCH = 256


def expected_vector(text: str, dimensions: int) -> np.ndarray:
    """The unit vector, float32, that a provider without a model gives a text.

    A hash of the text: any vector can be checked against its own text, and unlike texts are
    nearly orthogonal.
    """
    drawn = shake_128(text.encode("utf-8", "surrogatepass")).digest(2 * dimensions)
    spread = np.frombuffer(drawn, "<i2").astype(np.float64) + 0.5  # never zero
    unit: np.ndarray = (spread / np.linalg.norm(spread)).astype(np.float32)
    return unit


class Vectors:
    """Rows for texts, computed once and kept while there is room.

    A model works in a thread, on what was asked for meanwhile at once: one call of its own costs
    as much as a hundred texts.
    """

    def __init__(self, embedder: LsaEmbedder | None, dimensions: int) -> None:
        self._embedder = embedder
        self.dimensions = embedder.dimensions if embedder else dimensions
        self._kept: OrderedDict[tuple[str, int], np.ndarray] = OrderedDict()
        self._room = _CACHE_BYTES
        self._wanted: dict[str, asyncio.Future[np.ndarray]] = {}
        self._work: asyncio.Task[None] | None = None

    def most_dimensions(self) -> int | None:
        """What may be asked for at most: a model's vectors can only be shortened."""
        return self.dimensions if self._embedder else None

    async def rows(self, texts: Sequence[str], dimensions: int | None = None) -> list[np.ndarray]:
        """A float32 row of unit length for each text."""
        size = dimensions or self.dimensions
        rows = [self._kept.get((text, size)) for text in texts]
        missing = {text for text, row in zip(texts, rows, strict=True) if row is None}
        if not missing:
            return [row for row in rows if row is not None]
        if self._embedder is None:
            made = {text: expected_vector(text, size) for text in missing}
        else:
            made = {
                text: _shortened(row, text, size)
                for text, row in (await self._modelled(missing)).items()
            }
        for text, row in made.items():
            self._keep((text, size), row)
        return [made[text] if row is None else row for text, row in zip(texts, rows, strict=True)]

    def _keep(self, key: tuple[str, int], row: np.ndarray) -> None:
        if key in self._kept:
            return
        self._kept[key] = row
        self._room -= row.nbytes + len(key[0])
        while self._room < 0:
            (text, _), oldest = self._kept.popitem(last=False)
            self._room += oldest.nbytes + len(text)

    async def _modelled(self, texts: set[str]) -> dict[str, np.ndarray]:
        loop = asyncio.get_running_loop()
        asked = {text: self._wanted.setdefault(text, loop.create_future()) for text in texts}
        if self._work is None or self._work.done():
            self._work = loop.create_task(self._serve())
        await asyncio.wait(asked.values())  # unlike gather, leaves them to others if cancelled
        return {text: row.result() for text, row in asked.items()}

    async def _serve(self) -> None:
        assert self._embedder is not None
        while self._wanted:
            batch = list(self._wanted)[:_MODEL_BATCH]
            try:
                matrix = await asyncio.to_thread(self._embedder.vectors, batch)
            except Exception as error:  # told to each call that waits for it
                for text in batch:
                    self._wanted.pop(text).set_exception(error)
                continue
            for text, row in zip(batch, matrix, strict=True):
                self._wanted.pop(text).set_result(row)


def load_embedder(folder: Path) -> LsaEmbedder:
    """The fitted embedder saved in a folder.

    Raises:
        IndexStateError: there is none, or it cannot be read.
    """
    from rag_lab.models.local import LsaEmbedder

    return LsaEmbedder.load(folder)


def language_of(folder: Path) -> str:
    """The language of the embedder saved in a folder."""
    about = json.loads((folder / "lsa.json").read_text(encoding="utf-8"))
    return str(about["language"])


def _shortened(row: np.ndarray, text: str, size: int) -> np.ndarray:
    """The first numbers of a row at unit length.

    No remote model gives a zero vector, as the local one does for a text without a known word:
    such a text gets one that is near to nothing.
    """
    cut = row[:size]
    length = float(np.linalg.norm(cut))
    return cut / np.float32(length) if length > 1e-6 else expected_vector(text, size)
