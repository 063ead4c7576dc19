"""How good is it: ranking measures."""

from rag_lab.evaluation.ranking import (
    MeasureTable,
    Ranking,
    in_split,
    rank_questions,
    score_ranking,
)

__all__ = ["MeasureTable", "Ranking", "in_split", "rank_questions", "score_ranking"]
