"""How good is it: ranking measures, and systems compared on them."""

from rag_lab.evaluation.compare import Comparison, compare
from rag_lab.evaluation.ranking import (
    MeasureTable,
    Ranking,
    in_split,
    rank_questions,
    score_ranking,
)

__all__ = [
    "Comparison",
    "MeasureTable",
    "Ranking",
    "compare",
    "in_split",
    "rank_questions",
    "score_ranking",
]
