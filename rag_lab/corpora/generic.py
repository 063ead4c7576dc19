"""Any other corpus: JSON lines with an id, a text and whatever else is known."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rag_lab.corpora.files import clean_text, read_json_lines
from rag_lab.errors import Rejection

if TYPE_CHECKING:
    from llama_index.core.schema import Document

_ID_KEYS = ("id", "docno", "pid", "_id")
_RESERVED = {*_ID_KEYS, "text"}


def read_jsonl(path: Path) -> Iterator[Document | Rejection]:
    """Reads documents from JSON lines.

    A row needs an id (`id`, `docno`, `pid` or `_id`) and `text`; a `title` is searched with the
    text, every other field becomes metadata.
    """
    from llama_index.core.schema import Document

    for item in read_json_lines(path):
        if isinstance(item, Rejection):
            yield item
            continue
        number, row = item
        record_id = next((str(row[key]) for key in _ID_KEYS if row.get(key) not in (None, "")), "")
        if not record_id:
            reason = f"missing id: none of {', '.join(_ID_KEYS)} is there"
            yield Rejection(path.name, number, reason)
            continue
        metadata: dict[str, Any] = {"record": "text"}
        metadata |= {key: value for key, value in row.items() if key not in _RESERVED}
        metadata |= {"source_file": path.name, "source_line": number}
        yield Document(
            id_=record_id,
            text=clean_text(str(row.get("text") or "")),
            metadata=metadata,
            excluded_embed_metadata_keys=[key for key in metadata if key != "title"],
        )
