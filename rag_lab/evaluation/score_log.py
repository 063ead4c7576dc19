"""Scores and rankings on disk: kept one by one, found again by the next run."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson
from filelock import FileLock, Timeout

from rag_lab.errors import SettingsError
from rag_lab.evaluation.scores import Measure, Sample
from rag_lab.index.threads import in_thread

_START = b'{"key": "'


class RowLog:
    """Rows by their keys: JSON lines, appended, each on disk before `add` returns.

    The newest line of a key counts. One process holds the log; a last line that was cut off by a
    kill is taken away, and `notes` says so. All rows are in memory.

    Raises:
        SettingsError: another process writes it, it is something else, or it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self.notes: list[str] = []
        self._rows: dict[str, Mapping[str, Any]] = {}
        self._pending: deque[tuple[str, Mapping[str, Any]]] = deque()
        self._turn = asyncio.Lock()
        self._writing = threading.Lock()
        self._lock = FileLock(self.path.with_name(f".{self.path.name}.lock"), thread_local=False)
        with self._explained(), ExitStack() as undo:
            self._acquire()
            undo.callback(self._lock.release)
            self._file = undo.enter_context(self.path.open("ab", buffering=0))
            self._take_in()
            undo.pop_all()  # it is ours: the file stays open

    def __len__(self) -> int:
        """Keys with a row."""
        return len(self._rows)

    def find(self, key: str) -> Mapping[str, Any] | None:
        """The newest row of a key."""
        return self._rows.get(key)

    async def add(self, key: str, row: Mapping[str, Any]) -> None:
        """Keeps a row, on disk when this returns; those added meanwhile go in one write.

        What the newest row of the key says already is not said again.
        """
        if self._rows.get(key) == row:
            return
        self._pending.append((key, row))
        async with self._turn:
            if self._pending:
                await in_thread(self._write)

    def close(self) -> None:
        """Writes what is not yet written, and lets others have the log."""
        if self._file.closed:
            return
        try:
            self._write()
        finally:
            self._file.close()
            self._lock.release()

    def _acquire(self) -> None:
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise SettingsError(
                f"{self.path} is being written by another evaluation. Wait until it has ended, or "
                "give another --out."
            ) from None

    def _take_in(self) -> None:
        end = 0
        with self.path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                whole = line.endswith(b"\n")
                if number == 1 and not _START.startswith(line[: len(_START)]):
                    raise SettingsError(
                        f"{self.path} holds something else than scores; it is left as it is. "
                        "Give --out a new folder, or one that an evaluation has written."
                    )
                if not whole:
                    self._file.truncate(end)
                    self.notes.append(f"{self.path.name}: line {number} was cut off; taken away")
                else:
                    self._remember(number, line)
                end += len(line)

    def _remember(self, number: int, line: bytes) -> None:
        try:
            row = orjson.loads(line)
            self._rows[row.pop("key")] = row
        except (orjson.JSONDecodeError, AttributeError, KeyError, TypeError):
            self.notes.append(f"{self.path.name}: line {number} is no row; passed over")

    def _write(self) -> None:
        with self._writing, self._explained():
            added = [self._pending.popleft() for _ in range(len(self._pending))]
            rest = memoryview(b"".join(_line_of(key, row) for key, row in added))
            while rest:
                rest = rest[self._file.write(rest) :]
            os.fsync(self._file.fileno())
            self._rows.update(added)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise SettingsError(
                f"{self.path} cannot be written: {error.strerror or error}. Make room for it, or "
                "give --out a folder that can be written."
            ) from None


def _line_of(key: str, row: Mapping[str, Any]) -> bytes:
    # A lone surrogate has no UTF-8.
    text = json.dumps({"key": key, **row}, ensure_ascii=False)
    return text.encode("utf-8", "replace") + b"\n"


def digest(*values: Any) -> str:
    """Names plain data, the same in every process."""
    canonical = json.dumps(values, sort_keys=True, default=str)
    return hashlib.sha256(canonical.encode()).hexdigest()[:24]


def sample_digest(sample: Sample) -> str:
    """Names what a score can depend on: the question with its gold and the answer, not its cost."""
    answer = None
    if sample.answer is not None:
        answer = asdict(sample.answer)
        for record in (answer, *answer["parts"]):
            del record["timing"], record["usage"]
    question = asdict(sample.question)
    return digest(question, answer, sample.failure, sample.language, sample.repeat)


def score_key(sampled: str, measure: Measure) -> str:
    """Names a score: the sample's digest, the measure, and what it says decides its scores.

    A measure with a judge has an `identity` that names the judge; others need none.
    """
    return digest(sampled, measure.name, str(getattr(measure, "identity", "")))


def value_of(row: Mapping[str, Any]) -> float | None:
    """The value a row holds, or None if it holds only the reason why there is none."""
    value = row.get("value")
    return float(value) if isinstance(value, int | float) else None
