"""The command line: a thin door to the library. Heavy imports wait until a command needs them."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from rag_lab import __version__
from rag_lab.errors import RagLabError, Rejection

if TYPE_CHECKING:
    from rag_lab.asking import LabQueryEngine
    from rag_lab.index import Progress
    from rag_lab.records import Answer

T = TypeVar("T")

app = typer.Typer(
    name="rag-lab",
    help="See how fast and how good a retrieval-augmented generation system is.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
data_app = typer.Typer(help="Corpora: what there is, and adding your own.", no_args_is_help=True)
bench_app = typer.Typer(help="Measurements that print figures.", no_args_is_help=True)
app.add_typer(data_app, name="data")
app.add_typer(bench_app, name="bench")

JsonOption = Annotated[bool, typer.Option("--json", help="Print data as JSON, nothing else.")]
CorpusArgument = Annotated[str, typer.Argument(metavar="CORPUS", help="See 'rag-lab data list'.")]


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


@app.command()
def ingest(
    corpora: Annotated[list[str], typer.Argument(metavar="CORPUS…", help="One or more corpora.")],
    dry_run: Annotated[bool, typer.Option(help="Check and count; call no model.")] = False,
    strict: Annotated[bool, typer.Option(help="Stop at the first rejected record.")] = False,
    refit: Annotated[bool, typer.Option(help="Fit the local embedder anew.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Index corpora: read, check, embed what is new, prove the index."""
    from rag_lab.corpora import load_corpus
    from rag_lab.index import ingest as run_ingest
    from rag_lab.models import build_models
    from rag_lab.settings import load_settings

    settings = load_settings()
    models = build_models(settings)
    reports = []
    for name in corpora:
        corpus = load_corpus(name, settings.paths)
        with _progress(name, quiet=as_json) as progress:
            report = _run(
                run_ingest(
                    corpus,
                    models,
                    settings,
                    strict=strict,
                    dry_run=dry_run,
                    refit=refit,
                    progress=progress,
                )
            )
        reports.append(report)
        if not as_json:
            _tell_ingest(report)
    if as_json:
        _print_json([report.to_dict() for report in reports])
    if any(not report.complete for report in reports):
        raise typer.Exit(2)


@app.command()
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
            _tell_answer(_run(engine.ask(question)), show_context, as_json)
        elif file is not None:
            _ask_file(engine, file, show_context, as_json)
        else:
            _ask_interactively(engine, show_context, as_json)


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

    page = _run(make_report(corpus or [], out, tell=_quiet if as_json else _say))
    if as_json:
        _print_json(page.to_dict())
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
    from rag_lab.simulate.process import SimulatedProvider, run_until_interrupt

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
        _print_json([finding.to_dict() for finding in findings])
    else:
        colours = {"ok": typer.colors.GREEN, "note": None, "problem": typer.colors.RED}
        for finding in findings:
            state = typer.style(f"{finding.state:8}", fg=colours[finding.state])
            typer.echo(f"{state}{finding.subject}: {finding.detail}")
            if finding.remedy:
                typer.echo(f"{'':8}→ {finding.remedy}")
    if any(finding.state == "problem" for finding in findings):
        raise typer.Exit(1)


@data_app.command("list")
def data_list(as_json: JsonOption = False) -> None:
    """Show every corpus with its counts and fingerprint."""
    from rag_lab.corpora.survey import survey

    rows = survey()
    if as_json:
        _print_json(rows)
        return
    from rich.table import Table

    table = Table(box=None)
    for title in ("corpus", "from", "language", "reader", "documents", "questions", "fingerprint"):
        table.add_column(title, no_wrap=True, justify="right" if title in _COUNTS else "left")
    for row in rows:
        table.add_row(*(_cell(row[str(column.header)]) for column in table.columns))
    _console(least_width=110).print(table)


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
        _print_json(
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
    _tell_rejected(rejected)
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
            _print_json({"id": found.id_, "text": found.text, "metadata": found.metadata})
            return
    raise typer.BadParameter(f"{corpus} has no document {document!r}")


@bench_app.command("quality")
def bench_quality(
    only: Annotated[
        list[str] | None, typer.Option("--only", help="A set by name; repeat for several.")
    ] = None,
    baseline: Annotated[
        Path | None,
        typer.Option(help="Accepted figures, e.g. eval/baselines/quality.json: tell losses."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure retrieval on every question set that is there, each in both halves."""
    from rag_lab.evaluation.quality import bench, losses, render

    accepted = json.loads(baseline.read_text(encoding="utf-8")) if baseline else None
    figures = _run(bench(only or [], tell=_quiet if as_json else _say))
    if as_json:
        _print_json(figures)
    else:
        _console(least_width=110).print(render(figures))
    lost = losses(figures, accepted) if accepted else []
    for loss in lost:
        typer.secho(f"worse than accepted: {loss}", fg=typer.colors.RED, err=True)
    if lost or not all(bar["holds"] for bar in figures["bars"]):
        raise typer.Exit(2)


_COUNTS = ("documents", "questions")


def _cell(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def _run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


def _print_json(value: object) -> None:
    typer.echo(json.dumps(value, ensure_ascii=False, indent=2, default=str))


def _say(text: str) -> None:
    typer.echo(text, err=True)


def _quiet(text: str) -> None:
    """Says nothing: the output is data."""


def _console(*, stderr: bool = False, least_width: int = 0) -> Any:
    from rich.console import Console

    console = Console(stderr=stderr)
    console.width = max(console.width, least_width)
    return console


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
        with _progress(name, quiet=quiet) as progress:
            _run(run_ingest(corpus, models, settings, progress=progress))
        index = open_index(corpus, models, settings)
    with closing(index):
        yield LabQueryEngine.over(index, models, settings)


@contextmanager
def _progress(name: str, *, quiet: bool) -> Iterator[Callable[[Progress], None]]:
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
    bar, tasks = Bar(*columns, console=_console(stderr=True)), dict[str, Any]()
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


def _tell_ingest(report: Any) -> None:
    typer.echo(str(report))
    for note in report.notes:
        typer.echo(f"  note: {note}")
    for problem in report.problems:
        typer.secho(f"  problem: {problem}", fg=typer.colors.RED)
    for node in report.failed[:5]:
        typer.secho(f"  failed: {node.node_id}: {node.reason}", fg=typer.colors.RED)
    if len(report.failed) > 5:
        typer.secho(f"  … and {len(report.failed) - 5:,} more", fg=typer.colors.RED)
    _tell_rejected(report.rejected)
    if report.rejected and report.folder:
        typer.echo(f"  all rejections: {Path(report.folder) / 'rejected.jsonl'}")


def _tell_rejected(rejected: Any) -> None:
    for rejection in rejected[:5]:
        typer.secho(f"  rejected: {rejection}", fg=typer.colors.YELLOW)
    if len(rejected) > 5:
        typer.secho(f"  … and {len(rejected) - 5:,} more", fg=typer.colors.YELLOW)


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
            answer = _run(engine.ask(asked.text))
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
        _tell_answer(_run(engine.ask(text)), show_context, as_json)


if __name__ == "__main__":
    main()
