"""Citations of law: read right, refused where there is nothing, first where there is something."""

from __future__ import annotations

import asyncio
import re
import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rag_lab.corpora import Corpus, load_corpus
from rag_lab.corpora.files import read_json_lines
from rag_lab.errors import Rejection
from rag_lab.evaluation.bars import Bar
from rag_lab.evaluation.quality.citation_forms import Form, NoPlace, make_forms, make_no_places
from rag_lab.evaluation.quality.figures import Figure, Figures
from rag_lab.records import Question
from rag_lab.retrieval.citation.statutes import Resolved, Row, Statutes
from rag_lab.settings import PathSettings

COLUMNS = ("doc", "law", "title", "pasal")
_NAMED_PASAL = re.compile(r"(?i)\b(?:pasal|ps\.?|psl\.?|article)\s*(\d+[a-z]?)\b")


async def citations(figures: Figures, cache: Path) -> None:
    """Forms made up, places that do not exist, real questions, and the time it takes."""
    await asyncio.to_thread(_measure, figures)


def _measure(figures: Figures) -> None:
    core, bundled = load_corpus("law_id_core"), load_corpus("law_id")
    omnibus, scale = load_corpus("law_id_qa_omnibus"), load_corpus("law_id_pasal")
    held = {corpus.name: columns_of(corpus) for corpus in (core, bundled, omnibus, scale)}
    began = time.perf_counter()
    among_all = Statutes.of(*held[scale.name])
    built_s = time.perf_counter() - began
    here = {name: Statutes.of(*columns) for name, columns in held.items() if name != scale.name}
    forms = {
        name: make_forms(held[name][0], count, f"cite-{name}")
        for name, count in ((core.name, 400), (bundled.name, 150))
    }
    for name, made in forms.items():
        figures.rows.append(share(name, "read exactly", read_exactly(here[name], made)))
        figures.bars.append(
            Bar(f"citations read right, {name}", figures.rows[-1].value, 0.99, ">=")
        )
    for name, count in ((core.name, 240), (bundled.name, 90)):
        refused = refused_rightly(here[name], make_no_places(held[name][0], count, f"none-{name}"))
        figures.rows.append(share(name, "what does not exist, refused", refused))
        what = f"citations that do not exist, refused, {name}"
        figures.bars.append(Bar(what, figures.rows[-1].value, 0.98, ">="))
    for corpus, asked in ((bundled, bundled), (core, bundled), (core, core), (omnibus, omnibus)):
        _real(figures, here[corpus.name], held[corpus.name][0], corpus.name, asked)
    _false_alarms(figures, among_all, scale.name, _small_questions())
    _times(figures, among_all, [form.question for made in forms.values() for form in made], built_s)


def columns_of(corpus: Corpus) -> tuple[list[Row], dict[str, Sequence[str]]]:
    """What `Statutes.of` takes, from the documents of a corpus."""
    rows: list[Row] = []
    ayat: dict[str, Sequence[str]] = {}
    for document in corpus.documents:
        doc, law, title, pasal = (str(document.metadata.get(name, "")) for name in COLUMNS)
        rows.append((document.id_, doc, law, title, pasal))
        ayat[document.id_] = document.metadata.get("ayat", ())
    return rows, ayat


def read_exactly(statutes: Statutes, forms: Iterable[Form]) -> dict[Question, bool]:
    """For each form whether law, Pasal and ayat are read as meant, and nothing else."""
    return {
        form.question: form.places
        == {(said.law, said.pasal, said.ayat) for said in statutes.read(form.question.text)}
        for form in forms
    }


def refused_rightly(statutes: Statutes, made: Iterable[NoPlace]) -> dict[Question, bool]:
    """For each whether no document is given, and the reason names what there is not."""

    def right(found: Resolved, named: str) -> bool:
        given = found.document_ids or found.candidates
        return not given and any(named in reason for reason in found.missing)

    return {one.question: right(statutes.resolve(one.question.text), one.named) for one in made}


