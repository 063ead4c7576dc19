"""A published dense run on the Omnibus questions: re-scored from its file, and ours beside it.

The file has for each question the regulations of the first five provisions and the place of the
first one of a gold regulation, among the first 50. From those, and from the gold of our own reader,
the ranking is built again as far as reciprocal rank and hits need it. Both systems are judged on
provisions, as published: a regulation that comes twice takes two places. (The set `omnibus` of the
bench judges regulations, each once, so its figures are higher.)
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson

from rag_lab.corpora import Corpus, list_corpora, load_corpus
from rag_lab.errors import CorpusError
from rag_lab.evaluation.bars import Bar
from rag_lab.evaluation.compare import Comparison
from rag_lab.evaluation.quality.figures import Figure, Figures, split_figures
from rag_lab.evaluation.quality.indexes import indexed
from rag_lab.evaluation.ranking import Ranking, rank_questions, score_ranking
from rag_lab.records import Question
from rag_lab.retrieval import NamedRetriever

NAME = "omnibus-published"
THEIRS, OURS = "published dense run", "named"
PUBLISHED = {"RR": 0.7986, "hit@1": 0.7190, "hit@5": 0.8952}
_CORPUS = "law_id_qa_omnibus"
_FILE = "baseline_jina_v3_210q.json"
_DEPTH = 50


async def published(figures: Figures, cache: Path) -> None:
    """The published figures from their per-query file, ours, and the paired difference."""
    corpus = load_corpus(_CORPUS)
    file = _folder() / _FILE
    if not file.is_file():
        figures.skipped[NAME] = f"{file.name} is not in the folder of {_CORPUS}"
        return
    questions = corpus.questions
    rows = orjson.loads(file.read_bytes())["per_query"]
    theirs, their_qrels = rebuilt(rows, questions, regulations(corpus))
    with closing(await indexed(corpus, cache)) as index:
        ours = await rank_questions(NamedRetriever(index), questions, k=_DEPTH)
    tables = {
        THEIRS: score_ranking(theirs, their_qrels, list(PUBLISHED)),
        OURS: score_ranking(ours, provisions(corpus), list(PUBLISHED)),
    }
    for system, table in tables.items():
        figures.rows += split_figures(NAME, system, table, questions)
    for measure, value in PUBLISHED.items():
        distance = abs(tables[THEIRS].mean(measure) - value)
        what = f"published {measure} on Omnibus, distance from {value}"
        figures.bars.append(Bar(what, round(distance, 6), 0.0005, "<="))
    _differences(figures, Comparison(_CORPUS, THEIRS, tables, {THEIRS: theirs, OURS: ours}))


def _folder() -> Path:
    return next(entry.folder for entry in list_corpora() if entry.name == _CORPUS)


def _differences(figures: Figures, comparison: Comparison) -> None:
    """What ours gains on each measure; the p of the paired test is a bar, since less is better."""
    asked = comparison.tables[OURS].attempted
    for measure in PUBLISHED:
        gap = comparison.difference(OURS, measure)
        system = f"{OURS} against {THEIRS}"
        figures.rows.append(Figure(NAME, system, measure, round(gap.mean, 4), n=asked))
        what = f"Omnibus {measure}, {system}: p of the difference"
        figures.bars.append(Bar(what, round(gap.p_value, 4), 0.01, "<="))


def regulations(corpus: Corpus) -> dict[str, str]:
    """Citation of a regulation (`UU 40/2007`) → its document key."""
    return {str(each.metadata["law"]): str(each.metadata["doc"]) for each in corpus.documents}


def provisions(corpus: Corpus) -> dict[str, dict[str, int]]:
    """Judgements that take every provision of a gold regulation for relevant."""
    held: dict[str, list[str]] = {}
    for document in corpus.documents:
        held.setdefault(str(document.metadata["doc"]), []).append(document.id_)
    return {
        question.id: {key: 1 for group in question.relevant_groups for key in held.get(group, ())}
        for question in corpus.questions
    }


def rebuilt(
    rows: list[Mapping[str, Any]],
    questions: tuple[Question, ...],
    keys: Mapping[str, str],
) -> tuple[Ranking, dict[str, dict[str, int]]]:
    """A ranking by place, down to the first provision of a gold regulation, and its judgements.

    Args:
        rows: the `per_query` list of the file.
        questions: with their gold regulations.
        keys: citation → document key.

    Raises:
        CorpusError: the file has other questions, or contradicts itself or our gold.
    """
    asked = {question.id: question for question in questions}
    if sorted(asked) != sorted(str(row["query_id"]) for row in rows):
        raise CorpusError(f"{_FILE} does not have the {len(asked)} questions of {_CORPUS}.")
    run: dict[str, dict[str, float]] = {}
    qrels: dict[str, dict[str, int]] = {}
    for row in rows:
        question = asked[str(row["query_id"])]
        places = _relevant_places(row, question, keys)
        last = max(len(row["top_k_citations"]), *places, 0)
        run[question.id] = {f"place {place}": 1.0 / place for place in range(1, last + 1)}
        qrels[question.id] = {f"place {place}": 1 for place in places} or {"not found": 1}
    return Ranking(run), qrels


def _relevant_places(
    row: Mapping[str, Any], question: Question, keys: Mapping[str, str]
) -> list[int]:
    """Places, from 1, that are known to hold a provision of a gold regulation."""
    shown = [keys.get(citation, citation) for citation in row["top_k_citations"]]
    places = [n for n, key in enumerate(shown, start=1) if key in question.relevant_groups]
    first = row["first_relevant_rank"]
    if places[:1] != [first] and (places or (first is not None and first <= len(shown))):
        raise CorpusError(
            f"{_FILE}, {question.id}: the first relevant place is given as {first}, but by our "
            f"gold it is {places[0] if places else 'none of those shown'}."
        )
    return places or ([] if first is None else [int(first)])
