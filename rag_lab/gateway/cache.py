"""Replies by content, on disk: what a model was asked once, it is not asked again.

One SQLite file in WAL mode, shared safely by several processes. The key covers everything that
decides a reply: the model's identity, the dimensions, the kind of input and the text; for an
answer its options, and the number of the repeat.
"""

from __future__ import annotations

import hashlib
import json
import logging
import sqlite3
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import stamina

from rag_lab.errors import ModelError

VECTORS_FILE = "vectors.sqlite"
ANSWERS_FILE = "answers.sqlite"
InputKind = Literal["document", "query"]
_LOOKUP = 500
_PATIENCE_S = 60.0
_ROWS = 250
"""Written by one statement: after each, sqlite3 has to wait for Python's interpreter lock again."""
_log = logging.getLogger(__name__)


def _is_busy(error: Exception) -> bool:
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF == sqlite3.SQLITE_BUSY  # whatever kind of busy


class _Kept:
    """A map from 32 bytes to bytes.

    A damaged file is set aside with the ending `.damaged-<time>` and a new one begun;
    `set_aside` then names it. The methods block: call them from a thread.
    """

    table: str
    column: str

    def __init__(self, path: Path) -> None:
        self.path = path
        self.set_aside: Path | None = None
        self._lock = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = self._connect()
        except (sqlite3.OperationalError, OSError) as error:
            raise ModelError(
                f"the cache {path} cannot be opened: {error}. Is the disk full or the "
                "folder not writable? Set RAG_LAB_CACHE to another one."
            ) from error
        except sqlite3.DatabaseError:
            self._start_anew()

    # SQLite does not wait its turn where several processes make a new file a WAL one at once.
    @stamina.retry(on=_is_busy, attempts=None, timeout=_PATIENCE_S, wait_max=0.2)
    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=_PATIENCE_S, check_same_thread=False)
        try:
            connection.execute("PRAGMA synchronous=OFF")  # an empty table can be made again
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute(
                f"CREATE TABLE IF NOT EXISTS {self.table} "
                f"(key BLOB PRIMARY KEY, {self.column} BLOB NOT NULL) WITHOUT ROWID"
            )
            connection.execute(f"SELECT key, {self.column} FROM {self.table} LIMIT 1").fetchone()
            connection.commit()
            connection.execute("PRAGMA synchronous=FULL")  # 'kept' must outlive a power cut too
        except sqlite3.DatabaseError:
            connection.close()
            raise
        return connection

    def _start_anew(self) -> None:
        """Sets the damaged file aside and opens a new one."""
        moment = int(time.time())
        target = self.path.with_name(f"{self.path.name}.damaged-{moment}")
        while target.exists():
            moment += 1
            target = self.path.with_name(f"{self.path.name}.damaged-{moment}")
        self.path.rename(target)
        for ending in ("-wal", "-shm"):
            self.path.with_name(self.path.name + ending).unlink(missing_ok=True)
        self.set_aside = target
        _log.warning("%s was damaged: set aside as %s, and begun anew", self.path, target.name)
        self._connection = self._connect()

    def _get(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """What is known among the keys; nothing, if the file turns out to be damaged.

        Raises:
            ModelError: the file cannot be read.
        """
        with self._lock:
            try:
                return self._found(keys)
            except (sqlite3.OperationalError, sqlite3.ProgrammingError) as error:
                raise ModelError(
                    f"the cache {self.path} cannot be read: {error}. Try again, or set "
                    "RAG_LAB_CACHE to another folder."
                ) from error
            except sqlite3.DatabaseError:
                self._connection.close()
                self._start_anew()
                return {}

    def _found(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        found: dict[bytes, bytes] = {}
        for start in range(0, len(keys), _LOOKUP):
            some = keys[start : start + _LOOKUP]
            marks = ",".join("?" * len(some))
            found.update(
                self._connection.execute(
                    f"SELECT key, {self.column} FROM {self.table} WHERE key IN ({marks})", some
                )
            )
        return found

    def _put(self, rows: Sequence[tuple[bytes, bytes]]) -> None:
        """Keeps the rows; they are on disk when this returns.

        Raises:
            ModelError: the disk is full or the file cannot be written.
        """
        with self._lock:
            try:
                self._keep(rows)
            except (sqlite3.OperationalError, sqlite3.ProgrammingError) as error:
                raise ModelError(
                    f"the cache {self.path} cannot be written: {error}. Free some space or "
                    "set RAG_LAB_CACHE to another folder."
                ) from error
            except sqlite3.DatabaseError:
                self._connection.close()
                self._start_anew()
                self._keep(rows)

    def _keep(self, rows: Sequence[tuple[bytes, bytes]]) -> None:
        with self._connection:
            for start in range(0, len(rows), _ROWS):
                some = rows[start : start + _ROWS]
                marks = ",".join(["(?, ?)"] * len(some))
                self._connection.execute(
                    f"INSERT OR IGNORE INTO {self.table} VALUES {marks}", [*chain(*some)]
                )

    def __len__(self) -> int:
        with self._lock:
            (count,) = self._connection.execute(f"SELECT count(*) FROM {self.table}").fetchone()
        return int(count)

    def tidy(self) -> None:
        """Moves what was kept from the log into the file proper, as closing it would."""
        with self._lock:
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()

    def close(self) -> None:
        """Closes the file; everything kept is on disk already."""
        with self._lock:
            self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class VectorCache(_Kept):
    """A map from (model, dimensions, kind, text), as `cache_key` says, to a float32 vector."""

    table = "vectors"
    column = "vector"

    def get(self, keys: Sequence[bytes]) -> dict[bytes, np.ndarray]:
        """The vectors known among the keys; none, if the file turns out to be damaged."""
        return {key: np.frombuffer(blob, np.float32) for key, blob in self._get(keys).items()}

    def put(self, keys: Sequence[bytes], vectors: Iterable[np.ndarray]) -> None:
        """Keeps one vector a key, of any lengths; they are on disk when this returns.

        Raises:
            ModelError: the disk is full or the file cannot be written.
        """
        blobs = (np.ascontiguousarray(row, np.float32).tobytes() for row in vectors)
        self._put(list(zip(keys, blobs, strict=True)))


class AnswerCache(_Kept):
    """A map from (model, messages, options, repeat), as `answer_key` says, to a chat reply."""

    table = "answers"
    column = "reply"

    def get(self, key: bytes) -> dict[str, Any] | None:
        """The reply as plain data, if it is known."""
        found = self._get([key]).get(key)
        return None if found is None else json.loads(found)

    def put(self, key: bytes, reply: Mapping[str, Any]) -> None:
        """Keeps a reply; it is on disk when this returns.

        Raises:
            ModelError: the disk is full or the file cannot be written.
        """
        self._put([(key, json.dumps(reply, ensure_ascii=False).encode())])


def answer_key(
    model: str, messages: Sequence[Mapping[str, Any]], options: Mapping[str, Any], repeat: int
) -> bytes:
    """The key of an answer: 32 bytes over model identity, messages, options and repeat."""
    asked = json.dumps(
        [model, [dict(each) for each in messages], dict(options), repeat], sort_keys=True
    )
    return hashlib.sha256(asked.encode()).digest()


def cache_key(model: str, dimensions: int | None, kind: InputKind, text: str) -> bytes:
    """The key of a vector: 32 bytes over model identity, dimensions, input kind and text."""
    return cache_keys(model, dimensions, kind, [text])[0]


def cache_keys(
    model: str, dimensions: int | None, kind: InputKind, texts: Iterable[str]
) -> list[bytes]:
    """The `cache_key` of each text."""
    common = hashlib.sha256()
    for part in (model, str(dimensions or ""), kind):
        common.update(_measured(part))
    keys = []
    for text in texts:
        digest = common.copy()
        digest.update(_measured(text))
        keys.append(digest.digest())
    return keys


def _measured(part: str) -> bytes:
    """With its length before it, so that no two parts run into one another."""
    encoded = part.encode("utf-8", "surrogatepass")
    return len(encoded).to_bytes(8, "little") + encoded
