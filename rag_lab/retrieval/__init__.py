"""Finding passages: dense, keyword, and both."""

from rag_lab.retrieval.hybrid import (
    DenseRetriever,
    HybridRetriever,
    KeywordRetriever,
    SnapshotRetriever,
)

__all__ = ["DenseRetriever", "HybridRetriever", "KeywordRetriever", "SnapshotRetriever"]
