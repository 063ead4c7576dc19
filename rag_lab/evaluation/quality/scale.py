"""The Omnibus questions among all articles of the Indonesian UU and PP: quality and speed at scale.

The 210 questions are asked of the 157,045 units of `law_id_pasal`. Gold is the statute; a question
takes part if at least one statute that answers it is there, and only such statutes count.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Collection, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np

from rag_lab.corpora import load_corpus
from rag_lab.evaluation.bars import Bar
from rag_lab.evaluation.quality.checks import ingest_apart
from rag_lab.evaluation.quality.figures import Figure, Figures, split_figures
from rag_lab.evaluation.quality.indexes import PlainBM25, indexed, statute_of
from rag_lab.evaluation.ranking import DocumentRanker, rank_questions, score_ranking
from rag_lab.records import Question
from rag_lab.retrieval import (
    DenseRetriever,
    HybridRetriever,
    KeywordRetriever,
    NamedRetriever,
)

_CORPUS = "law_id_pasal"
_MEASURES = ("RR@10", "P@1", "R@5", "nDCG@10")
_WARM_UP = 20


async def scale(figures: Figures, cache: Path) -> None:
    """Ingestion, ranking and the time of one query over `law_id_pasal`."""
    seconds, report = await asyncio.to_thread(ingest_apart, _CORPUS, cache)
    nodes, peak_mib = int(report["nodes"]), float(report["peak_mib"] or math.nan)
    for measure, value in (("cold s", seconds), ("peak MiB", peak_mib)):
        figures.rows.append(Figure("ingestion", _CORPUS, measure, round(value, 1), n=nodes))
    corpus = load_corpus(_CORPUS)
    with closing(await indexed(corpus, cache)) as index:
        group = statute_of(index)
        statutes = {group(document_id) for document_id in index.nodes.document_ids}
        asked = questions_within(load_corpus("law_id_qa_omnibus").questions, statutes)
        qrels = {question.id: dict.fromkeys(question.relevant_groups, 1) for question in asked}
        hybrid, named = HybridRetriever(index), NamedRetriever(index)
        p95_ms = await p95_of_one_query_ms(named, asked)
        systems: dict[str, DocumentRanker] = {
            "plain BM25": PlainBM25(corpus),
            "keyword": KeywordRetriever(index),
            "dense": DenseRetriever(index),
            "hybrid": hybrid,
            "named": named,
        }
        for system, ranker in systems.items():
            ranking = await rank_questions(ranker, asked, group=group)
            figures.rows += split_figures(
                "scale", system, score_ranking(ranking, qrels, _MEASURES), asked
            )
    plain, ours = (figures.value("scale", name, "RR@10") for name in ("plain BM25", "hybrid"))
    figures.bars += [
        Bar("law_id_pasal MRR@10, over BM25 with law names", round(ours - plain, 4), 0.02, ">="),
        Bar("one query over law_id_pasal, p95 ms", round(p95_ms, 1), 60, "<="),
    ]


def questions_within(questions: Sequence[Question], statutes: Collection[str]) -> list[Question]:
    """The questions that some of these statutes answer, judged by those alone."""
    kept = (
        replace(
            question,
            relevant_groups=tuple(name for name in question.relevant_groups if name in statutes),
        )
        for question in questions
    )
    return [question for question in kept if question.relevant_groups]


async def p95_of_one_query_ms(retriever: HybridRetriever, asked: Sequence[Question]) -> float:
    """The 95th percentile of the time one query takes, asked one after the other, warmed up."""
    for question in asked[:_WARM_UP]:
        await retriever.nodes(question.text)
    took_s = []
    for question in asked:
        started = time.perf_counter()
        await retriever.nodes(question.text)
        took_s.append(time.perf_counter() - started)
    return float(np.percentile(took_s, 95)) * 1_000
