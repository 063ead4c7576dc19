"""Vectors by content, on disk: what a model was asked once, it is not asked again.

One SQLite file in WAL mode, shared safely by several processes. The key covers everything that
decides a vector: the model's identity, the dimensions, the kind of input and the text.
"""

from __future__ import annotations

import hashlib
import sqlite3
import threading
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from rag_lab.errors import ModelError

InputKind = Literal["document", "query"]
_LOOKUP = 500
_SCHEMA = """
CREATE TABLE IF NOT EXISTS vectors (
    key BLOB PRIMARY KEY,
    vector BLOB NOT NULL
) WITHOUT ROWID
"""


class VectorCache:
    """A map from (model, dimensions, kind, text) to a float32 vector.

    A damaged file is set aside with the ending `.damaged-<time>` and a new one begun;
    `set_aside` then names it. The methods block: call them from a thread.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.set_aside: Path | None = None
        self._lock = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = self._connect()
        except (sqlite3.OperationalError, OSError) as error:
            raise ModelError(
                f"the vector cache {path} cannot be opened: {error}. Is the disk full or the "
                "folder not writable? Set RAG_LAB_CACHE to another one."
            ) from error
        except sqlite3.DatabaseError:
            self._start_anew()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=60, check_same_thread=False)
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")  # 'kept' must outlive a power cut too
            connection.execute(_SCHEMA)
            connection.execute("SELECT key, vector FROM vectors LIMIT 1").fetchone()
            connection.commit()
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
        self._connection = self._connect()

    def get(self, keys: Sequence[bytes]) -> dict[bytes, np.ndarray]:
        """The vectors known among the keys; none, if the file turns out to be damaged."""
        with self._lock:
            try:
                return self._found(keys)
            except sqlite3.OperationalError:
                raise
            except sqlite3.DatabaseError:
                self._connection.close()
                self._start_anew()
                return {}

    def _found(self, keys: Sequence[bytes]) -> dict[bytes, np.ndarray]:
        found: dict[bytes, np.ndarray] = {}
        for start in range(0, len(keys), _LOOKUP):
            some = keys[start : start + _LOOKUP]
            marks = ",".join("?" * len(some))
            rows = self._connection.execute(
                f"SELECT key, vector FROM vectors WHERE key IN ({marks})", some
            )
            found.update((key, np.frombuffer(blob, np.float32)) for key, blob in rows)
        return found

    def put(self, keys: Sequence[bytes], vectors: np.ndarray) -> None:
        """Keeps one vector a key; they are on disk when this returns.

        Raises:
            ModelError: the disk is full or the file cannot be written.
        """
        blobs: Iterable[bytes] = (
            np.ascontiguousarray(row, np.float32).tobytes() for row in vectors
        )
        rows = list(zip(keys, blobs, strict=True))
        with self._lock:
            try:
                self._keep(rows)
            except sqlite3.OperationalError as error:
                raise ModelError(
                    f"the vector cache {self.path} cannot be written: {error}. Free some space or "
                    "set RAG_LAB_CACHE to another folder."
                ) from error
            except sqlite3.DatabaseError:
                self._connection.close()
                self._start_anew()
                self._keep(rows)

    def _keep(self, rows: Sequence[tuple[bytes, bytes]]) -> None:
        with self._connection:
            self._connection.executemany("INSERT OR IGNORE INTO vectors VALUES (?, ?)", rows)

    def __len__(self) -> int:
        with self._lock:
            (count,) = self._connection.execute("SELECT count(*) FROM vectors").fetchone()
        return int(count)

    def close(self) -> None:
        """Closes the file; everything kept is on disk already."""
        self._connection.close()

    def __enter__(self) -> VectorCache:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def cache_key(model: str, dimensions: int | None, kind: InputKind, text: str) -> bytes:
    """The key of a vector: 32 bytes over model identity, dimensions, input kind and text."""
    digest = hashlib.sha256()
    for part in (model, str(dimensions or ""), kind, text):
        encoded = part.encode("utf-8", "surrogatepass")
        digest.update(len(encoded).to_bytes(8, "little"))
        digest.update(encoded)
    return digest.digest()
