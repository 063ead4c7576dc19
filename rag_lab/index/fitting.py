"""Which local embedder an ingestion uses: the present fit while it is good, else a new one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rag_lab.corpora.analysis import Analyzer
from rag_lab.index.nodes import NodeStore
from rag_lab.index.report import Progress
from rag_lab.index.snapshot import IndexHome, write_pointer
from rag_lab.models import Embedder
from rag_lab.models.local import LsaEmbedder, text_hashes
from rag_lab.settings import IndexSettings

_FIT_IS_FRESH = 0.10
_FIT_IS_USELESS = 0.50


@dataclass(frozen=True, slots=True, eq=False)
class Fitting:
    """What a fit is made of."""

    nodes: NodeStore
    analyzer: Analyzer
    settings: IndexSettings
    home: IndexHome

    def run(
        self,
        previous: Embedder | None,
        notes: list[str],
        progress: Callable[[Progress], None],
    ) -> LsaEmbedder:
        """The previous fit while the corpus has changed little, else a new one, kept on disk.

        Args:
            previous: the present fit, or None to fit anew in any case.
            notes: gets what people should know of it.
            progress: called at the start and the end of a new fit.
        """
        hashes = text_hashes(node.embedded_text for node in self.nodes)
        if isinstance(previous, LsaEmbedder):
            drift = previous.drift(hashes)
            if drift <= _FIT_IS_USELESS:
                if drift > _FIT_IS_FRESH:
                    notes.append(
                        f"{drift:.0%} of the nodes are new to the fitted embedder: a refit is due "
                        "(rag-lab ingest --refit; embeds everything again)."
                    )
                return previous
            notes.append(f"{drift:.0%} of the nodes are new: the embedder was fitted anew.")
        progress(Progress("fit", 0, 1))
        fitted = self._fit(hashes)
        self._keep(fitted)
        progress(Progress("fit", 1, 1))
        return fitted

    def _fit(self, hashes: np.ndarray) -> LsaEmbedder:
        sample = _sample(hashes, self.settings.lsa_fit_nodes)
        return LsaEmbedder.fit(
            [self.nodes[int(place)].embedded_text for place in sample],
            self.analyzer,
            dimensions=self.settings.lsa_dimensions,
            max_features=self.settings.lsa_max_features,
            known=hashes,
        )

    def _keep(self, fitted: LsaEmbedder) -> None:
        folder = self.home.fits(self.settings)
        folder.mkdir(parents=True, exist_ok=True)
        target = folder / fitted.fit_id
        if not target.exists():
            scratch = folder / f".fitting-{os.getpid()}"
            shutil.rmtree(scratch, ignore_errors=True)
            fitted.save(scratch)
            to_disk(scratch)
            scratch.rename(target)
        write_pointer(folder, fitted.fit_id)


def _sample(hashes: np.ndarray, most: int) -> np.ndarray:
    """Places of at most `most` nodes, chosen by hash: no order or chance decides."""
    if len(hashes) <= most:
        return np.arange(len(hashes))
    return np.sort(np.argsort(hashes, kind="stable")[:most])


def to_disk(*paths: Path) -> None:
    """Returns when these files, and every file in these folders, would outlive a power cut."""
    for path in paths:
        for file in path.rglob("*") if path.is_dir() else (path,):
            if file.is_file():
                with file.open("rb") as stream:
                    os.fsync(stream.fileno())
