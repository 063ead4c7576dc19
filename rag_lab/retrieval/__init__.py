"""Finding passages: dense, keyword, both, and what is named first."""

from rag_lab.retrieval.hybrid import (
    DenseRetriever,
    HybridRetriever,
    KeywordRetriever,
    SnapshotRetriever,
)
from rag_lab.retrieval.named import NamedRetriever

__all__ = [
    "DenseRetriever",
    "HybridRetriever",
    "KeywordRetriever",
    "NamedRetriever",
    "SnapshotRetriever",
]
