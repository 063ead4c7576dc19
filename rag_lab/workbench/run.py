"""Executing a notebook with papermill into a run folder that explains itself.

runs/<run id>/notebook.ipynb   the executed notebook, without paths of this machine
runs/<run id>/run.json         outcome, parameters, settings, versions, recorded figures
"""

from __future__ import annotations

import asyncio
import json
import platform
import subprocess
import time
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from rag_lab import __version__
from rag_lab.errors import ReportError
from rag_lab.settings import fingerprint_of, load_settings
from rag_lab.workbench.record import read_record

RunState = Literal["done", "failed", "timed out", "kernel died"]
_PACKAGES = ("llama-index-core", "faiss-cpu", "bm25s", "numpy", "papermill")
_CELL_TIMEOUT_S = 900


@dataclass(frozen=True)
class NotebookRun:
    """One executed notebook: where it is, how it ended, what it recorded."""

    run_id: str
    folder: Path
    notebook: str
    parameters: Mapping[str, Any]
    state: RunState
    seconds: float
    error: str = ""
    figures: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    revision: str = ""
    finished: str = ""

    @property
    def executed(self) -> Path:
        """The executed notebook."""
        return self.folder / "notebook.ipynb"

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON, without the folder's place on this machine."""
        return {**asdict(self), "folder": self.folder.name}


async def run_notebook(source: Path, parameters: Mapping[str, Any], runs: Path) -> NotebookRun:
    """Executes a notebook; how it ended is in the result, never an exception.

    Args:
        source: the notebook, with a cell tagged `parameters`.
        parameters: values for that cell.
        runs: the folder that gets the run's folder.
    """
    run_id = _run_id(source, parameters)
    folder = runs / run_id
    folder.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    state, error = await asyncio.to_thread(_with_own_loop, source, folder, parameters)
    _clean(folder / "notebook.ipynb")
    run = NotebookRun(
        run_id=run_id,
        folder=folder,
        notebook=source.stem,
        parameters=dict(parameters),
        state=state,
        seconds=round(time.perf_counter() - started, 1),
        error=error,
        figures=_figures(folder / "notebook.ipynb"),
        versions=_versions(),
        settings={k: v for k, v in load_settings().public().items() if k != "paths"},
        revision=_revision(source.parent),
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    (folder / "run.json").write_text(
        json.dumps(run.to_dict(), indent=1, ensure_ascii=False), encoding="utf-8"
    )
    return run


def _run_id(source: Path, parameters: Mapping[str, Any]) -> str:
    moment = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    return f"{moment}-{source.stem}-{fingerprint_of(dict(parameters))[:6]}"


def _with_own_loop(
    source: Path, folder: Path, parameters: Mapping[str, Any]
) -> tuple[RunState, str]:
    """The kernel client makes a loop for this thread by itself, and never closes it."""
    from jupyter_core.utils import ensure_event_loop

    loop = ensure_event_loop()
    try:
        return _execute(source, folder, parameters)
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


def _execute(source: Path, folder: Path, parameters: Mapping[str, Any]) -> tuple[RunState, str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of papermill's and the kernel client's own making
        import papermill
        from nbclient.exceptions import CellTimeoutError, DeadKernelError
        from papermill.exceptions import PapermillExecutionError

        try:
            papermill.execute_notebook(
                str(source),
                str(folder / "notebook.ipynb"),
                dict(parameters),
                progress_bar=False,
                execution_timeout=_CELL_TIMEOUT_S,
                cwd=str(source.parent),
                extra_arguments=["--IPKernelApp.log_level=40"],  # it warns that loopback is plain
            )
        except PapermillExecutionError as error:
            return "failed", f"{error.ename}: {error.evalue}"
        except CellTimeoutError:
            return "timed out", f"a cell ran for more than {_CELL_TIMEOUT_S} s"
        except DeadKernelError:
            return "kernel died", "the kernel ended by itself; is there enough memory?"
    return "done", ""


def _clean(notebook: Path) -> None:
    """Takes paths of this machine out of papermill's metadata."""
    if not notebook.is_file():
        return
    content = json.loads(notebook.read_text(encoding="utf-8"))
    papermill = content["metadata"].get("papermill", {})
    for key in ("input_path", "output_path", "environment_variables"):
        papermill.pop(key, None)
    notebook.write_text(json.dumps(content, indent=1, ensure_ascii=False), encoding="utf-8")


def _figures(notebook: Path) -> dict[str, Any]:
    try:
        return read_record(notebook)
    except (ReportError, OSError):
        return {}


def _versions() -> dict[str, str]:
    found = {name: version(name) for name in _PACKAGES}
    return {"rag-lab": __version__, "python": platform.python_version(), **found}


def _revision(folder: Path) -> str:
    """The git revision of the checkout, with a plus where it was changed; empty outside of one."""
    try:
        head = subprocess.run(
            ["git", "describe", "--always", "--dirty=+"],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return head.stdout.strip()
