"""`rag-lab bench quality`: retrieval measured on every question set that is on this machine.

Later measures are added to `SETS` (a question set) or `CHECKS` (anything else that gives figures).
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from rag_lab import __version__
from rag_lab.corpora import Corpus, list_corpora, load_corpus
from rag_lab.errors import SettingsError
from rag_lab.evaluation.bars import Bar
from rag_lab.evaluation.quality.aliases import aliases
from rag_lab.evaluation.quality.checks import answers, ingestion, statute_agreement, vaswani
from rag_lab.evaluation.quality.citations import citations
from rag_lab.evaluation.quality.compound import compound
from rag_lab.evaluation.quality.definitions import definitions
from rag_lab.evaluation.quality.figures import Figure, Figures, split_figures
from rag_lab.evaluation.quality.indexes import PlainBM25, indexed, statute_of
from rag_lab.evaluation.quality.multihop import multihop
from rag_lab.evaluation.quality.published import published
from rag_lab.evaluation.quality.scale import scale
from rag_lab.evaluation.ranking import DocumentRanker, rank_questions, score_ranking
from rag_lab.index import LabIndex
from rag_lab.records import Question
from rag_lab.retrieval import (
    DenseRetriever,
    HybridRetriever,
    KeywordRetriever,
    NamedRetriever,
)
from rag_lab.settings import load_settings

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class QuestionSet:
    """Questions asked of a corpus, and what counts as found.

    Attributes:
        name: how the set is called in the figures.
        corpus: what is searched.
        questions: the corpus whose questions are asked; the same by default.
        gold: judge single documents, or the groups (statutes) they belong to.
        measures: in `ir_measures` notation; the first one is compared between systems.
    """

    name: str
    corpus: str
    questions: str = ""
    gold: Literal["documents", "groups"] = "documents"
    measures: tuple[str, ...] = ("RR@10", "P@1", "R@5", "nDCG@10")


SETS = (
    QuestionSet("anime", "anime"),
    QuestionSet("law", "law_id"),
    QuestionSet(
        "omnibus", "law_id_qa_omnibus", gold="groups", measures=("RR", "RR@10", "P@1", "R@5")
    ),
    QuestionSet("core-statutes", "law_id_core", gold="groups"),
    QuestionSet("core-articles", "law_id_core"),
    QuestionSet("anime-among-3961", "anime_mal_tv", questions="anime"),
    QuestionSet("law-among-12922", "law_id_core", questions="law_id"),
)


async def bench(only: Sequence[str] = (), tell: Tell = print) -> dict[str, Any]:
    """Measures the sets and checks whose corpora are here, in a cache of its own.

    Args:
        only: names of sets or checks; all by default.
        tell: called with a line on each step.

    Raises:
        SettingsError: `only` names what does not exist.
    """
    known = [question_set.name for question_set in SETS] + list(CHECKS)
    unknown = [name for name in only if name not in known]
    if unknown:
        raise SettingsError(f"there is no set {unknown[0]!r}; there are {', '.join(known)}.")
    here = {entry.name for entry in list_corpora()}
    figures = Figures()
    with tempfile.TemporaryDirectory(prefix="rag-lab-bench-") as cache:
        for question_set in SETS:
            if not only or question_set.name in only:
                await _measure(question_set, here, Path(cache), figures, tell)
        for name, (needs, check) in CHECKS.items():
            if only and name not in only:
                continue
            if missing := sorted(needs - here):
                figures.skipped[name] = _absent(missing)
                continue
            tell(name)
            await check(figures, Path(cache))
    _hybrid_bars(figures)
    return {
        "version": __version__,
        "settings": load_settings().public(),
        "figures": [asdict(row) for row in figures.rows],
        "bars": [{**asdict(bar), "holds": bar.holds} for bar in figures.bars],
        "skipped": figures.skipped,
    }


def _absent(missing: Sequence[str]) -> str:
    return f"corpus {missing[0]} is not here; set RAG_LAB_DATA to the folder that holds it"


async def _measure(
    question_set: QuestionSet, here: set[str], cache: Path, figures: Figures, tell: Tell
) -> None:
    asked_from = question_set.questions or question_set.corpus
    if missing := sorted({question_set.corpus, asked_from} - here):
        figures.skipped[question_set.name] = _absent(missing)
        return
    corpus = load_corpus(question_set.corpus)
    questions, qrels = _judged(question_set, load_corpus(asked_from))
    tell(f"{question_set.name}: {len(questions)} questions")
    with closing(await indexed(corpus, cache)) as index:
        figures.rows += await _rows(question_set, corpus, index, questions, qrels)
    figures.bars += _set_bars(question_set.name, figures)


async def _rows(
    question_set: QuestionSet,
    corpus: Corpus,
    index: LabIndex,
    questions: list[Question],
    qrels: dict[str, Mapping[str, int]],
) -> list[Figure]:
    """Every system on one question set."""
    group = statute_of(index) if question_set.gold == "groups" else None
    rows: list[Figure] = []
    systems: dict[str, DocumentRanker] = {
        "plain BM25": PlainBM25(corpus),
        "keyword": KeywordRetriever(index),
        "dense": DenseRetriever(index),
        "hybrid": HybridRetriever(index),
        "named": NamedRetriever(index),
    }
    for system, ranker in systems.items():
        ranking = await rank_questions(ranker, questions, group=group)
        table = score_ranking(ranking, qrels, question_set.measures)
        rows += split_figures(question_set.name, system, table, questions)
    return rows


def _judged(
    question_set: QuestionSet, corpus: Corpus
) -> tuple[list[Question], dict[str, Mapping[str, int]]]:
    if question_set.gold == "groups":
        asked = [question for question in corpus.questions if question.relevant_groups]
        return asked, {q.id: dict.fromkeys(q.relevant_groups, 1) for q in asked}
    asked = [question for question in corpus.questions if corpus.qrels.get(question.id)]
    return asked, {question.id: corpus.qrels[question.id] for question in asked}


def _set_bars(name: str, figures: Figures) -> list[Bar]:
    """The bars of the project for the offline default."""
    if name == "omnibus":
        return [
            Bar("omnibus MRR", figures.value(name, "hybrid", "RR"), 0.960, ">="),
            Bar("omnibus hit@1", figures.value(name, "hybrid", "P@1"), 0.945, ">="),
        ]
    if name == "core-statutes":
        return [Bar("law_id_core MRR@10", figures.value(name, "hybrid", "RR@10"), 0.94, ">=")]
    if name == "core-articles":
        plain = figures.value(name, "plain BM25", "RR@10")
        ours = figures.value(name, "hybrid", "RR@10")
        return [Bar("law_id_core silver Pasal MRR@10, over plain BM25", ours, plain, ">=")]
    return []


def _hybrid_bars(figures: Figures) -> None:
    """Hybrid is never worse than the better of its halves by more than .005 MRR@10."""
    for name in dict.fromkeys(row.set for row in figures.rows if row.system == "hybrid"):
        halves = [figures.value(name, half, "RR@10") for half in ("dense", "keyword")]
        loss = figures.value(name, "hybrid", "RR@10") - max(halves)
        figures.bars.append(
            Bar(f"{name}: hybrid against its better half", round(loss, 4), -0.005, ">=")
        )


CHECKS: dict[str, tuple[set[str], Callable[[Figures, Path], Any]]] = {
    "answers": ({"anime", "law_id"}, answers),
    "vaswani": ({"vaswani"}, vaswani),
    "statute-text": ({"law_id_fulltext", "law_id_core"}, statute_agreement),
    "ingestion": ({"law_id_core"}, ingestion),
    "citations": ({"law_id", "law_id_core", "law_id_qa_omnibus", "law_id_pasal"}, citations),
    "definitions": ({"law_id_core"}, definitions),
    "aliases": ({"anime", "anime_mal_tv"}, aliases),
    "compound": ({"anime", "law_id", "law_id_core"}, compound),
    "multihop": ({"multihop"}, multihop),
    "published": ({"law_id_qa_omnibus"}, published),
    "scale": ({"law_id_pasal", "law_id_qa_omnibus"}, scale),
}
"""Name → the corpora it needs, and what adds its figures."""
