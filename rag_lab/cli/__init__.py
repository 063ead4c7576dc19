"""The command line: a thin door to the library. Heavy imports wait until a command needs them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rag_lab import __version__
from rag_lab.cli.bench import bench_app
from rag_lab.cli.data import data_app
from rag_lab.cli.evaluate import evaluate
from rag_lab.cli.ingest import ingest
from rag_lab.cli.output import JsonOption, print_json, run, say, say_nothing
from rag_lab.cli.query import query
from rag_lab.errors import RagLabError

if TYPE_CHECKING:
    from rag_lab.simulate.process import SimulatedProvider

app = typer.Typer(
    name="rag-lab",
    help="See how fast and how good a retrieval-augmented generation system is.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """Runs the command line; an expected error is one line and exit status 1."""
    try:
        app(standalone_mode=True)
    except RagLabError as error:
        typer.secho(f"error: {error}", fg=typer.colors.RED, err=True)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        typer.secho("stopped; what is done is kept.", err=True)
        raise SystemExit(130) from None


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"rag-lab {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """See how fast and how good a retrieval-augmented generation system is."""


app.command()(ingest)
app.command()(query)
app.command()(evaluate)


@app.command()
def report(
    corpus: Annotated[
        list[str] | None,
        typer.Option("--corpus", "-c", help="Repeat for several; default: the bundled ones."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Where the pages go.")] = Path("reports"),
    as_json: JsonOption = False,
) -> None:
    """Ingest, execute the notebooks, and write pages that open offline."""
    from rag_lab.workbench.export import make_report

    page = run(make_report(corpus or [], out, tell=say_nothing if as_json else say))
    if as_json:
        print_json(page.to_dict())
    else:
        typer.secho(f"\nOpen {page.index}", bold=True)
    if page.failed:
        raise typer.Exit(2)


@app.command()
def simulate(
    preset_name: Annotated[
        str, typer.Option("--preset", help="openai-like, jina-slow, tight-limits or bad-day.")
    ] = "",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="0: any that is free.")] = 0,
    corpus: Annotated[
        str, typer.Option(help="Serve the local embedder that was fitted to this corpus.")
    ] = "",
    latency_ms: Annotated[float | None, typer.Option(min=0, help="A call's fixed latency.")] = None,
    capacity: Annotated[int | None, typer.Option(min=1, help="Calls at once; more wait.")] = None,
    rpm: Annotated[float | None, typer.Option(help="Requests a minute; more get 429.")] = None,
    tpm: Annotated[float | None, typer.Option(help="Tokens a minute; more get 429.")] = None,
    fault: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE[,FIELD=VALUE…]",
            help="503=0.05, reset=0.01, stall=8,rate=0.02, outage=10-16, poison=MARKER …; repeat.",
        ),
    ] = None,
    time_scale: Annotated[
        float | None, typer.Option(help="0.1: ten times faster than modelled.")
    ] = None,
    seed: Annotated[int, typer.Option(help="The same seed draws the same latencies.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Run a simulated OpenAI-compatible provider on this machine until Ctrl-C."""
    from rag_lab.simulate import SimulatorSettings, parse_fault, preset, serving_corpus
    from rag_lab.simulate.process import run_until_interrupt

    settings = preset(preset_name) if preset_name else SimulatorSettings()
    given = {
        "capacity": capacity,
        "requests_per_minute": rpm,
        "tokens_per_minute": tpm,
        "time_scale": time_scale,
    }
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if latency_ms is not None:
        changes |= {kind: {"base_ms": latency_ms} for kind in ("latency", "chat_latency")}
    faults = (*settings.faults, *map(parse_fault, fault or ()))
    settings = settings.changed(seed=seed, faults=faults, **changes)
    if corpus:
        settings = serving_corpus(corpus, settings)

    def greet(provider: SimulatedProvider) -> None:
        if as_json:
            about = {"base_url": provider.base_url, "environment": provider.environment()}
            typer.echo(json.dumps(about | {"settings": settings.public()}))
            return
        typer.secho(f"Simulated provider at {provider.base_url}; Ctrl-C ends it.", err=True)
        lines = (f"export {name}={value}" for name, value in provider.environment().items())
        typer.echo("\n".join(lines))  # in one piece, for whoever reads it through a pipe

    stats = run_until_interrupt(settings, greet, port=port)
    typer.echo(json.dumps(stats.to_dict()) if as_json else str(stats), err=not as_json)


@app.command()
def doctor(as_json: JsonOption = False) -> None:
    """Say what is configured, what is missing, and how to fix it."""
    from rag_lab.workbench.doctor import examine

    findings = examine()
    if as_json:
        print_json([finding.to_dict() for finding in findings])
    else:
        colours = {"ok": typer.colors.GREEN, "note": None, "problem": typer.colors.RED}
        for finding in findings:
            state = typer.style(f"{finding.state:8}", fg=colours[finding.state])
            typer.echo(f"{state}{finding.subject}: {finding.detail}")
            if finding.remedy:
                typer.echo(f"{'':8}→ {finding.remedy}")
    if any(finding.state == "problem" for finding in findings):
        raise typer.Exit(1)


app.add_typer(data_app, name="data")
app.add_typer(bench_app, name="bench")
