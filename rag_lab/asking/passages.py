"""Retrieved nodes as passages with a readable source, and passages as citable statements."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rag_lab.records import Passage

if TYPE_CHECKING:
    from llama_index.core.schema import NodeWithScore

FOUND_BY = "found_by_parts"
"""In a node's metadata: the numbers of the parts of the question that found it."""

_STATEMENT_CHARS = 700
_NUMBERS = re.compile(r"\s?\[\d{1,3}(?:\s*[,;]\s*\d{1,3})*\]")
_MARKER = re.compile(r"(?:[a-z]{1,2}|\d{1,3})[.)]\s+")
_SENTENCE_END = re.compile(r"(?<=[.!?。])\s+(?=[\"“(]?[A-Z0-9\u3040-\u9fff])")


def passages_of(nodes: Sequence[NodeWithScore]) -> tuple[Passage, ...]:
    """Passages in the order of the nodes."""
    return tuple(
        Passage(
            node_id=found.node.node_id,
            document_id=document_id_of(found),
            text=found.node.get_content(),
            score=float(found.score or 0.0),
            source=source_of(found.node.metadata) or found.node.node_id,
            scores=dict(found.node.metadata.get("scores", {})),
            ranks=dict(found.node.metadata.get("ranks", {})),
            parts=tuple(found.node.metadata.get(FOUND_BY, ())),
        )
        for found in nodes
    )


def document_id_of(found: NodeWithScore) -> str:
    """The document a node belongs to; the node itself where it does not say."""
    return str(found.node.metadata.get("document_id", found.node.node_id))


def document_ids_of(nodes: Sequence[NodeWithScore]) -> tuple[str, ...]:
    """The documents of nodes, each once, in their order."""
    return tuple(dict.fromkeys(map(document_id_of, nodes)))


def without_citations(text: str, passages: Sequence[Passage]) -> str:
    """The text of an answer without its citations: sources, or numbers of passages, in brackets."""
    for source in {passage.source for passage in passages}:
        text = text.replace(f" [{source}]", "")
    return _NUMBERS.sub("", text).strip()


def source_of(metadata: dict[str, Any]) -> str:
    """How a reader would name the source: a citation, or a title with its year."""
    if citation := metadata.get("citation"):
        return f"{citation} (restated)" if metadata.get("restated") else str(citation)
    title, year = metadata.get("title"), metadata.get("begin_year")
    return f"{title} ({year})" if title and year else str(title or "")


def statements(text: str) -> list[str]:
    """A passage cut into pieces that can be cited alone.

    Sentences, except that the items of a list stay with the line that opens it: "(2) … if:
    a. …; b. …" says nothing when cut.
    """
    pieces: list[str] = []
    for line in filter(None, map(str.strip, text.splitlines())):
        open_list = pieces and not pieces[-1].endswith(".")
        fits = pieces and len(pieces[-1]) + len(line) < _STATEMENT_CHARS
        if open_list and fits and _MARKER.match(line):
            pieces[-1] += f" {line}"
        else:
            marker = _MARKER.match(line)
            start = marker.end() if marker else 0  # "1. Ship means …" is not two sentences
            first, *others = _SENTENCE_END.split(line[start:])
            pieces += [line[:start] + first, *others]
    return [piece for piece in pieces if piece]
