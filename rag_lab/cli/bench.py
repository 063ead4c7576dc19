"""`rag-lab bench …`: measurements that print figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from rag_lab.cli.output import JsonOption, console, print_json, run, say, say_nothing

if TYPE_CHECKING:
    from rag_lab.evaluation.speed.table import Report

CheckOption = Annotated[bool, typer.Option("--check", help="Exit with 1 if a bar is missed.")]
DocumentsOption = Annotated[int, typer.Option(min=1, help="Made up, of about 100 tokens each.")]
SeedOption = Annotated[int, typer.Option(help="Of texts, questions and the provider's luck.")]

bench_app = typer.Typer(help="Measurements that print figures.", no_args_is_help=True)


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
    from rag_lab.evaluation.quality.bench import bench
    from rag_lab.evaluation.quality.figures import losses, render

    accepted = json.loads(baseline.read_text(encoding="utf-8")) if baseline else None
    figures = run(bench(only or [], tell=say_nothing if as_json else say))
    if as_json:
        print_json(figures)
    else:
        console(least_width=110).print(render(figures))
    lost = losses(figures, accepted) if accepted else []
    for loss in lost:
        typer.secho(f"worse than accepted: {loss}", fg=typer.colors.RED, err=True)
    if lost or not all(bar["holds"] for bar in figures["bars"]):
        raise typer.Exit(2)


@bench_app.command("ingest")
def bench_ingest(
    documents: DocumentsOption = 1_458,
    capacity: Annotated[int, typer.Option(min=1, help="Calls the provider serves at once.")] = 16,
    scenario: Annotated[
        list[str] | None, typer.Option(help="A provider by name, or 'all'; repeat for several.")
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option(help="A system by part of its name; repeat for several.")
    ] = None,
    repeats: Annotated[int, typer.Option(min=1)] = 3,
    seed: SeedOption = 0,
    check: CheckOption = False,
    as_json: JsonOption = False,
) -> None:
    """Measure ingestion, ours beside what people do today, against a simulated provider."""
    from rag_lab.evaluation.speed.ingest import bench_ingest as bench

    report = run(
        bench(
            documents=documents,
            capacity=capacity,
            scenarios=scenario or ["plain"],
            only=only or [],
            repeats=repeats,
            seed=seed,
            tell=say,
        )
    )
    _show(report, check, as_json)


@bench_app.command("questions")
def bench_questions(
    count: Annotated[
        list[int] | None, typer.Option(min=1, help="Repeat for several; default: 10 and 100.")
    ] = None,
    documents: DocumentsOption = 1_458,
    seed: SeedOption = 0,
    check: CheckOption = False,
    as_json: JsonOption = False,
) -> None:
    """Measure ways of asking many questions against the slowest of them asked alone."""
    from rag_lab.evaluation.speed.questions import bench_questions as bench

    _show(
        run(bench(counts=count or [10, 100], documents=documents, seed=seed, tell=say)),
        check,
        as_json,
    )


@bench_app.command("parts")
def bench_parts(
    documents: DocumentsOption = 1_458,
    repeats: Annotated[int, typer.Option(min=1)] = 5,
    seed: SeedOption = 0,
    check: CheckOption = False,
    as_json: JsonOption = False,
) -> None:
    """Measure a question in three parts: all at once, and one part after another."""
    from rag_lab.evaluation.speed.questions import bench_parts as bench

    report = run(bench(documents=documents, repeats=repeats, seed=seed, tell=say))
    _show(report, check, as_json)


@bench_app.command("outage")
def bench_outage(
    documents: DocumentsOption = 1_458,
    seed: SeedOption = 0,
    check: CheckOption = False,
    as_json: JsonOption = False,
) -> None:
    """Measure questions while the provider is down: answered from keywords, and marked so."""
    from rag_lab.evaluation.speed.outage import bench_outage as bench

    _show(run(bench(documents=documents, seed=seed, tell=say)), check, as_json)


@bench_app.command("users")
def bench_users(
    users: Annotated[
        list[int] | None,
        typer.Option(min=1, help="Repeat for several; default: 1, 10, 100, 300 and 1,000."),
    ] = None,
    mode: Annotated[
        Literal["at-once", "closed", "open"],
        typer.Option(help="closed: each asks again when answered; open: so many a second."),
    ] = "at-once",
    documents: DocumentsOption = 1_458,
    budget_s: Annotated[float, typer.Option(min=1, help="A slower system is cut off.")] = 60.0,
    seed: SeedOption = 0,
    check: CheckOption = False,
    as_json: JsonOption = False,
) -> None:
    """Measure many users, our engine beside LlamaIndex's, against a simulated provider."""
    from rag_lab.evaluation.speed.users import bench_users as bench

    report = run(
        bench(
            users=users or [1, 10, 100, 300, 1_000],
            mode=mode,
            documents=documents,
            budget_s=budget_s,
            seed=seed,
            tell=say,
        )
    )
    _show(report, check, as_json)


@bench_app.command("goodput")
def bench_goodput(
    level: Annotated[
        list[float] | None,
        typer.Option(
            min=0.1, help="Questions a second, or users; repeat for several; default: find the knee"
        ),
    ] = None,
    mode: Annotated[
        Literal["open", "closed"],
        typer.Option(help="open: so many a second; closed: each user asks again when answered."),
    ] = "open",
    questions: Annotated[int, typer.Option(min=1, help="Of the bundled law questions.")] = 60,
    duration_s: Annotated[
        float, typer.Option("--duration", min=1, help="Seconds of a level, at least.")
    ] = 10.0,
    seed: SeedOption = 0,
    check: CheckOption = False,
    as_json: JsonOption = False,
) -> None:
    """Measure good answers a second: the same questions under more and more load."""
    from rag_lab.evaluation.answers import measures_named
    from rag_lab.evaluation.speed.goodput import bench_goodput as bench

    (measure,) = measures_named(["answer_contains"], language="id")
    report = run(
        bench(
            measure=measure,
            levels=level,
            mode=mode,
            questions=questions,
            duration_s=duration_s,
            seed=seed,
            tell=say,
        )
    )
    _show(report, check, as_json)


@bench_app.command("limiter")
def bench_limiter(
    scenario: Annotated[
        list[str] | None, typer.Option(help="A provider by name; repeat for several; default: all.")
    ] = None,
    duration_s: Annotated[
        float, typer.Option("--duration", min=3, help="Seconds of an adaptive run.")
    ] = 12.0,
    seed: SeedOption = 0,
    check: CheckOption = False,
    as_json: JsonOption = False,
) -> None:
    """Measure the adaptive limit on calls in flight against fixed ones."""
    from rag_lab.evaluation.speed.limiter import bench_limiter as bench

    report = run(bench(names=scenario or (), duration_s=duration_s, seed=seed, tell=say))
    _show(report, check, as_json)


def _show(report: Report, check: bool, as_json: bool) -> None:
    from rag_lab.evaluation.speed.table import render

    if as_json:
        print_json(report.to_dict())
    else:
        console(least_width=170).print(render(report))
    if check and not report.holds:
        raise typer.Exit(1)
