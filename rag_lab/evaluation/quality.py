"""`rag-lab bench quality`: retrieval measured on every question set that is on this machine.

Later measures are added to `SETS` (a question set) or `CHECKS` (anything else that gives figures).
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rag_lab import __version__
from rag_lab.asking import LabQueryEngine
from rag_lab.corpora import Corpus, list_corpora, load_corpus
from rag_lab.corpora.analysis import Analyzer
from rag_lab.errors import SettingsError
from rag_lab.evaluation.ranking import (
    DocumentRanker,
    in_split,
    rank_questions,
    score_ranking,
)
from rag_lab.index import LabIndex, ingest, open_index
from rag_lab.index.keyword import KeywordIndex
from rag_lab.index.nodes import split_document
from rag_lab.records import Answer, Question
from rag_lab.retrieval import DenseRetriever, HybridRetriever, KeywordRetriever
from rag_lab.settings import load_settings

if TYPE_CHECKING:
    from rich.console import Group

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


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value, on all questions and on each half."""

    set: str
    system: str
    measure: str
    value: float
    dev: float | None = None
    held_out: float | None = None
    n: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True)
class Bar:
    """What must hold, and whether it does."""

    what: str
    value: float
    bound: float
    sense: Literal[">=", "<="]

    @property
    def holds(self) -> bool:
        """Whether the value is on the right side."""
        return self.value >= self.bound if self.sense == ">=" else self.value <= self.bound


@dataclass
class Figures:
    """What a run has measured so far."""

    rows: list[Figure] = field(default_factory=list)
    bars: list[Bar] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)

    def value(self, name: str, system: str, measure: str) -> float:
        """A figure by its place.

        Raises:
            KeyError: it was not measured.
        """
        for row in self.rows:
            if (row.set, row.system, row.measure) == (name, system, measure):
                return row.value
        raise KeyError((name, system, measure))


class PlainBM25:
    """The baseline: stemmed BM25, one entry a document, names and text counted alike."""

    def __init__(self, corpus: Corpus, analyzer: Analyzer | None = None) -> None:
        self._analyzer = analyzer or Analyzer(corpus.language)
        self._ids: list[str] = []
        self._index = KeywordIndex.build(self._tokens(corpus), k1=1.2, b=0.75)

    def _tokens(self, corpus: Corpus) -> Iterable[list[str]]:
        for document in corpus.documents:
            whole = split_document(document, max_chars=sys.maxsize)[0]
            self._ids.append(document.id_)
            yield self._analyzer.tokens(" ".join((*whole.names, whole.context, whole.text)))

    async def rank_documents(self, query: str, k: int | None = None) -> list[tuple[str, float]]:
        """The k best (document id, score), best first; a thousand by default."""
        tokens = self._analyzer.tokens(query)
        hits = await asyncio.to_thread(self._index.search, tokens, k or 1_000)
        return [(self._ids[place], score) for place, score in hits]


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
    with closing(await _indexed(corpus, cache)) as index:
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
    group = _statutes(index) if question_set.gold == "groups" else None
    rows: list[Figure] = []
    systems: dict[str, DocumentRanker] = {
        "plain BM25": PlainBM25(corpus),
        "keyword": KeywordRetriever(index),
        "dense": DenseRetriever(index),
        "hybrid": HybridRetriever(index),
    }
    for system, ranker in systems.items():
        ranking = await rank_questions(ranker, questions, group=group)
        table = score_ranking(ranking, qrels, question_set.measures)
        rows += (
            Figure(
                question_set.name,
                system,
                measure,
                round(table.mean(measure), 4),
                round(table.mean(measure, in_split(questions, "dev")), 4),
                round(table.mean(measure, in_split(questions, "held_out")), 4),
                table.attempted,
                table.failed,
            )
            for measure in question_set.measures
        )
    return rows


def _judged(
    question_set: QuestionSet, corpus: Corpus
) -> tuple[list[Question], dict[str, Mapping[str, int]]]:
    if question_set.gold == "groups":
        asked = [question for question in corpus.questions if question.relevant_groups]
        return asked, {q.id: dict.fromkeys(q.relevant_groups, 1) for q in asked}
    asked = [question for question in corpus.questions if corpus.qrels.get(question.id)]
    return asked, {question.id: corpus.qrels[question.id] for question in asked}


