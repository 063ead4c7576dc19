"""Questions from a file: one a line, or JSON lines."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

from rag_lab.corpora.files import clean_text, parse_object, read_lines
from rag_lab.errors import Rejection


@dataclass(frozen=True, slots=True)
class Asked:
    """A question as it stood in a file; its id is given there or is its line number."""

    id: str
    text: str


def read_asked(path: Path) -> Generator[Asked | Rejection, None, None]:
    """Yields the questions of a text or `.jsonl` file, or why a line is none.

    Blank lines are passed over; one bad line does not keep the others from being asked.

    Raises:
        CorpusError: the file cannot be opened.
    """
    as_json = ".jsonl" in path.suffixes
    for item in read_lines(path):
        if isinstance(item, Rejection):
            yield item
            continue
        number, line = item
        if not line.strip():
            continue
        asked = (_from_json if as_json else _from_text)(line, path.name, number)
        if isinstance(asked, Rejection) or asked.text:
            yield asked


def _from_json(line: bytes, file: str, number: int) -> Asked | Rejection:
    parsed = parse_object(line, file, number)
    if isinstance(parsed, Rejection):
        return parsed
    row = parsed[1]
    text = clean_text(str(row.get("text") or row.get("question") or ""))
    if not text:
        return Rejection(file, number, "no question; expected 'text' or 'question'")
    return Asked(str(row.get("id", number)), text)


def _from_text(line: bytes, file: str, number: int) -> Asked | Rejection:
    try:
        return Asked(str(number), clean_text(line.decode("utf-8-sig")))
    except UnicodeDecodeError as error:
        return Rejection(file, number, f"not UTF-8 (byte {error.start})")
