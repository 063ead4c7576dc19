"""MuSiQue questions in their gold steps: what a decomposer that knew everything would find.

Every step of a question is asked with the gold answers of the steps it refers to ("#1") filled in,
and the rankings of the steps are merged. That is an upper bound of decomposition with these
retrievers, not a figure of any decomposer; the whole question to plain BM25 is the floor.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path

from rag_lab.asking.decompose import Decomposition, filled
from rag_lab.asking.parts import PartsRetriever
from rag_lab.corpora import load_corpus
from rag_lab.corpora.files import read_json_lines
from rag_lab.errors import Rejection
from rag_lab.evaluation.bars import Bar
from rag_lab.evaluation.quality.figures import Figures, split_figures
from rag_lab.evaluation.quality.indexes import PlainBM25, indexed
from rag_lab.evaluation.ranking import DocumentRanker, rank_questions, score_ranking
from rag_lab.records import Question
from rag_lab.retrieval import HybridRetriever
from rag_lab.settings import PathSettings

_SET = "musique"
_MEASURE = "R@5"


class GoldSteps:
    """A decomposer that knows the steps of each question, by its text.

    Raises:
        KeyError: when asked to take apart a question that it does not know.
    """

    def __init__(self, steps: Mapping[str, tuple[str, ...]]) -> None:
        self._steps = steps

    async def decompose(self, question: str) -> Decomposition:
        """The steps, as data has them: neither rules nor a model found them."""
        return Decomposition(self._steps[question], "rules", "gold steps")


async def multihop(figures: Figures, cache: Path) -> None:
    """R@5 of the gold passages: whole to BM25 and to hybrid, and in gold steps to hybrid."""
    corpus = load_corpus("multihop")
    answers = _answers(PathSettings().data_folder / "multihop" / "questions.jsonl.gz")
    asked = [question for question in corpus.questions if question.id in answers]
    steps = {question.text: filled_steps(question, answers[question.id]) for question in asked}
    with closing(await indexed(corpus, cache)) as index:
        hybrid = HybridRetriever(index)
        systems: dict[str, DocumentRanker] = {
            "plain BM25, whole": PlainBM25(corpus),
            "hybrid, whole": hybrid,
            "hybrid, in gold steps": PartsRetriever(hybrid, GoldSteps(steps)),
        }
        for name, system in systems.items():
            ranking = await rank_questions(system, asked)
            table = score_ranking(ranking, corpus.qrels, [_MEASURE])
            figures.rows += split_figures(_SET, name, table, asked)
    found = figures.value(_SET, "hybrid, in gold steps", _MEASURE)
    figures.bars.append(Bar("MuSiQue R@5, gold steps and bridge answers", found, 0.75, ">="))


def filled_steps(question: Question, answers: Mapping[int, str]) -> tuple[str, ...]:
    """The steps of a question with the gold answers of the ones before filled in."""
    return tuple(filled(part.text, answers) for part in question.parts)


def _answers(path: Path) -> dict[str, dict[int, str]]:
    """Question id → number of the step → its gold answer; of the questions that have steps."""
    return {
        str(row["qid"]): {
            number: str(step["answer"]) for number, step in enumerate(row["decomposition"], start=1)
        }
        for row in _rows(path)
        if row["decomposition"]
    }


def _rows(path: Path) -> Iterable[Mapping[str, list[Mapping[str, object]]]]:
    for item in read_json_lines(path):
        if not isinstance(item, Rejection):
            yield item[1]
