"""`rag-lab query`: one question, a file of them, or questions typed one by one."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rag_lab.cli.output import CorpusArgument, JsonOption, progress_bars, run
from rag_lab.errors import RagLabError, Rejection

if TYPE_CHECKING:
    from rag_lab.asking import LabQueryEngine
    from rag_lab.records import Answer


def query(
    corpus: CorpusArgument,
    question: Annotated[
        str | None, typer.Argument(help="A question; without one, questions are asked for.")
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(help="A file of questions: one a line, or JSON lines with 'text' and 'id'."),
    ] = None,
    show_context: Annotated[
        bool, typer.Option("--show-context", help="Print the passages with their scores.")
    ] = False,
    top_k: Annotated[int | None, typer.Option(min=1, help="Passages to answer from.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Answer one question, a file of questions, or questions typed one by one."""
    if question is not None and file is not None:
        raise typer.BadParameter("give a question or --file, not both")
    with _engine(corpus, top_k, quiet=as_json) as engine:
        if question is not None:
            _tell_answer(run(engine.ask(question)), show_context, as_json)
        elif file is not None:
            _ask_file(engine, file, show_context, as_json)
        else:
            _ask_interactively(engine, show_context, as_json)


@contextmanager
def _engine(name: str, top_k: int | None, *, quiet: bool) -> Iterator[LabQueryEngine]:
    """The engine of a corpus; what was never ingested is ingested first."""
    from rag_lab.asking import LabQueryEngine
    from rag_lab.corpora import load_corpus
    from rag_lab.errors import IndexStateError
    from rag_lab.index import ingest as run_ingest
    from rag_lab.index import open_index
    from rag_lab.models import build_models
    from rag_lab.settings import load_settings

    settings = load_settings(**({"answer": {"passages": top_k}} if top_k else {}))
    models = build_models(settings)
    corpus = load_corpus(name, settings.paths)
    try:
        index = open_index(corpus, models, settings)
    except IndexStateError:
        if models.embedder is not None:
            raise  # a remote embedding costs money: only 'ingest' spends it
        with progress_bars(name, quiet=quiet) as progress:
            run(run_ingest(corpus, models, settings, progress=progress))
        index = open_index(corpus, models, settings)
    with closing(index):
        yield LabQueryEngine.over(index, models, settings)


_KINDS = {
    "extractive": "extractive: sentences quoted from the corpus, not written by a model",
    "generated": "written by the configured model from the passages below",
    "refused": "refused",
}


def _tell_answer(
    answer: Answer, show_context: bool, as_json: bool, extra: dict[str, Any] | None = None
) -> None:
    if as_json:
        row = {**(extra or {}), **answer.to_dict()}
        if not show_context:
            row.pop("passages")
        typer.echo(json.dumps(row, ensure_ascii=False, default=str))
        return
    typer.echo(answer.text)
    reason = f" — {answer.reason}" if answer.reason else ""
    note = f"({_KINDS[answer.kind]}{reason}; {answer.timing.total_s * 1000:.0f} ms)"
    typer.secho(note, dim=True)
    for without in answer.degraded:
        typer.secho(f"degraded: {without}", fg=typer.colors.YELLOW)
    if answer.usage.calls:
        took = answer.timing.stages_s.items()
        stages = ", ".join(f"{name} {s * 1000:.0f} ms" for name, s in took if s >= 0.001)
        typer.secho(f"used: {answer.usage}; {stages}", dim=True)
    if show_context:
        for number, passage in enumerate(answer.passages, 1):
            parts = " ".join(f"{name} {score:.3f}" for name, score in passage.scores.items())
            typer.secho(
                f"\n{number}. {passage.source}  [{passage.node_id}]  {passage.score:.3f} ({parts})",
                bold=True,
            )
            typer.echo(passage.text)


def _ask_file(engine: LabQueryEngine, file: Path, show_context: bool, as_json: bool) -> None:
    """Asks in order; a question that fails is told and counted, the others go on."""
    from rag_lab.asking.questions import read_asked

    failed = 0
    for asked in read_asked(file):
        if isinstance(asked, Rejection):
            failed += 1
            _tell_failure({"id": f"{asked.file}:{asked.line}", "error": str(asked)}, as_json)
            continue
        if not as_json:
            typer.secho(f"\n{asked.id}  {asked.text}", bold=True)
        try:
            answer = run(engine.ask(asked.text))
        except RagLabError as error:
            failed += 1
            row = {"id": asked.id, "question": asked.text, "error": str(error)}
            _tell_failure(row, as_json)
            continue
        _tell_answer(answer, show_context, as_json, {"id": asked.id})
    if failed:
        raise typer.Exit(2)


def _tell_failure(row: dict[str, str], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(row, ensure_ascii=False))
    typer.secho(f"failed: {row['error']}", fg=typer.colors.RED, err=True)


def _ask_interactively(engine: LabQueryEngine, show_context: bool, as_json: bool) -> None:
    interactive = sys.stdin.isatty()
    if interactive:
        typer.secho("Ask; an empty line or Ctrl-D ends.", dim=True, err=True)
    while True:
        try:
            text = input("? " if interactive else "").strip()
        except EOFError:
            return
        if not text:
            return
        _tell_answer(run(engine.ask(text)), show_context, as_json)
