"""Documents to nodes: the units that are searched.

A short document is one node. A long one is split at its own seams (paragraphs, ayat). Definitions
of a law become children of their article: they are searched, the article is returned (`whole`).
Ayat are no children: as such they made the article of a question harder to find.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from rag_lab.corpora.law import child_passages
from rag_lab.models.local import HEADING_SEPARATOR

if TYPE_CHECKING:
    from llama_index.core.schema import Document, TextNode

_RECENT = 1_024
"""Nodes that are kept after one was read by itself: some 5 kB each."""
_BLOCK = 256
"""Nodes read at once when all are read."""

NODES_VERSION = 4
"""Raised when the same document gives other nodes or files: indexes are then built anew."""

_NAME_KEYS = {"show": ("titles",), "pasal": ("law", "title")}
"""Metadata that people search by: counted `header_weight` times in keyword search."""

_ASKED_FOR_AS = "definisi pengertian arti"
"""What people call a definition: its own text does not say that it is one, so that the title of its
law, which stands in every article, would outweigh the term."""

_TOLD_TO_A_MODEL = ("title", "citation", "begin_year")
"""Metadata that a chat model is shown with a passage: its source, and nothing else."""


@dataclass(frozen=True, slots=True)
class Node:
    """One searchable unit.

    Attributes:
        id: unique in the corpus; the document's id, or that and a suffix.
        document_id: the document it is of.
        names: what the passage is called (law, title, defined term), searched with extra weight.
        context: other searched metadata (chapter, tags).
        text: the passage itself.
        metadata: the document's metadata, for display and filters.
    """

    id: str
    document_id: str
    names: tuple[str, ...]
    context: str
    text: str
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def embedded_text(self) -> str:
        """What an embedding model is given: a heading line, then the context and the text."""
        body = [self.context, self.text] if self.context else [self.text]
        return "\n".join([HEADING_SEPARATOR.join(self.names), *body])

    def to_json(self) -> bytes:
        """One line of `nodes.jsonl`, with its newline."""
        row = {
            "id": self.id,
            "document_id": self.document_id,
            "names": self.names,
            "context": self.context,
            "text": self.text,
            "metadata": self.metadata,
        }
        return orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)

    @classmethod
    def from_json(cls, line: bytes | memoryview) -> Node:
        """The node of one line of `nodes.jsonl`."""
        row = orjson.loads(line)
        row["names"] = tuple(row["names"])
        return cls(**row)

    def to_text_node(self) -> TextNode:
        """The node as LlamaIndex knows it, related to its document."""
        from llama_index.core.schema import NodeRelationship, RelatedNodeInfo, TextNode

        hidden = [key for key in self.metadata if key not in _TOLD_TO_A_MODEL]
        return TextNode(
            id_=self.id,
            text=self.text,
            metadata=dict(self.metadata),
            excluded_llm_metadata_keys=[*hidden, "document_id", "scores", "ranks"],
            relationships={NodeRelationship.SOURCE: RelatedNodeInfo(node_id=self.document_id)},
        )


def split_document(document: Document, max_chars: int) -> list[Node]:
    """The nodes of one document, itself first.

    Args:
        document: with `metadata["record"]` telling its kind (show, pasal, text).
        max_chars: longer texts are split at paragraphs, then sentences.
    """
    metadata, record = document.metadata, document.metadata.get("record", "text")
    name_keys = _NAME_KEYS.get(record, ("title",))
    hidden = {*document.excluded_embed_metadata_keys, *name_keys}
    names = tuple(_values(metadata, name_keys))
    context = " ".join(_values(metadata, [key for key in metadata if key not in hidden]))
    pieces = split_text(document.text, max_chars)
    nodes = [
        Node(
            document.id_ if number == 0 else _piece_id(document.id_, number),
            document.id_,
            names,
            context,
            piece,
            metadata,
        )
        for number, piece in enumerate(pieces)
    ]
    return nodes + _children(document, names, max_chars) if record == "pasal" else nodes


def _piece_id(document_id: str, number: int) -> str:
    return f"{document_id}!piece-{number + 1}"


def _children(document: Document, names: tuple[str, ...], max_chars: int) -> list[Node]:
    about = {k: v for k, v in document.metadata.items() if k not in ("penjelasan", "ayat")}
    label = str(document.metadata.get("pasal_label", ""))
    seen: dict[str, int] = {}
    nodes = []
    for suffix, term, text in child_passages(document):
        seen[suffix] = seen.get(suffix, 0) + 1
        unique = suffix if seen[suffix] == 1 else f"{suffix}.{seen[suffix]}"
        called, context = ((*names, term), f"{label} {_ASKED_FOR_AS}") if term else (names, label)
        for number, piece in enumerate(split_text(text, max_chars)):
            tail = f".piece-{number + 1}" if number else ""
            node_id = f"{document.id_}!{unique}{tail}"
            nodes.append(
                Node(node_id, document.id_, called, context, piece, {**about, "part": unique})
            )
    return nodes


def split_text(text: str, max_chars: int) -> list[str]:
    """Splits at line breaks, then sentence ends, then words, into pieces of at most `max_chars`."""
    if len(text) <= max_chars:
        return [text]
    pieces, current = [], ""
    for segment in _segments(text, max_chars):
        if current and len(current) + len(segment) > max_chars:
            pieces.append(current.strip())
            current = ""
        current += segment
    pieces.append(current.strip())
    return [piece for piece in pieces if piece]


def _segments(text: str, max_chars: int) -> Iterator[str]:
    """Parts that each fit, separators kept, cut at the best seam that makes them fit."""
    for line in text.splitlines(keepends=True):
        rest = line
        while len(rest) > max_chars:
            window = rest[:max_chars]
            seam = max(window.rfind(end) + len(end) for end in (". ", "; "))
            if seam < max_chars // 4:
                seam = window.rfind(" ") + 1 or max_chars
            yield rest[:seam]
            rest = rest[seam:]
        yield rest


def _values(metadata: Mapping[str, Any], keys: Iterable[str]) -> Iterator[str]:
    for key in keys:
        value = metadata.get(key)
        if isinstance(value, list):
            yield from (" ".join(str(entry).split()) for entry in value)
        elif value:
            yield " ".join(str(value).split())


class NodeWriter:
    """Spools nodes into the files that `NodeStore` opens; one node is in memory at a time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._offsets = [0]
        self._ids: list[str] = []
        self._document_ids: list[str] = []

    def __enter__(self) -> NodeWriter:
        self._file = (self._folder / "nodes.jsonl").open("wb")
        return self

    def add(self, node: Node) -> None:
        """Appends a node."""
        self._offsets.append(self._offsets[-1] + self._file.write(node.to_json()))
        self._ids.append(node.id)
        self._document_ids.append(node.document_id)

    def __exit__(self, *_: object) -> None:
        self._file.close()
        np.save(self._folder / "nodes.offsets.npy", np.array(self._offsets, np.int64))
        keys = {"ids": self._ids, "document_ids": self._document_ids}
        (self._folder / "nodes.keys.json").write_bytes(orjson.dumps(keys))


