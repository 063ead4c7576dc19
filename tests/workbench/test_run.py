"""Notebook runs: each way to end is recorded as what it was."""

from __future__ import annotations

import json
from pathlib import Path

import nbformat
import pytest

from rag_lab.errors import ReportError
from rag_lab.workbench import run as runs
from rag_lab.workbench.record import MIME, read_record
from rag_lab.workbench.run import run_notebook


def notebook(path: Path, *sources: str) -> Path:
    cells = [nbformat.v4.new_code_cell('name: str = "x"', metadata={"tags": ["parameters"]})]
    cells += [nbformat.v4.new_code_cell(source) for source in sources]
    spec = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=spec), path)
    return path


async def test_parameters_reach_the_notebook_and_figures_come_back(tmp_path: Path) -> None:
    source = notebook(
        tmp_path / "a.ipynb", "from rag_lab.workbench.record import record\nrecord(said=name, n=3)"
    )
    run = await run_notebook(source, {"name": "hello"}, tmp_path / "runs")
    assert (run.state, run.figures) == ("done", {"said": "hello", "n": 3})
    assert run.versions["rag-lab"]
    saved = json.loads((run.folder / "run.json").read_text(encoding="utf-8"))
    assert saved["parameters"] == {"name": "hello"}


async def test_an_exception_is_a_failed_run_with_its_message(tmp_path: Path) -> None:
    run = await run_notebook(notebook(tmp_path / "a.ipynb", "1 / 0"), {}, tmp_path / "runs")
    assert (run.state, run.error) == ("failed", "ZeroDivisionError: division by zero")
    assert run.executed.is_file()


async def test_a_dead_kernel_is_told_apart(tmp_path: Path) -> None:
    source = notebook(tmp_path / "a.ipynb", "import os\nos._exit(9)")
    run = await run_notebook(source, {}, tmp_path / "runs")
    assert run.state == "kernel died"


async def test_a_cell_that_takes_too_long_is_timed_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "_CELL_TIMEOUT_S", 2)
    source = notebook(tmp_path / "a.ipynb", "import time\ntime.sleep(60)")
    run = await run_notebook(source, {}, tmp_path / "runs")
    assert run.state == "timed out"


def recorded(**figures: object) -> dict[str, object]:
    return {"cells": [{"outputs": [{"data": {MIME: figures}}]}]}


def test_a_record_is_read_back() -> None:
    assert read_record(recorded(a=1, b="x")) == {"a": 1, "b": "x"}


def test_a_notebook_without_a_record_is_an_error() -> None:
    with pytest.raises(ReportError, match="executed to its end"):
        read_record({"cells": [{"outputs": []}, {}]})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object()])
def test_what_is_no_figure_is_refused(value: object) -> None:
    from rag_lab.workbench.record import record

    with pytest.raises(ReportError, match="record"):
        record(figure=value)
