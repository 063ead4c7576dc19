"""How good is it: ranking measures, and systems compared on them."""

from rag_lab.evaluation.compare import Comparison, Difference, DryRun, compare, dry_run
from rag_lab.evaluation.ranking import (
    MeasureTable,
    Ranking,
    in_split,
    rank_questions,
    score_ranking,
)

__all__ = [
    "Comparison",
    "Difference",
    "DryRun",
    "MeasureTable",
    "Ranking",
    "compare",
    "dry_run",
    "in_split",
    "rank_questions",
    "score_ranking",
]
