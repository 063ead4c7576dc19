"""Executed notebooks as pages that open offline, and the index that leads to them.

Corpus text is hostile: outputs are sanitised, nothing is loaded from a network, code is left out.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, select_autoescape

from rag_lab import __version__
from rag_lab.corpora import load_corpus
from rag_lab.errors import ReportError
from rag_lab.settings import load_settings
from rag_lab.workbench.run import NotebookRun, run_notebook

_SPANS = ["colspan", "rowspan"]
_TEXT_TAGS = {"a", "b", "blockquote", "br", "code", "dd", "del", "div", "dl", "dt", "em", "hr", "i"}
_TEXT_TAGS |= {"kbd", "li", "ol", "p", "pre", "s", "span", "strong", "sub", "sup", "u", "ul"}
_TABLE_TAGS = {"caption", "table", "tbody", "td", "tfoot", "th", "thead", "tr"}
_TAGS = _TEXT_TAGS | _TABLE_TAGS | {"img"} | {f"h{level}" for level in range(1, 7)}
_SCRIPTS = re.compile(r"<(script|style|noscript|template)\b.*?</\1\s*>", re.IGNORECASE | re.DOTALL)
"""Their content is no text: a sanitiser that only strips tags would show it."""

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"
BUNDLED_CORPORA = ("anime", "law_id")
RUNS = Path("runs")


@dataclass(frozen=True)
class Report:
    """The pages of one report."""

    index: Path
    runs: tuple[NotebookRun, ...]

    @property
    def failed(self) -> tuple[NotebookRun, ...]:
        """Runs that did not reach their end."""
        return tuple(run for run in self.runs if run.state != "done")

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {"index": str(self.index), "runs": [run.to_dict() for run in self.runs]}


async def make_report(
    corpora: Sequence[str], out: Path, tell: Callable[[str], None] = print
) -> Report:
    """Executes the quickstart on each corpus and writes `index.html` and a page a run.

    Args:
        corpora: names; the bundled ones by default.
        out: folder of the pages; made if needed, pages of an earlier report are replaced.
        tell: called with a line on each step.

    Raises:
        CorpusError: a corpus does not exist.
        ReportError: the notebooks are not there, or a page would hold a secret.
    """
    source = NOTEBOOKS / "00_quickstart.ipynb"
    if not source.is_file():
        raise ReportError(f"{source} is not there. 'report' runs from a checkout: pip install -e .")
    names = list(corpora) or list(BUNDLED_CORPORA)
    jobs = [_parameters(name) for name in names]
    runs = []
    for number, parameters in enumerate(jobs, 1):
        tell(f"[{number}/{len(jobs)}] executing {source.stem} on {parameters['corpus']} …")
        run = await run_notebook(source, parameters, RUNS)
        detail = f": {run.error}" if run.error else ""
        tell(f"[{number}/{len(jobs)}] {run.state} in {run.seconds:.0f} s{detail}")
        runs.append(run)
    return Report(write_pages(runs, out), tuple(runs))


def _parameters(name: str) -> dict[str, Any]:
    """Notebook parameters for a corpus; one without questions borrows those of its kind."""
    corpus = load_corpus(name)
    if any(corpus.qrels.values()):
        return {"corpus": name}
    lenders = {"anime": "anime", "law": "law_id", "law-text": "law_id"}
    if corpus.reader not in lenders:
        raise ReportError(
            f"{name} has no judged question. Register it with --questions and --qrels."
        )
    return {"corpus": name, "questions_from": lenders[corpus.reader]}


def write_pages(runs: Sequence[NotebookRun], out: Path) -> Path:
    """Writes a page for each run and the index; returns the index.

    Raises:
        ReportError: a page would hold the value of a secret that is set in the environment.
    """
    out.mkdir(parents=True, exist_ok=True)
    pages = [(run, f"{run.notebook}-{_corpus_of(run)}.html") for run in runs]
    for run, name in pages:
        _write(out / name, _page(run))
    index = out / "index.html"
    _write(index, _render("index.html.j2", runs=[_card(run, name) for run, name in pages]))
    return index


def _page(run: NotebookRun) -> str:
    return _render(
        "page.html.j2",
        run=run,
        title=_title(run.executed),
        body=_body(run.executed) if run.executed.is_file() else "",
        corpus=_corpus_of(run),
        parameters=json.dumps(dict(run.parameters), ensure_ascii=False),
    )


def _card(run: NotebookRun, page: str) -> dict[str, Any]:
    return {
        "run": run,
        "page": page,
        "title": _title(run.executed),
        "corpus": _corpus_of(run),
        "image": _first_image(run.executed),
    }


def _corpus_of(run: NotebookRun) -> str:
    return str(run.parameters.get("corpus", ""))


def _body(notebook: Path) -> str:
    """The notebook's prose and outputs as sanitised HTML, without code and without scripts."""
    import nbformat
    from nbconvert import HTMLExporter

    exporter = HTMLExporter(
        template_name="basic",
        exclude_input=True,
        exclude_input_prompt=True,
        exclude_output_prompt=True,
        embed_images=True,
        mathjax_url="",
        require_js_url="",
        jupyter_widgets_base_url="",
        mermaid_js_url="",
    )
    content = nbformat.read(notebook, as_version=4)
    content.cells = [cell for cell in content.cells if not _hidden(cell)]
    for cell in content.cells:
        _shorten_errors(cell)
    body, _ = exporter.from_notebook_node(content)
    return sanitise(str(body))


