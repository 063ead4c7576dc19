"""Texts that a model would not embed: remembered, so that they are not sent again and again."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path


class FailedTexts:
    """The reason for each text that got no vector, by its key in the vector cache.

    One small JSON file, written anew as a whole. A damaged one counts as empty: the texts are
    then asked for once more. The methods block: call them from a thread.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._reasons: dict[str, str] = {}
        try:
            read = json.loads(path.read_bytes())
        except (OSError, ValueError):
            return
        if isinstance(read, dict):
            self._reasons = {str(key): str(reason) for key, reason in read.items()}

    def reason(self, key: bytes) -> str | None:
        """Why that text got no vector, or None if it never failed."""
        return self._reasons.get(key.hex())

    def add(self, reasons: Mapping[bytes, str]) -> None:
        """Remembers more of them; they are on disk when this returns."""
        self._reasons.update({key.hex(): reason for key, reason in reasons.items()})
        scratch = self.path.with_name(f".{self.path.name}-{os.getpid()}")
        with scratch.open("w", encoding="utf-8") as file:
            json.dump(self._reasons, file, indent=0)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(self.path)

    def forget(self) -> None:
        """Forgets all of them: they will be sent again."""
        self._reasons.clear()
        self.path.unlink(missing_ok=True)
