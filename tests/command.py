"""Running the command line in tests: in this process as `main` does it, or in one of its own."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from rag_lab import cli


@dataclass
class Told:
    """What a command came to."""

    status: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        return json.loads(self.out)

    @property
    def rows(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]


Run = Callable[..., Told]


def runner(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Gives a function that runs the command line in this process."""

    def run(*arguments: object, typed: str = "") -> Told:
        monkeypatch.setattr(sys, "argv", ["rag-lab", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
        capsys.readouterr()
        status = 0
        with warnings.catch_warnings():
            # Told once, by the test of what is left open; the process ends after a command.
            warnings.filterwarnings("ignore", "unclosed file .*nodes.jsonl", ResourceWarning)
            try:
                cli.main()
            except SystemExit as ended:
                status = int(ended.code or 0)
        out, err = capsys.readouterr()
        return Told(status, out, err)

    return run


def apart(*arguments: str, typed: str = "") -> Told:
    """Runs the command line in a process of its own."""
    command = [sys.executable, "-m", "rag_lab.cli", *arguments]
    done = subprocess.run(command, input=typed, capture_output=True, text=True, check=False)
    return Told(done.returncode, done.stdout, done.stderr)
