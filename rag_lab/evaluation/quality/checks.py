"""Checks of the spine: answers, a published figure, readers against others, ingestion."""

from __future__ import annotations

import asyncio
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

from rag_lab.asking import LabQueryEngine
from rag_lab.corpora import load_corpus
from rag_lab.corpora.analysis import Analyzer
from rag_lab.evaluation.bars import Bar
from rag_lab.evaluation.quality.figures import Figure, Figures
from rag_lab.evaluation.quality.indexes import PlainBM25, indexed
from rag_lab.evaluation.ranking import rank_questions, score_ranking
from rag_lab.records import Answer, Question


async def answers(figures: Figures, cache: Path) -> None:
    """What the offline answerer says to the bundled questions, and when it refuses."""
    for name in ("anime", "law_id"):
        corpus = load_corpus(name)
        with closing(await indexed(corpus, cache)) as index:
            engine = LabQueryEngine.over(index)
            answers = {q.id: await engine.ask(q.text) for q in corpus.questions}
        for measure, (asked, holds) in _ANSWER_MEASURES.items():
            scored = {q: float(holds(q, answers[q.id])) for q in corpus.questions if asked(q)}
            halves = {
                half: [value for question, value in scored.items() if question.split == half]
                for half in ("dev", "held_out")
            }
            figures.rows.append(
                Figure(
                    f"{name}-answers",
                    "extractive",
                    measure,
                    round(statistics.fmean(scored.values()), 4),
                    dev=round(statistics.fmean(halves["dev"]), 4),
                    held_out=round(statistics.fmean(halves["held_out"]), 4),
                    n=len(scored),
                )
            )


def _contains_all(question: Question, answer: Answer) -> bool:
    said = answer.text.casefold()
    return all(expected.casefold() in said for expected in question.answer_contains)


def _cites_gold(question: Question, answer: Answer) -> bool:
    return bool(set(answer.cited_ids) & set(question.relevant_ids))


_ANSWER_MEASURES: dict[
    str, tuple[Callable[[Question], bool], Callable[[Question, Answer], bool]]
] = {
    "contains what is expected": (lambda q: bool(q.answer_contains), _contains_all),
    "cites a gold document": (lambda q: q.answerable, _cites_gold),
    "refused, wrongly": (lambda q: q.answerable, lambda q, answer: answer.refused),
    "refused, rightly": (lambda q: not q.answerable, lambda q, answer: answer.refused),
}


async def vaswani(figures: Figures, cache: Path) -> None:
    """The engine against a published figure: BM25, Porter stemmer, MAP .2965."""
    corpus = load_corpus("vaswani")
    engine = PlainBM25(corpus, Analyzer("en", stemmer="porter"))
    ranking = await rank_questions(engine, corpus.questions, k=1_000)
    table = score_ranking(ranking, corpus.qrels, ["AP", "nDCG"])
    for measure in ("AP", "nDCG"):
        value = round(table.mean(measure), 4)
        figures.rows.append(Figure("vaswani", "plain BM25", measure, value, n=table.attempted))
    distance = abs(figures.value("vaswani", "plain BM25", "AP") - 0.2965)
    figures.bars.append(Bar("vaswani MAP, distance from .2965", round(distance, 4), 0.01, "<="))


async def statute_agreement(figures: Figures, cache: Path) -> None:
    """Plain statute text, split by us, against articles split by others."""
    from rag_lab.corpora.agreement import compare_with
    from rag_lab.corpora.files import read_json_lines
    from rag_lab.corpora.statute import split_statute
    from rag_lab.errors import Rejection
    from rag_lab.settings import PathSettings

    folder = PathSettings().data_folder

    def rows(file: str) -> Iterable[dict[str, Any]]:
        for item in read_json_lines(folder / file):
            if not isinstance(item, Rejection):
                yield item[1]

    def compare() -> Any:
        reference = list(rows("law_id_core/pasal.jsonl.gz"))
        wanted = {row["doc"] for row in reference}
        parsed = {
            row["doc"]: split_statute(row["text"])
            for row in rows("law_id_fulltext/uu.jsonl.gz")
            if row["doc"] in wanted
        }
        return compare_with(reference, parsed)

    agreement = await asyncio.to_thread(compare)
    figures.rows += [
        Figure(
            "statute-text", "reader", "same number", round(agreement.found_share, 4),
            n=agreement.reference_articles,
        ),
        Figure(
            "statute-text", "reader", "overlap >= .9", round(agreement.matched_share, 4),
            n=agreement.reference_articles,
        ),
    ]  # fmt: skip
    share = round(agreement.matched_share, 4)
    figures.bars.append(Bar("statute text: Pasal matched", share, 0.95, ">="))


async def ingestion(figures: Figures, cache: Path) -> None:
    """A cold and a warm ingestion of law_id_core, each in a process of its own."""
    fresh = cache / "ingestion"
    cold_s, report = await asyncio.to_thread(ingest_apart, "law_id_core", fresh)
    peak_mib = float(report["peak_mib"] or math.nan)
    warm_s, _ = await asyncio.to_thread(ingest_apart, "law_id_core", fresh)
    nodes = int(report["nodes"])
    for measure, value in (("cold s", cold_s), ("peak MiB", peak_mib), ("warm s", warm_s)):
        figures.rows.append(Figure("ingestion", "law_id_core", measure, round(value, 1), n=nodes))
    figures.bars += [
        Bar("ingesting law_id_core, seconds", round(cold_s, 1), 45, "<="),
        Bar("ingesting law_id_core, peak MiB", round(peak_mib), 1_500, "<="),
        Bar("ingesting law_id_core again, seconds", round(warm_s, 1), 5, "<="),
    ]


def ingest_apart(corpus: str, cache: Path) -> tuple[float, dict[str, Any]]:
    """Ingests in a process of its own: the seconds it took, and its report as plain data."""
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "rag_lab.cli", "ingest", corpus, "--json"],
        env={**os.environ, "RAG_LAB_CACHE": str(cache)},
        stdout=subprocess.PIPE,
        check=True,
    )
    return time.perf_counter() - started, json.loads(done.stdout)[0]
