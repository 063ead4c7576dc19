"""Answers told on the command line: for people, as data, and how they came about."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import typer

from rag_lab.cli.output import console

if TYPE_CHECKING:
    from rich.table import Table

    from rag_lab.records import Answer, Passage, Span, Timing

_KINDS = {
    "extractive": "extractive: sentences quoted from the corpus, not written by a model",
    "generated": "written by the configured model from the passages below",
    "refused": "refused",
}
_BAR_CELLS = 32


@dataclass(frozen=True, slots=True)
class Telling:
    """How answers are told.

    Attributes:
        context: with the passages.
        explain: with what was found how, and where the time went.
        as_json: as a line of JSON.
    """

    context: bool = False
    explain: bool = False
    as_json: bool = False

    def __call__(self, answer: Answer, extra: dict[str, Any] | None = None) -> None:
        """Prints an answer; `extra` goes before its fields in JSON."""
        if self.as_json:
            row = {**(extra or {}), **answer.to_dict()}
            if not (self.context or self.explain):
                row.pop("passages")
            typer.echo(json.dumps(row, ensure_ascii=False, default=str))
            return
        typer.echo(answer.text)
        for line, colour in _remarks(answer):
            typer.secho(line, fg=colour, dim=colour is None)
        if self.explain:
            _explain(answer)
        elif self.context:
            for number, passage in enumerate(answer.passages, 1):
                _tell_passage(number, passage)


def _remarks(answer: Answer) -> Iterator[tuple[str, str | None]]:
    reason = f" — {answer.reason}" if answer.reason else ""
    yield f"({_KINDS[answer.kind]}{reason}; {answer.timing.total_s * 1000:.0f} ms)", None
    if answer.ledger:
        yield answer.ledger, None
    for note in answer.notes:
        yield f"note: {note}", None
    for without in answer.degraded:
        yield f"degraded: {without}", typer.colors.YELLOW
    if answer.usage.calls:
        took = answer.timing.stages_s.items()
        stages = ", ".join(f"{name} {s * 1000:.0f} ms" for name, s in took if s >= 0.001)
        yield f"used: {answer.usage}; {stages}", None


def _tell_passage(number: int, passage: Passage) -> None:
    scores = " ".join(f"{name} {score:.3f}" for name, score in passage.scores.items())
    typer.secho(
        f"\n{number}. {passage.source}  [{passage.node_id}]  {passage.score:.3f} ({scores})",
        bold=True,
    )
    typer.echo(passage.text)


def _explain(answer: Answer) -> None:
    """The parts, the rank of each passage in every search, and the stages in time."""
    out = console(least_width=100)
    if answer.parts:
        out.print(_parts(answer))
    out.print(_passages(answer.passages) if answer.passages else "no passages")
    out.print(_stages(answer.timing))


def _table(title: str, *columns: str) -> Table:
    from rich.table import Table

    return Table(*columns, title=title, title_justify="left", box=None, pad_edge=False)


def _parts(answer: Answer) -> Table:
    table = _table("\nparts", "", "asked", "outcome", "found by it alone", "ms", "tokens")
    for number, part in enumerate(answer.parts, 1):
        reason = f": {part.reason}" if part.reason else ""
        table.add_row(
            str(number),
            _plain(part.part.text),
            _plain(f"{part.outcome}{reason}"),
            _plain(", ".join(part.document_ids)),
            f"{part.timing.total_s * 1000:.0f}",
            str(part.usage.prompt_tokens + part.usage.completion_tokens),
        )
    return table


def _passages(passages: Iterable[Passage]) -> Table:
    """The fused order; under each search its rank and, in brackets, its score."""
    shown = list(passages)
    searches = list(dict.fromkeys(name for passage in shown for name in passage.ranks))
    in_parts = ["parts"] if any(passage.parts for passage in shown) else []
    table = _table("\npassages, in their fused order", "", "source", "fused", *searches, *in_parts)
    for number, passage in enumerate(shown, 1):
        found = (
            f"{passage.ranks[name]} ({passage.scores[name]:.3f})" if name in passage.ranks else "–"
            for name in searches
        )
        numbers = [", ".join(map(str, passage.parts))] if in_parts else []
        table.add_row(str(number), _plain(passage.source), f"{passage.score:.3f}", *found, *numbers)
    return table


def _stages(timing: Timing) -> Table:
    table = _table("\nstages", "", "from ms", "to ms", "")
    for span in timing.spans:
        table.add_row(
            span.stage,
            f"{span.began_s * 1000:.1f}",
            f"{span.ended_s * 1000:.1f}",
            _bar(span, timing.total_s),
        )
    return table


def _bar(span: Span, total_s: float) -> str:
    scale = _BAR_CELLS / total_s if total_s else 0.0
    start = min(round(span.began_s * scale), _BAR_CELLS - 1)
    return " " * start + "█" * max(1, round(span.ended_s * scale) - start)


def _plain(text: str) -> Any:
    """Text of a corpus or a user, which may hold what looks like markup."""
    from rich.text import Text

    return Text(text)
