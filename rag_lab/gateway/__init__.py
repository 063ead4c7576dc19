"""The one way to a model: what has been paid for once is kept."""

from rag_lab.gateway.cache import VectorCache

__all__ = ["VectorCache"]