def sanitise(page: str) -> str:
    """Keeps text, tables and embedded images; drops scripts, styles, forms and remote content."""
    from bleach.sanitizer import Cleaner

    cleaner = Cleaner(
        tags=_TAGS,
        attributes={"*": ["id", "class"], "a": ["href"], "img": _image_attribute, "td": _SPANS},
        protocols=["http", "https", "mailto", "data"],
        strip=True,
        strip_comments=True,
    )
    return str(cleaner.clean(_SCRIPTS.sub("", page)))


def _image_attribute(tag: str, name: str, value: str) -> bool:
    """An image may only be one that is in the page itself."""
    return name in ("alt", "class") or (name == "src" and value.startswith("data:image/png;"))


def _hidden(cell: Mapping[str, Any]) -> bool:
    """Cells that a reader of the page has no use for."""
    tags = cell.get("metadata", {}).get("tags", [])
    return bool({"record", "parameters", "injected-parameters"} & set(tags))


def _shorten_errors(cell: Any) -> None:
    """An error shows its name and message; a traceback shows source lines and paths."""
    for output in cell.get("outputs", ()):
        if output.get("output_type") == "error":
            output["traceback"] = [f"{output['ename']}: {output['evalue']}"]


def _title(notebook: Path) -> str:
    for cell in _cells(notebook):
        first = "".join(cell["source"]).splitlines()[:1]
        if cell["cell_type"] == "markdown" and first and first[0].startswith("# "):
            return first[0].removeprefix("# ").replace("*", "")
    return notebook.stem


def _first_image(notebook: Path) -> dict[str, str]:
    for cell in _cells(notebook):
        for output in cell.get("outputs", ()):
            if image := output.get("data", {}).get("image/png"):
                alt = output.get("metadata", {}).get("image/png", {}).get("alt", "")
                return {"data": "".join(image).replace("\n", ""), "alt": alt}
    return {}


def _cells(notebook: Path) -> list[dict[str, Any]]:
    if not notebook.is_file():
        return []
    cells: list[dict[str, Any]] = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return cells


def _render(template: str, **values: Any) -> str:
    environment = Environment(
        loader=PackageLoader("rag_lab.workbench"),
        autoescape=select_autoescape(["html", "j2"]),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(version=__version__, **values)


def _write(path: Path, page: str) -> None:
    for name, value in _secrets().items():
        if value in page:
            raise ReportError(
                f"{path.name} would hold the value of {name}; it was not written. "
                "Find the cell that shows it and take it out."
            )
    path.write_text(page, encoding="utf-8")


def _secrets() -> dict[str, str]:
    """Secrets that are set now, by the name of their variable."""
    settings = load_settings()
    values = {
        "RAG_LAB_EMBED_API_KEY": settings.embed.api_key.get_secret_value(),
        "RAG_LAB_LLM_API_KEY": settings.llm.api_key.get_secret_value(),
        "OPENAI_API_KEY": os.environ.get("OPENAI_API_KEY", ""),
    }
    return {name: value for name, value in values.items() if len(value) >= 8}
