"""Asking questions of an index."""

from rag_lab.asking.answer import ExtractiveAnswerer, GeneratedAnswerer
from rag_lab.asking.engine import LabQueryEngine

__all__ = ["ExtractiveAnswerer", "GeneratedAnswerer", "LabQueryEngine"]