class NodeStore:
    """The nodes of a snapshot, read from disk one by one: opening costs no memory."""

    def __init__(self, folder: Path) -> None:
        # Read at once: a later ingestion may delete the folder while this is open.
        self._keys: dict[str, list[str]] = orjson.loads((folder / "nodes.keys.json").read_bytes())
        self._offsets = np.load(folder / "nodes.offsets.npy", mmap_mode="r", allow_pickle=False)
        with (folder / "nodes.jsonl").open("rb") as file:
            # Mapped: a thread that reads would give up the interpreter, and wait to get it back.
            empty = not os.fstat(file.fileno()).st_size
            self._lines = None if empty else mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        # Many users' questions are answered from the same ones.
        self._recent = lru_cache(_RECENT)(self._read)

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def __getitem__(self, position: int) -> Node:
        return self._recent(position)

    def _read(self, position: int) -> Node:
        start, end = int(self._offsets[position]), int(self._offsets[position + 1])
        return Node.from_json(self._bytes(start, end))

    def _bytes(self, start: int, end: int) -> bytes:
        if self._lines is None:
            raise IndexError(f"there is no node at byte {start}: the snapshot is empty")
        return self._lines[start:end]

    def __iter__(self) -> Iterator[Node]:
        for start in range(0, len(self), _BLOCK):
            yield from self.read(range(start, min(start + _BLOCK, len(self))))

    def read(self, positions: Sequence[int]) -> Iterator[Node]:
        """The nodes at ascending positions; those side by side are read at once."""
        first = 0
        for place, position in enumerate(positions):
            if place + 1 == len(positions) or positions[place + 1] != position + 1:
                yield from self._stretch(positions[first], position + 1)
                first = place + 1

    def _stretch(self, start: int, stop: int) -> Iterator[Node]:
        ends = self._offsets[start : stop + 1].tolist()
        lines = memoryview(self._bytes(ends[0], ends[-1]))
        for begin, end in pairwise(ends):
            yield Node.from_json(lines[begin - ends[0] : end - ends[0]])

    def whole(self, position: int) -> int:
        """The node of the whole document that a part is of; the part itself if there is none.

        A text that was too long for one node has none: its pieces, and its definitions, stand for
        themselves.
        """
        document_id = self.document_ids[position]
        first = position
        while first and self.document_ids[first - 1] == document_id:
            first -= 1
        after = self.ids[first + 1] if first + 1 < len(self) else ""
        return position if after == _piece_id(document_id, 1) else first

    @property
    def ids(self) -> list[str]:
        """Every node's id, in order."""
        return self._keys["ids"]

    @property
    def document_ids(self) -> list[str]:
        """Every node's document, in order."""
        return self._keys["document_ids"]

    def close(self) -> None:
        """Closes the file."""
        if self._lines is not None:
            self._lines.close()
