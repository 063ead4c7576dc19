"""Every notebook: its form in git, and its figures when executed."""

from __future__ import annotations

import ast
import json
import queue
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from jupyter_client.manager import start_new_kernel
from jupyter_core.utils import ensure_event_loop

from rag_lab.workbench.export import NOTEBOOKS
from rag_lab.workbench.record import MIME, read_record
from rag_lab.workbench.run import run_notebook

ALL = sorted(NOTEBOOKS.glob("*.ipynb"))
MOST_CODE_LINES = 60
CELL_SECONDS = 120


@pytest.fixture(params=ALL, ids=lambda path: path.stem)
def notebook(request: pytest.FixtureRequest) -> dict[str, Any]:
    return json.loads(request.param.read_text(encoding="utf-8"))


def code_cells(notebook: dict[str, Any]) -> list[str]:
    return ["".join(c["source"]) for c in notebook["cells"] if c["cell_type"] == "code"]


def tagged(notebook: dict[str, Any], tag: str) -> list[dict[str, Any]]:
    return [cell for cell in notebook["cells"] if tag in cell["metadata"].get("tags", [])]


def test_is_committed_without_outputs(notebook: dict[str, Any]) -> None:
    for cell in notebook["cells"]:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


def test_is_an_essay_of_few_lines_and_no_definitions(notebook: dict[str, Any]) -> None:
    source = "\n".join(code_cells(notebook))
    assert sum(bool(line.strip()) for line in source.splitlines()) <= MOST_CODE_LINES
    tree = compile(source, "notebook", "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    definitions = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    assert not [node for node in ast.walk(tree) if isinstance(node, definitions)]


def test_title_is_a_question(notebook: dict[str, Any]) -> None:
    first = notebook["cells"][0]
    assert first["cell_type"] == "markdown"
    title = "".join(first["source"]).splitlines()[0]
    assert title.startswith("# ")
    assert title.endswith("?")


def test_parameters_are_plain_typed_assignments(notebook: dict[str, Any]) -> None:
    (cell,) = tagged(notebook, "parameters")
    source = "".join(cell["source"])
    for line, statement in zip(source.splitlines(), ast.parse(source).body, strict=True):
        assert isinstance(statement, ast.AnnAssign)
        assert isinstance(statement.value, ast.Constant)
        assert line.count("=") == 1  # papermill's reader trips on a second one, and on '|'
        assert "|" not in line
        assert "#" in line  # what the parameter is for


def test_records_its_figures_in_one_cell(notebook: dict[str, Any]) -> None:
    assert len(tagged(notebook, "record")) == 1


async def test_quickstart_on_shows_by_papermill(tmp_path: Path) -> None:
    run = await run_notebook(NOTEBOOKS / "00_quickstart.ipynb", {"corpus": "anime"}, tmp_path)
    assert (run.state, run.error) == ("done", "")
    figures = read_record(run.executed)
    assert figures["complete"]
    assert figures["documents"] >= 200
    assert figures["rejected"] == 0
    ranks = figures["rr_at_10"]
    assert set(ranks) == {"keyword", "dense", "hybrid"}
    assert ranks["hybrid"] >= max(ranks["keyword"], ranks["dense"]) - 0.005
    assert figures["verdict"].startswith("hybrid")
    recorded = json.loads((run.folder / "run.json").read_text(encoding="utf-8"))
    assert recorded["figures"] == figures
    assert str(tmp_path) not in (run.folder / "run.json").read_text(encoding="utf-8")
    assert str(tmp_path) not in run.executed.read_text(encoding="utf-8")


@pytest.fixture
def own_loop() -> Iterator[None]:
    """The blocking kernel client makes a loop by itself, and never closes it."""
    loop = ensure_event_loop()
    yield
    loop.close()


@pytest.mark.usefixtures("own_loop")
def test_quickstart_on_law_with_all_cells_queued_at_once() -> None:
    """As JupyterLab's Run All does; papermill sends one cell at a time and would not notice."""
    cells = nbformat.read(NOTEBOOKS / "00_quickstart.ipynb", as_version=4).cells
    sources = [cell.source for cell in cells if cell.cell_type == "code"]
    sources[0] += '\ncorpus = "law_id"'
    manager, client = start_new_kernel(extra_arguments=["--IPKernelApp.log_level=40"])
    try:
        asked = [client.execute(source) for source in sources]
        replies: dict[str, Any] = {}
        while not replies.keys() >= set(asked):  # late answers to the client's own calls pass too
            reply = client.get_shell_msg(timeout=CELL_SECONDS)
            replies[reply["parent_header"]["msg_id"]] = reply["content"]
        assert [replies[message]["status"] for message in asked] == ["ok"] * len(asked)
        figures = _recorded(client)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
        manager.cleanup_resources()
    assert figures["documents"] >= 250
    assert figures["questions"] >= 80
    assert figures["rr_at_10"]["hybrid"] > 0.7


def _recorded(client: Any) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    while True:
        try:
            message = client.get_iopub_msg(timeout=1)
        except queue.Empty:
            return figures
        figures |= message["content"].get("data", {}).get(MIME, {})
