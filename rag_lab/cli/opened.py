"""A corpus that is open for questions: ingested if need be, with its models."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rag_lab.cli.output import progress_bars, run

if TYPE_CHECKING:
    from rag_lab.asking.batch import Outage
    from rag_lab.corpora import Corpus
    from rag_lab.index import LabIndex
    from rag_lab.models import Models
    from rag_lab.settings import Settings


@dataclass(frozen=True, slots=True)
class Opened:
    """A corpus, its index, and what answers about it are made with."""

    corpus: Corpus
    index: LabIndex
    models: Models
    settings: Settings

    @property
    def outage(self) -> Outage | None:
        """How a file's or an evaluation's questions wait for a provider that fails."""
        from rag_lab.asking.batch import Outage
        from rag_lab.telemetry.health import ERRORS_CRITICAL

        gateway = self.models.gateway
        if gateway is None:
            return None

        def failing() -> bool:
            figures = [lane.figures() for lane in gateway.lanes.values()]
            return any(f.breaker != "working" or f.error_share >= ERRORS_CRITICAL for f in figures)

        return Outage(failing, self.settings.gateway.ingest_patience_s)


@contextmanager
def opened(name: str, settings: Settings, *, quiet: bool) -> Iterator[Opened]:
    """Opens a corpus; what was never ingested is ingested first, unless that costs money."""
    from rag_lab.corpora import load_corpus
    from rag_lab.errors import IndexStateError
    from rag_lab.index import ingest, open_index
    from rag_lab.models import build_models

    models = build_models(settings)
    corpus = load_corpus(name, settings.paths)
    try:
        index = open_index(corpus, models, settings)
    except IndexStateError:
        if models.embedder is not None:
            raise  # only 'ingest' spends money on a remote embedding
        with progress_bars(name, quiet=quiet) as progress:
            run(ingest(corpus, models, settings, progress=progress))
        index = open_index(corpus, models, settings)
    with closing(index):
        yield Opened(corpus, index, models, settings)
