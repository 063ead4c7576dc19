"""Serving what `rag-lab ingest` has fitted: quality under load needs meaningful vectors."""

from __future__ import annotations

from rag_lab.errors import IndexStateError
from rag_lab.settings import Settings, load_settings
from rag_lab.simulate.settings import SimulatorSettings


def serving_corpus(
    name: str, simulator: SimulatorSettings, settings: Settings | None = None
) -> SimulatorSettings:
    """Settings that serve the local embedder fitted to a corpus.

    The first of the model names holds the fit, so that a cache which goes by address and model
    never takes its vectors for those of another fit, or of none, at the same port.

    Raises:
        IndexStateError: none has been fitted to it with these settings.
    """
    from rag_lab.index.snapshot import IndexHome, read_pointer

    chosen = settings or load_settings()
    fits = IndexHome(chosen.paths.cache_folder, name).fits(chosen.index)
    fit_id = read_pointer(fits)
    if not fit_id:
        raise IndexStateError(
            f"no local embedder has been fitted to {name!r}. "
            f"Run without RAG_LAB_EMBED_MODEL: rag-lab ingest {name}"
        )
    models = (f"{simulator.models[0]}-{fit_id}", *simulator.models)
    return simulator.changed(embedder=fits / fit_id, models=models)
