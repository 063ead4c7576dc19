"""Reading corpus files line by line: bounded memory, nothing dropped without a word."""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import orjson

from rag_lab.errors import CorpusError, Rejection

MAX_LINE_BYTES = 16 * 1024 * 1024
_CHUNK_BYTES = 1024 * 1024
BOM = b"\xef\xbb\xbf"
DAMAGE = (OSError, EOFError, zlib.error)
"""What reading a truncated or corrupt file raises."""
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ufeff]")


def clean_text(text: str) -> str:
    """Takes control characters (NUL among them) and byte-order marks out of corpus text."""
    return _CONTROL.sub("", text).strip()


def open_binary(path: Path) -> IO[bytes]:
    """Opens a file for reading, unpacking `.gz`.

    Raises:
        CorpusError: the file cannot be opened.
    """
    try:
        return gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")  # type: ignore[return-value]
    except OSError as error:
        raise CorpusError(f"cannot open {path}: {error.strerror}. Check the path.") from error


def read_whole(path: Path) -> bytes | Rejection:
    """A whole file without its byte-order mark, or why it cannot be read."""
    with open_binary(path) as stream:
        try:
            return stream.read().removeprefix(BOM)
        except DAMAGE as error:
            return Rejection(path.name, 1, f"file is damaged: {error}")


def read_lines(path: Path) -> Iterator[tuple[int, bytes] | Rejection]:
    """Yields (line number from 1, line) pairs; one over 16 MiB is rejected, not held."""
    with open_binary(path) as stream:
        number = 0
        while True:
            number += 1
            try:
                line = stream.readline(MAX_LINE_BYTES + 1)
                if len(line) > MAX_LINE_BYTES:
                    size = len(line) + _skip_line(stream)
                    yield Rejection(
                        path.name, number, f"line of {size:,} bytes; at most {MAX_LINE_BYTES:,}"
                    )
                    continue
            except DAMAGE as error:
                yield Rejection(path.name, number, f"file is damaged from here on: {error}")
                return
            if not line:
                return
            yield number, line


def _skip_line(stream: IO[bytes]) -> int:
    skipped = 0
    while True:
        piece = stream.readline(_CHUNK_BYTES)
        skipped += len(piece)
        if not piece or piece.endswith(b"\n"):
            return skipped


def read_json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]] | Rejection]:
    """Yields (line number, object) pairs of a JSON-lines file; blank lines are passed over."""
    for item in read_lines(path):
        if isinstance(item, Rejection):
            yield item
            continue
        number, line = item
        if not line.strip():
            continue
        yield parse_object(line, path.name, number)


def parse_object(line: bytes, file: str, number: int) -> tuple[int, dict[str, Any]] | Rejection:
    """Parses one JSON object, or says why it is none."""
    try:
        text = line.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return Rejection(file, number, f"not UTF-8 (byte {error.start}: 0x{line[error.start]:02x})")
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        return Rejection(file, number, f"malformed JSON: {error}")
    if not isinstance(value, dict):
        return Rejection(file, number, f"expected a JSON object, got {type(value).__name__}")
    return number, value
