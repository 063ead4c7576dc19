"""`rag-lab evaluate`: systems side by side on the questions of a corpus, with an exit status."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rag_lab.cli.measures import missed_bounds, read_bounds, split_measures
from rag_lab.cli.opened import Opened, opened
from rag_lab.cli.output import (
    CorpusArgument,
    JsonOption,
    console,
    print_json,
    progress_bars,
    run,
    say,
    watched,
)

if TYPE_CHECKING:
    from rag_lab.corpora import Corpus
    from rag_lab.evaluation.evaluated import Evaluation
    from rag_lab.evaluation.scores import Measure
    from rag_lab.gateway.gateway import Gateway
    from rag_lab.gateway.llama import GatewayLLM
    from rag_lab.records import Question

_MEASURES = ("nDCG@10", "R@5", "RR@10")
_INCOMPLETE, _BELOW = 2, 3


def evaluate(
    corpus: CorpusArgument,
    system: Annotated[
        list[str] | None,
        typer.Option(
            help="keyword, dense, hybrid or named, each also as e.g. hybrid+parts: questions are "
            "taken apart. Repeat for several; default: keyword and hybrid.",
        ),
    ] = None,
    measure: Annotated[
        list[str] | None,
        typer.Option(
            help="Of what is retrieved (nDCG@10, R@5, RR@10, AP …) or answered (answer_contains, "
            "completeness, faithfulness …). Repeat for several; default: nDCG@10, R@5, RR@10.",
        ),
    ] = None,
    baseline: Annotated[
        str, typer.Option(help="The system that the others are compared with.")
    ] = "",
    judge: Annotated[
        str,
        typer.Option(
            metavar="MODEL",
            help="The chat model that judges, at the address of RAG_LAB_LLM_BASE_URL.",
        ),
    ] = "",
    limit: Annotated[
        int | None,
        typer.Option(min=1, help="So many questions, drawn by a hash of their id: always the same"),
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, help="How often each question is asked.")] = 1,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the answers and scores; default: evaluations/CORPUS."),
    ] = None,
    fail_below: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MEASURE=VALUE",
            help="Exit status 3 if the mean of a system (not of the baseline) is worse: lower, or "
            "higher where lower is better. Repeat for several.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Ask the questions of a corpus, score what comes back, and compare systems.

    Answers and scores are kept as they are made: stopped by Ctrl-C or anything else, the same
    command goes on where it was, and with another --measure or --judge nothing is asked again.

    Exit status 2: something failed, was degraded or has no score. 3: worse than --fail-below.
    """
    from rag_lab.evaluation.systems import check_systems
    from rag_lab.settings import load_settings

    names = system or ["keyword", "hybrid"]
    check_systems(names)
    _check_baseline(baseline, names)
    ranking, answering = split_measures(measure or _MEASURES)
    bounds = read_bounds(fail_below or (), (*ranking, *answering))
    asked = _Asked(names, ranking, answering, judge, limit, repeats, out or _out(corpus))
    patience_s = load_settings().gateway.ingest_patience_s  # nobody sits and waits for an answer
    settings = load_settings(gateway={"question_patience_s": patience_s})
    with opened(corpus, settings, quiet=as_json) as place:
        found = _evaluated(asked, place, quiet=as_json)
    missed = missed_bounds(found, bounds, [name for name in names if name != baseline] or names)
    if as_json:
        print_json(found.to_dict(baseline) | {"out": str(asked.out), "missed": missed})
    else:
        _show(found, baseline)
        say(f"answers and scores: {asked.out}")
    _end(found, missed)


@dataclass(frozen=True, slots=True)
class _Asked:
    """What is to be evaluated."""

    systems: Sequence[str]
    ranking: Sequence[str]
    answering: Sequence[str]
    judge: str
    limit: int | None
    repeats: int
    out: Path

    def questions(self, corpus: Corpus) -> tuple[Question, ...]:
        """Those of the corpus in its order; with a limit those whose ids' hashes come first."""
        if self.limit is None:
            return corpus.questions
        drawn = sorted(corpus.questions, key=lambda q: hashlib.sha256(q.id.encode()).digest())
        kept = {question.id for question in drawn[: self.limit]}
        return tuple(question for question in corpus.questions if question.id in kept)


