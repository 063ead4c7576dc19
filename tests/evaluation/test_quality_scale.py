"""The measure at scale, on a handful of articles: which questions count, what is reported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rag_lab.corpora import Corpus
from rag_lab.corpora.base import in_memory
from rag_lab.corpora.law import Pasal
from rag_lab.evaluation.quality import scale as measured
from rag_lab.evaluation.quality.figures import Figures
from rag_lab.records import Question

TEXTS = {
    "uu-1901-1": "Menara suar wajib menyala setiap malam.",
    "uu-1902-2": "Terumbu dilindungi dan dilarang diambil.",
    "pp-1903-3": "Izin menyelam diberikan oleh kepala pelabuhan.",
}
QUESTIONS = (
    Question("q1", "Kapan menara suar menyala?", relevant_groups=("uu-1901-1",)),
    Question("q2", "Siapa memberi izin menyelam?", relevant_groups=("pp-1903-3", "uu-1999-9")),
    Question("q3", "Apa hukuman bagi bajak laut?", relevant_groups=("uu-1999-9",)),
    Question("q4", "Apa yang tidak ada?"),
)


def corpus_by_name(name: str) -> Corpus:
    articles = [
        Pasal(f"{doc}/p1", doc, doc.upper(), "", "1", text).to_document("made.jsonl", 1)
        for doc, text in TEXTS.items()
    ]
    return in_memory(name, articles, language="id", questions=QUESTIONS)


def test_questions_are_judged_by_the_statutes_that_are_there() -> None:
    kept = measured.questions_within(QUESTIONS, TEXTS.keys())
    assert [(question.id, question.relevant_groups) for question in kept] == [
        ("q1", ("uu-1901-1",)),
        ("q2", ("pp-1903-3",)),
    ]


async def test_ingestion_ranking_and_speed_are_reported(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def ingested(corpus: str, cache: Path) -> tuple[float, dict[str, Any]]:
        return 12.34, {"nodes": 3, "peak_mib": 99.9}

    monkeypatch.setattr(measured, "ingest_apart", ingested)
    monkeypatch.setattr(measured, "load_corpus", corpus_by_name)
    figures = Figures()
    await measured.scale(figures, tmp_path)
    assert figures.value("ingestion", "law_id_pasal", "cold s") == 12.3
    assert figures.value("ingestion", "law_id_pasal", "peak MiB") == 99.9
    for system in ("plain BM25", "keyword", "dense", "hybrid"):
        assert figures.value("scale", system, "RR@10") == 1.0
    better, speed = figures.bars
    assert (better.value, better.bound) == (0.0, 0.02)
    assert speed.bound == 60
    assert speed.value > 0
