"""Taking a question apart by rules, in Indonesian and English."""

from rag_lab.asking.rules.split import MOST_CHARS, split_question

__all__ = ["MOST_CHARS", "split_question"]