def _out(corpus: str) -> Path:
    return Path("evaluations") / Path(corpus).name


def _check_baseline(baseline: str, systems: Sequence[str]) -> None:
    if baseline and baseline not in systems:
        raise typer.BadParameter(
            f"{baseline!r} is not among the systems {', '.join(systems)}", param_hint="--baseline"
        )


def _judge(model: str, opened: Opened) -> GatewayLLM | None:
    """The judge of a name, or the configured chat model; through the gateway that is there."""
    from rag_lab.gateway.gateway import Gateway
    from rag_lab.models.remote import build_llm
    from rag_lab.settings import load_settings

    settings = opened.settings
    llm = load_settings(llm={"model": model}).llm if model else settings.llm
    if not llm.model:
        return None
    gateway = opened.models.gateway or Gateway(settings.gateway, settings.paths.made_cache_folder())
    judge = build_llm(llm, gateway)
    judge.repeat = 0  # its replies are kept: what a kill keeps from being scored is not paid twice
    return judge


def _measures(asked: _Asked, opened: Opened, judge: GatewayLLM | None) -> list[Measure]:
    from rag_lab.evaluation.answers import MEASURES, measures_named
    from rag_lab.evaluation.scoring import Identified

    embedder, language = opened.index.embedder, opened.corpus.language
    made = measures_named(asked.answering, language=language, embedder=embedder, judge=judge)
    identities = {"judge": repr(judge), "embedder": embedder.identity}
    return [
        Identified(measure, " ".join(identities[need] for need in MEASURES[measure.name].needs))
        for measure in made
    ]


def _evaluated(asked: _Asked, opened: Opened, *, quiet: bool) -> Evaluation:
    """Evaluates; stopped, it says what is kept and how to go on."""
    from rag_lab.evaluation.evaluate import evaluate as evaluated
    from rag_lab.evaluation.systems import system_named

    judge = _judge(asked.judge, opened)
    gateway: Gateway | None = opened.models.gateway or (judge.gateway if judge else None)
    systems = {
        name: system_named(name, opened.index, opened.models, opened.settings)
        for name in asked.systems
    }
    measures = _measures(asked, opened, judge)
    try:
        with progress_bars(opened.corpus.name, quiet=quiet) as progress:
            work = evaluated(
                systems,
                opened.corpus,
                measures,
                out=asked.out,
                ranking=asked.ranking,
                questions=asked.questions(opened.corpus),
                repeats=asked.repeats,
                outage=opened.outage,
                progress=progress,
            )
            return run(watched(work, gateway))
    except KeyboardInterrupt:
        say(f"stopped; answers and scores are kept in {asked.out}. The same command goes on.")
        raise typer.Exit(130) from None


def _show(found: Evaluation, baseline: str) -> None:
    from rag_lab.evaluation.evaluated_view import kinds_table, means_table, remarks, runs_table

    out = console(least_width=110)
    tables = [means_table(found, baseline), runs_table(found)]
    if len(found.kinds) > 1:
        tables.insert(1, kinds_table(found))
    for titles, rows in tables:
        out.print(_drawn(titles, rows))
    for remark in remarks(found):
        typer.secho(remark, fg=typer.colors.YELLOW)


def _drawn(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> Any:
    from rich.table import Table
    from rich.text import Text

    table = Table(*titles)
    for row in rows:
        table.add_row(*map(Text, row))  # a kind or a reason may hold what looks like markup
    return table


def _end(found: Evaluation, missed: Sequence[Mapping[str, Any]]) -> None:
    """Ends with the status that a caller can act on."""
    for each in missed:
        typer.secho(
            f"worse than {each['bound']:g}: {each['measure']} of {each['system']} is "
            f"{each['mean']:.4f}",
            fg=typer.colors.RED,
            err=True,
        )
    if missed:
        raise typer.Exit(_BELOW)
    if not found.complete:
        say("incomplete: the same command tries again what failed or has no score.")
        raise typer.Exit(_INCOMPLETE)
