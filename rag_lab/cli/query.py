"""`rag-lab query`: one question, a file of them, or questions typed one by one."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import aclosing, closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from rag_lab.cli.answers import Telling
from rag_lab.cli.opened import Opened, opened
from rag_lab.cli.output import CorpusArgument, JsonOption, progress_bars, run, say, watched

if TYPE_CHECKING:
    from rag_lab.asking import LabQueryEngine
    from rag_lab.asking.answer_log import AnswerLog, Origin, QuestionOutcome
    from rag_lab.index import Progress
    from rag_lab.settings import Settings


def query(
    corpus: CorpusArgument,
    question: Annotated[
        str | None, typer.Argument(help="A question; without one, questions are asked for.")
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(help="A file of questions: one a line, or JSON lines with 'text' and 'id'."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="With --file: keep the answers here (JSON lines, appended); asked again, what is "
            "answered here by the same corpus and settings is not asked. Without it they are kept "
            "in the cache until every question of the file is answered."
        ),
    ] = None,
    concurrency: Annotated[
        int | None,
        typer.Option(
            min=1, max=512, help="Questions and calls in flight, fixed, for an experiment."
        ),
    ] = None,
    show_context: Annotated[
        bool, typer.Option("--show-context", help="Print the passages with their scores.")
    ] = False,
    explain: Annotated[
        bool,
        typer.Option(
            "--explain",
            help="Print what was named, the parts, each passage's rank in every search, the time.",
        ),
    ] = False,
    decompose: Annotated[
        Literal["off", "rules", "llm"] | None,
        typer.Option(help="Who takes a question of several parts apart; default: rules."),
    ] = None,
    top_k: Annotated[int | None, typer.Option(min=1, help="Passages to answer from.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Answer one question, a file of questions, or questions typed one by one.

    A file's questions are asked at the same time and answered in order. Stopped by Ctrl-C, or by
    anything else, the same command goes on where it was. Exit status 2: some have no answer.
    """
    from rag_lab.asking import LabQueryEngine
    from rag_lab.asking.answer_log import Origin

    if question is not None and file is not None:
        raise typer.BadParameter("give a question or --file, not both")
    if out is not None and file is None:
        raise typer.BadParameter("--out keeps the answers to a --file of questions; give one")
    settings = _settings(top_k, concurrency, decompose, patient=file is not None)
    telling = Telling(show_context, explain, as_json)
    with opened(corpus, settings, quiet=as_json) as place:
        engine = LabQueryEngine.over(place.index, place.models, settings)
        if question is not None:
            telling(run(engine.ask(question)))
        elif file is not None:
            origin = Origin(place.corpus.name, place.index.id, settings.fingerprint())
            _ask_file(_Batch(place, engine, origin, file, concurrency, telling), out)
        else:
            _ask_interactively(engine, telling)


def _settings(
    top_k: int | None, concurrency: int | None, decompose: str | None, *, patient: bool
) -> Settings:
    """The settings; nobody sits and waits for a file's answers, so it has an ingestion's time."""
    from rag_lab.settings import load_settings

    chosen = {"passages": top_k, "decompose": decompose}
    answer = {name: value for name, value in chosen.items() if value is not None}
    gateway: dict[str, float] = {} if concurrency is None else {"concurrency": concurrency}
    if patient:
        gateway["question_patience_s"] = load_settings().gateway.ingest_patience_s
    return load_settings(answer=answer, gateway=gateway)


@dataclass(frozen=True, slots=True)
class _Batch:
    """A file of questions to be asked, and how its answers are told.

    `origin` is what the answers depend on.
    """

    place: Opened
    engine: LabQueryEngine
    origin: Origin
    file: Path
    concurrency: int | None
    tell: Telling


def _ask_file(batch: _Batch, out: Path | None) -> None:
    """Asks a file's questions; a question that fails is told and counted, the others go on."""
    from rag_lab.asking.answer_log import AnswerLog
    from rag_lab.asking.questions import read_asked

    file, gateway = batch.file, batch.place.models.gateway
    # A file can be read twice; what comes through a pipe cannot.
    total = sum(1 for _ in read_asked(file)) if file.is_file() else None
    log = AnswerLog(out or _journal(batch), batch.origin)
    for note in log.notes:
        say(note)
    if len(log):
        say(f"{len(log):,} answers are in {log.path} already; what lacks a sound one is asked.")
    try:
        quiet = batch.tell.as_json
        with closing(log), progress_bars(batch.origin.corpus, quiet=quiet) as progress:
            failed = run(watched(_told(batch, log, progress, total), gateway))
            if out is None and not failed:
                log.discard()
    except KeyboardInterrupt:
        of = "" if total is None else f" of {total:,}"
        say(
            f"stopped: {len(log):,}{of} questions are answered, and kept in {log.path}. "
            "The same command goes on from there."
        )
        raise typer.Exit(130) from None
    if failed:
        raise typer.Exit(2)


def _journal(batch: _Batch) -> Path:
    """Where the answers are kept until all are told: lost to no kill, in nobody's way after."""
    from rag_lab.settings import fingerprint_of

    folder = batch.place.settings.paths.made_cache_folder() / "answers"
    folder.mkdir(exist_ok=True)
    return folder / f"{fingerprint_of([str(batch.file.resolve()), asdict(batch.origin)])}.jsonl"


async def _told(
    batch: _Batch, log: AnswerLog, progress: Callable[[Progress], None], total: int | None
) -> int:
    """Asks and tells; the number of questions without an answer."""
    from rag_lab.asking.batch import AT_ONCE, ask_all
    from rag_lab.asking.questions import read_asked
    from rag_lab.index import Progress

    failed = 0
    progress(Progress("questions", 0, total))
    with closing(read_asked(batch.file)) as questions:
        outcomes = ask_all(
            batch.engine,
            questions,
            at_once=batch.concurrency or AT_ONCE,
            log=log,
            outage=batch.place.outage,
        )
        async with aclosing(outcomes):
            done = 0
            async for outcome in outcomes:
                _tell_outcome(batch, outcome)
                done += 1
                failed += outcome.answer is None
                progress(Progress("questions", done, total))
    return failed


def _tell_outcome(batch: _Batch, outcome: QuestionOutcome) -> None:
    if not batch.tell.as_json:
        _wipe_bar()
    if outcome.question and not batch.tell.as_json:
        typer.secho(f"\n{outcome.id}  {outcome.question}", bold=True)
    if outcome.answer is not None:
        batch.tell(outcome.answer, extra={"id": outcome.id})
        return
    if batch.tell.as_json:
        typer.echo(json.dumps(outcome.to_dict(), ensure_ascii=False))
    typer.secho(f"failed: {outcome.error}", fg=typer.colors.RED, err=True)


def _wipe_bar() -> None:
    """Takes the progress bar off its line, which is then written on; it is drawn again below."""
    if sys.stderr.isatty():
        typer.echo("\r\x1b[2K", nl=False, err=True)


def _ask_interactively(engine: LabQueryEngine, tell: Telling) -> None:
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
        tell(run(engine.ask(text)))
