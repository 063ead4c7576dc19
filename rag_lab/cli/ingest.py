"""`rag-lab ingest`: corpora to indexes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from rag_lab.cli.output import (
    JsonOption,
    print_json,
    progress_bars,
    run,
    tell_rejected,
    watched,
)


def ingest(
    corpora: Annotated[list[str], typer.Argument(metavar="CORPUS…", help="One or more corpora.")],
    dry_run: Annotated[bool, typer.Option(help="Check and count; call no model.")] = False,
    strict: Annotated[bool, typer.Option(help="Stop at the first rejected record.")] = False,
    refit: Annotated[bool, typer.Option(help="Fit the local embedder anew.")] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Ask again for texts that were refused.")
    ] = False,
    concurrency: Annotated[
        int | None,
        typer.Option(min=1, max=512, help="Calls in flight, fixed, for an experiment."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Index corpora: read, check, embed what is new, prove the index."""
    from rag_lab.corpora import load_corpus
    from rag_lab.index import ingest as run_ingest
    from rag_lab.models import build_models
    from rag_lab.settings import load_settings

    fixed = {} if concurrency is None else {"concurrency": concurrency}
    settings = load_settings(gateway=fixed)
    models = build_models(settings)
    reports = []
    for name in corpora:
        corpus = load_corpus(name, settings.paths)
        with progress_bars(name, quiet=as_json) as progress:
            work = run_ingest(
                corpus,
                models,
                settings,
                strict=strict,
                dry_run=dry_run,
                refit=refit,
                retry_failed=retry_failed,
                progress=progress,
            )
            report = run(watched(work, models.gateway))
        reports.append(report)
        if not as_json:
            _tell_ingest(report)
    if as_json:
        print_json([report.to_dict() for report in reports])
    if any(not report.complete for report in reports):
        raise typer.Exit(2)


def _tell_ingest(report: Any) -> None:
    typer.echo(str(report))
    if report.usage.calls:
        typer.echo(f"  used: {report.usage}")
    for note in report.notes:
        typer.echo(f"  note: {note}")
    for problem in report.problems:
        typer.secho(f"  problem: {problem}", fg=typer.colors.RED)
    for node in report.failed[:5]:
        typer.secho(f"  failed: {node.node_id}: {node.reason}", fg=typer.colors.RED)
    if len(report.failed) > 5:
        typer.secho(f"  … and {len(report.failed) - 5:,} more", fg=typer.colors.RED)
    tell_rejected(report.rejected)
    if report.rejected and report.folder:
        typer.echo(f"  all rejections: {Path(report.folder) / 'rejected.jsonl'}")
