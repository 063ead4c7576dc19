"""Counting corpora without indexing them; counts are kept beside the fingerprint."""

from __future__ import annotations

import json
from typing import Any

from rag_lab.corpora.registry import list_corpora, load_corpus
from rag_lab.errors import CorpusError, Rejection
from rag_lab.settings import PathSettings


def survey(paths: PathSettings | None = None) -> list[dict[str, Any]]:
    """A row for each corpus: origin, language, reader, counts, fingerprint.

    Documents are counted by reading them once; the count is remembered by fingerprint.
    """
    chosen = paths or PathSettings()
    memory = chosen.made_cache_folder() / "counts.json"
    counts = _remembered(memory)
    rows = []
    for entry in list_corpora(chosen):
        row: dict[str, Any] = {"corpus": entry.name, "from": entry.origin}
        try:
            corpus = load_corpus(entry.name, chosen)
        except CorpusError as error:
            rows.append({**row, **dict.fromkeys(_COLUMNS, "–"), "problem": str(error)})
            continue
        if corpus.fingerprint not in counts:
            kept = sum(not isinstance(item, Rejection) for item in corpus.checked_records())
            counts[corpus.fingerprint] = kept
        row |= {
            "language": corpus.language,
            "reader": corpus.reader,
            "documents": counts[corpus.fingerprint],
            "questions": len(corpus.questions),
            "fingerprint": corpus.fingerprint,
        }
        rows.append(row)
    memory.write_text(json.dumps(counts), encoding="utf-8")
    return rows


_COLUMNS = ("language", "reader", "documents", "questions", "fingerprint")


def _remembered(memory: Any) -> dict[str, int]:
    try:
        loaded = json.loads(memory.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return loaded if isinstance(loaded, dict) else {}