async def _indexed(corpus: Corpus, cache: Path) -> LabIndex:
    settings = load_settings(paths={"cache": cache})
    await ingest(corpus, settings=settings)
    return open_index(corpus, settings=settings)


def _statutes(index: LabIndex) -> Callable[[str], str]:
    groups = dict(zip(index.nodes.document_ids, index.column("doc"), strict=True))
    return groups.__getitem__


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


async def _answers(figures: Figures, cache: Path) -> None:
    """What the offline answerer says to the bundled questions, and when it refuses."""
    for name in ("anime", "law_id"):
        corpus = load_corpus(name)
        with closing(await _indexed(corpus, cache)) as index:
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


async def _vaswani(figures: Figures, cache: Path) -> None:
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


async def _statute_agreement(figures: Figures, cache: Path) -> None:
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


async def _ingestion(figures: Figures, cache: Path) -> None:
    """A cold and a warm ingestion of law_id_core, each in a process of its own."""
    fresh = cache / "ingestion"
    cold_s, report = await asyncio.to_thread(_ingest_apart, "law_id_core", fresh)
    peak_mib = float(report["peak_mib"] or math.nan)
    warm_s, _ = await asyncio.to_thread(_ingest_apart, "law_id_core", fresh)
    nodes = int(report["nodes"])
    for measure, value in (("cold s", cold_s), ("peak MiB", peak_mib), ("warm s", warm_s)):
        figures.rows.append(Figure("ingestion", "law_id_core", measure, round(value, 1), n=nodes))
    figures.bars += [
        Bar("ingesting law_id_core, seconds", round(cold_s, 1), 45, "<="),
        Bar("ingesting law_id_core, peak MiB", round(peak_mib), 1_500, "<="),
        Bar("ingesting law_id_core again, seconds", round(warm_s, 1), 5, "<="),
    ]


def _ingest_apart(corpus: str, cache: Path) -> tuple[float, dict[str, Any]]:
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "rag_lab.cli", "ingest", corpus, "--json"],
        env={**os.environ, "RAG_LAB_CACHE": str(cache)},
        stdout=subprocess.PIPE,
        check=True,
    )
    return time.perf_counter() - started, json.loads(done.stdout)[0]


CHECKS: dict[str, tuple[set[str], Callable[[Figures, Path], Any]]] = {
    "answers": ({"anime", "law_id"}, _answers),
    "vaswani": ({"vaswani"}, _vaswani),
    "statute-text": ({"law_id_fulltext", "law_id_core"}, _statute_agreement),
    "ingestion": ({"law_id_core"}, _ingestion),
}
"""Name → the corpora it needs, and what adds its figures."""


def losses(
    result: Mapping[str, Any], accepted: Mapping[str, Any], tolerance: float = 0.005
) -> list[str]:
    """Figures between 0 and 1 that are lower than accepted ones by more than `tolerance`, told."""

    def by_place(figures: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str, str], float]:
        return {(row["set"], row["system"], row["measure"]): row["value"] for row in figures}

    now = by_place(result["figures"])
    return [
        f"{' · '.join(place)}: {now[place]:.4f}, accepted {value:.4f}"
        for place, value in by_place(accepted["figures"]).items()
        if place in now and place[0] != "ingestion" and now[place] < value - tolerance
    ]


def render(result: Mapping[str, Any]) -> Group:
    """The figures and bars of `bench` as tables for a terminal."""
    from rich.console import Group
    from rich.table import Table

    figures = Table("set", "system", "measure", "all", "dev", "held out", "n", "failed")
    for row in result["figures"]:
        halves = ("" if row[half] is None else f"{row[half]:.3f}" for half in ("dev", "held_out"))
        figures.add_row(
            row["set"],
            row["system"],
            row["measure"],
            f"{row['value']:.4g}",
            *halves,
            f"{row['n']:,}",
            str(row["failed"] or ""),
        )
    bars = Table("must hold", "value", "bar", "")
    for bar in result["bars"]:
        state = "holds" if bar["holds"] else "FAILS"
        bars.add_row(bar["what"], f"{bar['value']:.4g}", f"{bar['sense']} {bar['bound']:g}", state)
    skipped = [f"skipped {name}: {reason}" for name, reason in result["skipped"].items()]
    return Group(figures, bars, *skipped)
