"""Systems side by side on the same questions: values, intervals, paired differences."""

from rag_lab.evaluation.compare.comparison import Comparison, Difference
from rag_lab.evaluation.compare.rehearsal import DryRun, dry_run
from rag_lab.evaluation.compare.run import compare
from rag_lab.evaluation.compare.view import View

__all__ = ["Comparison", "Difference", "DryRun", "View", "compare", "dry_run"]
