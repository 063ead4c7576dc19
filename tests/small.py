"""Corpora of a few documents, and indexes over them, for tests that reckon by hand."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from llama_index.core.schema import Document

from rag_lab.corpora import Corpus
from rag_lab.corpora.base import in_memory
from rag_lab.index import LabIndex, ingest, open_index
from rag_lab.models import Models, build_models
from rag_lab.settings import Settings, load_settings

FRUITS = {
    "apple": ("Apple", "The apple is a red fruit that grows on trees in cool orchards."),
    "banana": ("Banana", "The banana is a yellow fruit that grows in warm valleys."),
    "carrot": ("Carrot", "The carrot is an orange root that grows under the ground."),
    "durian": ("Durian", "The durian is a spiny fruit with a smell that fills whole markets."),
}
KINDS = {"apple": "fruit", "banana": "fruit", "carrot": "root", "durian": "fruit"}


def document(name: str, title: str, text: str, **metadata: Any) -> Document:
    """A document as the `jsonl` reader makes it."""
    fields = {"record": "text", "title": title, **metadata}
    hidden = [key for key in fields if key != "title"]
    return Document(id_=name, text=text, metadata=fields, excluded_embed_metadata_keys=hidden)


def corpus_of(rows: dict[str, tuple[str, str]], name: str = "food", **more: Any) -> Corpus:
    """A corpus of id → (title, text); each document also has a kind and a size."""
    documents = [
        document(key, title, text, kind=KINDS.get(key, "other"), size=len(text))
        for key, (title, text) in rows.items()
    ]
    return in_memory(name, documents, **more)


def food() -> Corpus:
    """Three fruits and a root."""
    return corpus_of(FRUITS)


async def indexed(
    corpus: Corpus | None = None, settings: Settings | None = None, models: Models | None = None
) -> LabIndex:
    """The open index of a corpus, ingested if need be."""
    made, chosen = corpus or food(), settings or load_settings()
    known = models or build_models(chosen)
    await ingest(made, known, chosen)
    return open_index(made, known, chosen)


def failure_of(work: Callable[[], object]) -> tuple[Exception, list[str]]:
    """The error that some work ends in, and warnings of what it left open."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        try:
            work()
        except Exception as caught:
            error = caught.with_traceback(None)
        gc.collect()
    return error, [str(warning.message) for warning in seen]


def files_of(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, by its relative path."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
