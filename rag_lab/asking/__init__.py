"""Asking questions of an index."""

from rag_lab.asking.answer import ExtractiveAnswerer, GeneratedAnswerer
from rag_lab.asking.cited import CitedAnswerer
from rag_lab.asking.decompose import LLMDecomposer, RuleDecomposer
from rag_lab.asking.engine import LabQueryEngine
from rag_lab.asking.parts import PartLimits, PartsRetriever

__all__ = [
    "CitedAnswerer",
    "ExtractiveAnswerer",
    "GeneratedAnswerer",
    "LLMDecomposer",
    "LabQueryEngine",
    "PartLimits",
    "PartsRetriever",
    "RuleDecomposer",
]
