"""The answers to a file of questions on disk: kept one by one, found again by the next run."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson
from filelock import FileLock, Timeout
from pydantic import TypeAdapter, ValidationError

from rag_lab.errors import SettingsError
from rag_lab.index.threads import in_thread
from rag_lab.records import Answer

_START = b'{"origin": {'
_answers = TypeAdapter(Answer)


@dataclass(frozen=True, slots=True)
class Origin:
    """What answers depend on beside the question: the corpus, its snapshot, and the settings.

    `settings` is the fingerprint of those that decide results.
    """

    corpus: str
    snapshot: str
    settings: str


@dataclass(frozen=True, slots=True)
class QuestionOutcome:
    """What became of one question: its answer, or the reason why there is none.

    `known` tells that an earlier run had answered it.
    """

    id: str
    question: str
    answer: Answer | None = None
    error: str = ""
    known: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON: the answer's, or the `error`, with the question and its id."""
        told = {"error": self.error} if self.answer is None else self.answer.to_dict()
        return {"id": self.id, "question": self.question} | told | {"question": self.question}


class AnswerLog:
    """The answers to a file of questions: JSON lines, appended, each on disk before it is told.

    A row is an outcome's `to_dict` and its `origin`. The newest line of an id counts. A question is
    answered already if a line of the same origin holds its text, under whatever id; failed and
    degraded ones are asked again. One process holds the log; a last line that was cut off by a kill
    is taken away. Some 500 bytes of memory a question, the answers stay on disk.

    Args:
        path: the file; made if it is not there.
        origin: of the answers that will be added, and that count as answered.

    Raises:
        SettingsError: another process writes it, it is something else, or it cannot be written.
    """

    def __init__(self, path: Path, origin: Origin) -> None:
        self.path = path.resolve()
        self.origin = origin
        self.notes: list[str] = []
        self._places: dict[bytes, int] = {}  # of sound answers of the origin, by question
        self._said: dict[str, bytes] = {}  # what the newest line of an id says
        self._answered: set[str] = set()
        self._end = 0
        self._pending: deque[QuestionOutcome] = deque()
        self._turn = asyncio.Lock()
        self._writing = threading.Lock()
        self._broken = ""
        self._lock = FileLock(self.path.with_name(f".{self.path.name}.lock"))
        with self._explained(), ExitStack() as undo:
            self._acquire()
            undo.callback(self._lock.release)
            self._file = undo.enter_context(self.path.open("ab", buffering=0))
            self._take_in()
            undo.pop_all()  # it is ours: the file stays open

    def __len__(self) -> int:
        """Questions, by id, whose newest line is an answer of the origin."""
        return len(self._answered)

    async def find(self, question: str) -> Answer | None:
        """The answer that a question was given before, if it need not be asked again."""
        if self._broken:
            raise SettingsError(self._broken)
        place = self._places.get(_digest(question))
        return None if place is None else await in_thread(self._answer_at, place)

    async def add(self, outcome: QuestionOutcome) -> None:
        """Keeps an outcome, on disk when this returns; those added meanwhile go in one write.

        What the newest line of the id says already is not said again, unless it is a new answer.
        """
        fresh = outcome.answer is not None and not outcome.known
        if not fresh and self._said.get(outcome.id) == _sense(self._head(outcome)):
            return
        self._pending.append(outcome)
        async with self._turn:
            if self._pending:
                await in_thread(self._write)

    def close(self) -> None:
        """Writes what is answered and not yet written, and lets others have the log."""
        if self._file.closed:
            return
        try:
            if not self._broken:
                self._write()
        finally:
            self._file.close()
            self._lock.release()

    def discard(self) -> None:
        """Closes the log and deletes it."""
        self.path.unlink(missing_ok=True)
        self.close()

    def _acquire(self) -> None:
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise SettingsError(
                f"{self.path} is being written by another 'rag-lab query'. "
                "Wait until it has ended, or give another --out."
            ) from None

    def _take_in(self) -> None:
        with self.path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                row = _row_of(line)
                whole = line.endswith(b"\n")
                if number == 1 and not (row if whole else _START.startswith(line[: len(_START)])):
                    raise SettingsError(
                        f"{self.path} holds something else than answers; it is left as it is. "
                        "Give --out a new file, or one that 'rag-lab query' has written."
                    )
                if not whole:
                    self._file.truncate(self._end)
                    self.notes.append(
                        f"{self.path.name}: line {number} was cut off while it was written; it is "
                        "taken away, and its question asked again"
                    )
                elif row is None:
                    self.notes.append(f"{self.path.name}: line {number} is no answer; passed over")
                    self._end += len(line)
                else:
                    self._remember(row, len(line))

    def _remember(self, row: Mapping[str, Any], size: int) -> None:
        name = row["id"]
        self._said[name] = _sense(row)
        if row["origin"] == asdict(self.origin) and "error" not in row:
            self._answered.add(name)
            if not row.get("degraded"):
                self._places[_digest(row["question"])] = self._end
        else:
            self._answered.discard(name)
        self._end += size

    def _answer_at(self, place: int) -> Answer | None:
        with self._explained(), self.path.open("rb") as file:
            file.seek(place)
            line = file.readline()
        try:
            return _answers.validate_python(orjson.loads(line))
        except (ValidationError, orjson.JSONDecodeError):  # of another version, or overwritten
            return None

    def _write(self) -> None:
        with self._writing, self._explained():
            added = [self._pending.popleft() for _ in range(len(self._pending))]
            rows = [self._head(outcome) | outcome.to_dict() for outcome in added]
            lines = [_line_of(row) for row in rows]
            rest = memoryview(b"".join(lines))
            while rest:
                rest = rest[self._file.write(rest) :]
            os.fsync(self._file.fileno())
            for line, row in zip(lines, rows, strict=True):
                self._remember(row, len(line))

    def _head(self, outcome: QuestionOutcome) -> dict[str, Any]:
        """What a row begins with: enough to know what it says."""
        head = {"origin": asdict(self.origin), "id": outcome.id, "question": outcome.question}
        if outcome.answer is None:
            return {**head, "error": outcome.error}
        return {**head, "degraded": outcome.answer.degraded}

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._broken = (
                f"answers cannot be kept in {self.path}: {error.strerror or error}. "
                "Make room for it, or give --out a file that can be written."
            )
            raise SettingsError(self._broken) from None


def _line_of(row: Mapping[str, Any]) -> bytes:
    # A lone surrogate has no UTF-8.
    text = json.dumps(row, ensure_ascii=False, default=str)
    return text.encode("utf-8", "replace") + b"\n"


def _row_of(line: bytes) -> dict[str, Any] | None:
    if not line.startswith(_START):
        return None
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    known = isinstance(row.get("id"), str) and isinstance(row.get("question"), str)
    return row if known else None


def _sense(row: Mapping[str, Any]) -> bytes:
    """Names what a row says of its question: of which origin it is answered, or why not."""
    return _digest(row["origin"], row["question"], row.get("error"), row.get("degraded"))


def _digest(*values: Any) -> bytes:
    return hashlib.sha256(json.dumps(values, default=str).encode()).digest()[:16]
