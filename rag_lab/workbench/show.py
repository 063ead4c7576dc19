"""Passages, answers and conclusions in a notebook; corpus text is escaped."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rag_lab.asking.passages import passages_of

if TYPE_CHECKING:
    from IPython.display import HTML, Markdown

    from rag_lab.evaluation import Comparison
    from rag_lab.records import Answer, Passage, Question

__all__ = [
    "conclusion",
    "passages_of",
    "show_answers",
    "show_questions",
    "show_side_by_side",
    "snippet",
]

_SNIPPET = 160


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> HTML:
    from IPython.display import HTML

    head = "".join(f"<th>{html.escape(title)}</th>" for title in titles)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return HTML(f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>")


def snippet(text: str, most: int = _SNIPPET) -> str:
    """The beginning of a text on one line."""
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[: most - 1].rstrip()}…"


def show_questions(questions: Sequence[Question]) -> HTML:
    """Questions with their kind and reference answer."""
    return _table(
        ("kind", "question", "reference answer"),
        [(q.kind, q.text, snippet(q.answer)) for q in questions],
    )


def show_side_by_side(passages: Mapping[str, Sequence[Passage]], top: int = 3) -> HTML:
    """The first passages of several systems for one question, a column a system."""
    rows = []
    for rank in range(top):
        cells = [
            f"{found[rank].source}: {snippet(found[rank].text, 90)}" if rank < len(found) else "–"
            for found in passages.values()
        ]
        rows.append([str(rank + 1), *cells])
    return _table(("rank", *passages), rows)


def show_answers(answers: Sequence[Answer]) -> HTML:
    """Answers with what kind they are and what they cite."""
    return _table(
        ("question", "answer", "kind", "sources"),
        [(a.question, snippet(a.text, 400), a.kind, ", ".join(a.cited_ids)) for a in answers],
    )


def conclusion(comparison: Comparison, measure: str) -> Markdown:
    """What the figures say, in sentences made from them: prose that cannot contradict the table."""
    from IPython.display import Markdown

    means = {name: comparison.mean(name, measure).value for name in comparison.systems}
    best = max(means, key=lambda name: means[name])
    asked = comparison.score_tables[best][0]
    failures = asked.count("failed")
    failed = f" {failures} of them failed." if failures else " None failed."
    ranked = ", ".join(f"{name} {mean:.3f}" for name, mean in sorted(means.items(), key=_falling))
    return Markdown(
        f"## Conclusion\n\n**{comparison.verdict(measure)}**\n\n"
        f"Mean {measure} on {comparison.corpus}: {ranked}. "
        f"{asked.attempted} questions were asked of each system.{failed}"
    )


def _falling(item: tuple[str, float]) -> float:
    return -item[1]
