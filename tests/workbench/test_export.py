"""Pages: whole, offline, and deaf to what the corpus text tries."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nbformat
import pytest

from rag_lab.errors import ReportError
from rag_lab.workbench.export import sanitise, write_pages
from rag_lab.workbench.run import NotebookRun

PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJg"
    "gg=="
)


def html_output(content: str) -> Any:
    return nbformat.v4.new_output("display_data", data={"text/html": content, "text/plain": ""})


def executed(folder: Path, *cells: Any, state: str = "done", error: str = "") -> NotebookRun:
    folder.mkdir(parents=True)
    heading = nbformat.v4.new_markdown_cell("# Is it *so*?\n\nProse with [a link](https://a.test).")
    notebook = nbformat.v4.new_notebook(cells=[heading, *cells])
    nbformat.write(notebook, folder / "notebook.ipynb")
    return NotebookRun(
        "run-1",
        folder,
        "quick",
        {"corpus": "shows"},
        state,  # type: ignore[arg-type]
        1.0,
        error,
        figures={"verdict": "A beats B."},
    )


def code(source: str, *outputs: Any, tags: tuple[str, ...] = ()) -> Any:
    return nbformat.v4.new_code_cell(source, outputs=list(outputs), metadata={"tags": list(tags)})


def page_of(tmp_path: Path, *cells: Any) -> str:
    write_pages([executed(tmp_path / "run", *cells)], tmp_path / "out")
    return (tmp_path / "out" / "quick-shows.html").read_text(encoding="utf-8")


def test_a_page_shows_prose_outputs_and_verdict_but_no_code(tmp_path: Path) -> None:
    table = "<table><thead><tr><th>a</th></tr></thead><tbody><tr><td>1</td></tr></tbody></table>"
    page = page_of(tmp_path, code("secret_source()", html_output(table)))
    assert "A beats B." in page
    assert "<th>a</th>" in page
    assert "Prose with" in page
    assert "secret_source" not in page


def test_parameters_and_records_stay_out(tmp_path: Path) -> None:
    stream = nbformat.v4.new_output("stream", text="recorded: x")
    page = page_of(tmp_path, code("x = 1", stream, tags=("record",)))
    assert "recorded: x" not in page


@pytest.mark.parametrize(
    "hostile",
    [
        "<script>alert(1)</script>",
        "<ScRiPt src=//evil.test/x.js></ScRiPt >",
        '<img src=x onerror="alert(1)">',
        '<img src="https://evil.test/pixel.png">',
        '<a href="javascript:alert(1)">x</a>',
        '<iframe src="https://evil.test"></iframe>',
        "<style>@import url(https://evil.test/x.css)</style>",
        '<svg onload="alert(1)"></svg>',
        '<form action="https://evil.test"><input></form>',
        '<meta http-equiv="refresh" content="0;url=https://evil.test">',
        '<p style="background:url(https://evil.test/x)">x</p>',
        '<link rel=stylesheet href="https://evil.test/x.css">',
    ],
)
def test_hostile_text_is_disarmed(tmp_path: Path, hostile: str) -> None:
    markdown = nbformat.v4.new_markdown_cell(f"## Seen\n\n{hostile}")
    page = page_of(tmp_path, markdown, code("x", html_output(hostile)))
    body = page.split('<main id="content">')[1]
    tags = re.findall(r"<[^>]*>", body)
    assert not [tag for tag in tags if re.search(r"<script|onerror|onload|evil|style=|iframe", tag)]
    assert "alert(1)" not in "".join(tags)
    assert "@import" not in body


def test_only_images_inside_the_page_are_kept() -> None:
    kept = sanitise(f'<img src="data:image/png;base64,{PIXEL}" alt="bars">')
    assert f"base64,{PIXEL}" in kept
    assert 'alt="bars"' in kept
    assert "src" not in sanitise('<img src="data:text/html;base64,PHNjcmlwdD4=">')


def test_nothing_on_a_page_asks_a_network(tmp_path: Path) -> None:
    image = nbformat.v4.new_output(
        "display_data", data={"image/png": PIXEL}, metadata={"image/png": {"alt": "two bars"}}
    )
    page = page_of(tmp_path, code("plot()", image))
    assert 'alt="two bars"' in page
    assert not re.findall(r"(?:src|srcset)\s*=\s*[\"']?(?!data:)\w", page)
    assert not re.findall(r"<link|<script|@import|url\(", page)
    assert "default-src 'none'" in page


def test_the_index_leads_to_every_page_and_shows_its_figure(tmp_path: Path) -> None:
    image = nbformat.v4.new_output("display_data", data={"image/png": PIXEL})
    index = write_pages([executed(tmp_path / "run", code("p", image))], tmp_path / "out")
    page = index.read_text(encoding="utf-8")
    assert 'href="quick-shows.html"' in page
    assert "Is it so?" in page
    assert PIXEL in page


def test_a_failed_run_has_a_page_that_says_so_without_a_traceback(tmp_path: Path) -> None:
    failure = nbformat.v4.new_output(
        "error", ename="ValueError", evalue="no", traceback=["File /home/someone/code.py line 3"]
    )
    run = executed(tmp_path / "run", code("x", failure), state="failed", error="ValueError: no")
    index = write_pages([run], tmp_path / "out")
    page = (tmp_path / "out" / "quick-shows.html").read_text(encoding="utf-8")
    assert "did not reach its end (failed)" in page
    assert "ValueError: no" in page
    assert "/home/someone" not in page
    assert "ValueError: no" in index.read_text(encoding="utf-8")


def test_a_page_with_a_secret_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAG_LAB_LLM_API_KEY", "sk-very-secret-42")
    run = executed(tmp_path / "run", code("x", html_output("<p>sk-very-secret-42</p>")))
    with pytest.raises(ReportError, match="RAG_LAB_LLM_API_KEY") as caught:
        write_pages([run], tmp_path / "out")
    assert "sk-very-secret-42" not in str(caught.value)
    assert not (tmp_path / "out" / "quick-shows.html").exists()