def share(
    system: str, measure: str, right: Mapping[Question, bool], name: str = "citations"
) -> Figure:
    """The share that is right, of all questions and of each half."""

    def mean(half: str = "") -> float | None:
        values = [value for question, value in right.items() if half in ("", question.split)]
        return round(statistics.fmean(values), 4) if values else None

    return Figure(
        name, system, measure, mean() or 0.0, mean("dev"), mean("held_out"), n=len(right)
    )  # fmt: skip


def _real(
    figures: Figures, statutes: Statutes, rows: Sequence[Row], place: str, asked: Corpus
) -> None:
    """Real questions: a Pasal that is named is first, one that is not there is refused."""
    system = place if place == asked.name else f"{asked.name} in {place}"
    held = {document_id: (doc, pasal.upper()) for document_id, doc, _, _, pasal in rows}
    naming = [question for question in asked.questions if _NAMED_PASAL.search(question.text)]
    found = {question: statutes.resolve(question.text) for question in naming}
    wanted = {question: named_places(question, held) for question in naming}
    first = {
        question: held.get(next(iter(found[question].document_ids), "")) in wanted[question]
        for question in naming
        if wanted[question] & set(held.values())
    }
    refused = {
        question: bool(found[question].missing) and not found[question].document_ids
        for question in naming
        if question not in first
    }
    if first:
        figures.rows.append(share(system, "named Pasal first", first))
        figures.bars.append(Bar(f"named Pasal first, {system}", figures.rows[-1].value, 1.0, ">="))
    if refused and place == asked.name:
        figures.rows.append(share(system, "named Pasal not here, refused", refused))
    _false_alarms(figures, statutes, system, asked.questions)


def named_places(question: Question, held: Mapping[str, tuple[str, str]]) -> set[tuple[str, str]]:
    """What a question names, by its judgements: each gold statute with each number it says.

    Args:
        question: with gold documents, or gold statutes.
        held: document id → (document key, Pasal).
    """
    statutes = {held[gold][0] for gold in question.relevant_ids if gold in held}
    statutes.update(question.relevant_groups)
    numbers = {match[1].upper() for match in _NAMED_PASAL.finditer(question.text)}
    return {(statute, number) for statute in statutes for number in numbers}


def _false_alarms(
    figures: Figures, statutes: Statutes, system: str, questions: Iterable[Question]
) -> None:
    alarms = {
        question: bool(found.document_ids or found.candidates)
        for question in questions
        if not _NAMED_PASAL.search(question.text)
        for found in [statutes.resolve(question.text)]
    }
    if alarms:
        figures.rows.append(share(system, "false alarms", alarms))
        figures.bars.append(Bar(f"false alarms, {system}", figures.rows[-1].value, 0.0, "<="))


def _small_questions() -> list[Question]:
    file = PathSettings().data_folder / "law_id_qa_small" / "questions.jsonl.gz"
    if not file.is_file():
        return []
    rows: list[Mapping[str, Any]] = [
        item[1] for item in read_json_lines(file) if not isinstance(item, Rejection)
    ]
    return [Question(str(row["qid"]), str(row["question"])) for row in rows]


def _times(
    figures: Figures, statutes: Statutes, questions: Sequence[Question], built_s: float
) -> None:
    """How long it takes among all articles: to read the columns once, and a question."""
    taken_ms = []
    for question in questions:
        began = time.perf_counter()
        statutes.resolve(question.text)
        taken_ms.append((time.perf_counter() - began) * 1_000)
    p95_ms = round(statistics.quantiles(taken_ms, n=20)[-1], 2)
    figures.rows += [
        Figure("citations", "law_id_pasal", "p95 ms", p95_ms, n=len(questions)),
        Figure("citations", "law_id_pasal", "built in s", round(built_s, 2)),
    ]
    figures.bars.append(Bar("a citation among all articles, p95 ms", p95_ms, 50, "<="))
