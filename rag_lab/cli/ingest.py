"""`rag-lab ingest`: corpora to indexes."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from rag_lab.cli.output import JsonOption, print_json, progress_bars, run, say, tell_rejected

if TYPE_CHECKING:
    from rag_lab.gateway.gateway import Gateway

T = TypeVar("T")

_LOOK_S = 2.0

ConcurrencyOption = Annotated[
    int | None,
    typer.Option(min=1, max=512, help="Calls in flight, fixed, for an experiment."),
]


def ingest(
    corpora: Annotated[list[str], typer.Argument(metavar="CORPUS…", help="One or more corpora.")],
    dry_run: Annotated[bool, typer.Option(help="Check and count; call no model.")] = False,
    strict: Annotated[bool, typer.Option(help="Stop at the first rejected record.")] = False,
    refit: Annotated[bool, typer.Option(help="Fit the local embedder anew.")] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Ask again for texts that were refused.")
    ] = False,
    concurrency: ConcurrencyOption = None,
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
            report = run(_watched(work, models.gateway))
        reports.append(report)
        if not as_json:
            _tell_ingest(report)
    if as_json:
        print_json([report.to_dict() for report in reports])
    if any(not report.complete for report in reports):
        raise typer.Exit(2)


async def _watched(work: Coroutine[Any, Any, T], gateway: Gateway | None) -> T:
    """The work's result; while a provider fails, that is said: a bar that stands still is not."""
    if gateway is None:
        return await work
    task = asyncio.ensure_future(work)
    said = ""
    try:
        while not task.done():
            await asyncio.wait([task], timeout=_LOOK_S)
            bad = [found for found in gateway.health().findings if found.status == "critical"]
            if bad and bad[0].what != said and not task.done():
                say(f"{bad[0].what}: {bad[0].figure}. Waiting for it; Ctrl-C loses nothing.")
            said = bad[0].what if bad else ""
        return await task
    finally:
        task.cancel()
        await asyncio.wait([task])
        await gateway.aclose()


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
