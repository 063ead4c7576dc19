"""`rag-lab data …`: which corpora there are, and adding one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rag_lab.cli.output import CorpusArgument, JsonOption, console, print_json, tell_rejected

data_app = typer.Typer(help="Corpora: what there is, and adding your own.", no_args_is_help=True)


@data_app.command("list")
def data_list(as_json: JsonOption = False) -> None:
    """Show every corpus with its counts and fingerprint."""
    from rag_lab.corpora.survey import survey

    rows = survey()
    if as_json:
        print_json(rows)
        return
    from rich.table import Table

    table = Table(box=None)
    for title in ("corpus", "from", "language", "reader", "documents", "questions", "fingerprint"):
        table.add_column(title, no_wrap=True, justify="right" if title in _COUNTS else "left")
    for row in rows:
        table.add_row(*(_cell(row[str(column.header)]) for column in table.columns))
    console(least_width=110).print(table)


@data_app.command("add")
def data_add(
    name: Annotated[str, typer.Argument(help="How the corpus will be called.")],
    paths: Annotated[list[Path], typer.Argument(metavar="PATH…", help="Files of documents.")],
    reader: Annotated[
        str, typer.Option(help="anime, law, law-text, law-provisions or jsonl.")
    ] = "jsonl",
    language: Annotated[str, typer.Option(help="ISO code; default: the reader's.")] = "",
    questions: Annotated[Path | None, typer.Option(help="questions.jsonl")] = None,
    qrels: Annotated[Path | None, typer.Option(help="qrels.tsv")] = None,
    replace: Annotated[bool, typer.Option(help="Replace a corpus of that name.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Check files and register them as a corpus in the data folder."""
    from rag_lab.corpora import add_corpus

    corpus, count, rejected = add_corpus(
        name,
        reader,
        paths,
        language=language,
        questions=questions,
        qrels=qrels,
        replace=replace,
    )
    if as_json:
        print_json(
            {
                "name": corpus.name,
                "read": count.read,
                "kept": count.kept,
                "rejected": [str(rejection) for rejection in rejected],
                "fingerprint": corpus.fingerprint,
            }
        )
        return
    typer.echo(f"{corpus.name}: {count}")
    tell_rejected(rejected)
    typer.echo(f"Next: rag-lab ingest {corpus.name}")


@data_app.command("show")
def data_show(
    corpus: CorpusArgument,
    document: Annotated[str | None, typer.Argument(help="A document id.")] = None,
) -> None:
    """Print the card of a corpus, or one of its documents."""
    from rag_lab.corpora import load_corpus

    loaded = load_corpus(corpus)
    if document is None:
        typer.echo(loaded.card)
        return
    for found in loaded.documents:
        if found.id_ == document:
            print_json({"id": found.id_, "text": found.text, "metadata": found.metadata})
            return
    raise typer.BadParameter(f"{corpus} has no document {document!r}")


_COUNTS = ("documents", "questions")


def _cell(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)
