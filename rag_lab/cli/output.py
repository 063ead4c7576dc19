"""What the commands share: running a coroutine, printing data, a console, progress."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

if TYPE_CHECKING:
    from rag_lab.gateway.gateway import Gateway
    from rag_lab.index import Progress

T = TypeVar("T")

_LOOK_S = 2.0

JsonOption = Annotated[bool, typer.Option("--json", help="Print data as JSON, nothing else.")]
CorpusArgument = Annotated[str, typer.Argument(metavar="CORPUS", help="See 'rag-lab data list'.")]


def run(work: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine in a loop of its own."""
    return asyncio.run(work)


async def watched(work: Coroutine[Any, Any, T], gateway: Gateway | None) -> T:
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


def print_json(value: object) -> None:
    """Prints data for a program to read."""
    typer.echo(json.dumps(value, ensure_ascii=False, indent=2, default=str))


def say(text: str) -> None:
    """A line on the error stream: what is being done."""
    typer.echo(text, err=True)


def say_nothing(text: str) -> None:
    """Says nothing: the output is data."""


def console(*, stderr: bool = False, least_width: int = 0) -> Any:
    """A rich console, wide enough for a table also where the output is no terminal."""
    from rich.console import Console

    console = Console(stderr=stderr)
    console.width = max(console.width, least_width)
    return console


@contextmanager
def progress_bars(name: str, *, quiet: bool) -> Iterator[Callable[[Progress], None]]:
    """A progress bar a stage on the terminal's error stream, with counts and rate."""
    if quiet:
        yield lambda progress: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description:22}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
    )
    bar, tasks = Bar(*columns, console=console(stderr=True)), dict[str, Any]()
    try:

        def show(progress: Progress) -> None:
            bar.start()  # not earlier: an error before the first step is one line
            if progress.stage not in tasks:
                tasks[progress.stage] = bar.add_task(
                    f"{name} {progress.stage}", total=progress.total, note=""
                )
            task = bar.tasks[tasks[progress.stage]]
            rate = f"{task.speed:,.0f}/s" if task.speed else ""
            calls = f"{progress.calls:,} calls" if progress.calls else ""
            bar.update(
                tasks[progress.stage],
                completed=progress.done,
                total=progress.total,
                note=" ".join(filter(None, (calls, rate))),
            )

        yield show
    finally:
        if bar.live.is_started:
            bar.stop()


def tell_rejected(rejected: Any) -> None:
    """The first rejected records, and how many more there are."""
    for rejection in rejected[:5]:
        typer.secho(f"  rejected: {rejection}", fg=typer.colors.YELLOW)
    if len(rejected) > 5:
        typer.secho(f"  … and {len(rejected) - 5:,} more", fg=typer.colors.YELLOW)
