"""Questions from a file: one a line, or JSON lines."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rag_lab.corpora.files import clean_text, parse_object, read_lines
from rag_lab.errors import CorpusError, Rejection


@dataclass(frozen=True, slots=True)
class Asked:
    """A question as it stood in a file; its id is given there or is its line number."""

    id: str
    text: str


def read_asked(path: Path) -> Iterator[Asked]:
    """Yields the questions of a text or `.jsonl` file; blank lines are passed over.

    Raises:
        CorpusError: the file cannot be opened, or a line is no question; the place is named.
    """
    as_json = ".jsonl" in path.suffixes
    for item in read_lines(path):
        if isinstance(item, Rejection):
            raise CorpusError(str(item))
        number, line = item
        if not line.strip():
            continue
        asked = _from_json(line, path.name, number) if as_json else _from_text(line, path, number)
        if asked.text:
            yield asked


def _from_json(line: bytes, file: str, number: int) -> Asked:
    parsed = parse_object(line, file, number)
    if isinstance(parsed, Rejection):
        raise CorpusError(str(parsed))
    row = parsed[1]
    text = clean_text(str(row.get("text") or row.get("question") or ""))
    if not text:
        raise CorpusError(f"{file}:{number}: no question; expected 'text' or 'question'.")
    return Asked(str(row.get("id", number)), text)


def _from_text(line: bytes, path: Path, number: int) -> Asked:
    try:
        return Asked(str(number), clean_text(line.decode("utf-8-sig")))
    except UnicodeDecodeError as error:
        raise CorpusError(f"{path.name}:{number}: not UTF-8 (byte {error.start}).") from None
