"""The one way to a model: what has been paid for once is kept."""

from rag_lab.gateway.cache import VectorCache
from rag_lab.gateway.embedded import Embedded
from rag_lab.gateway.plan import BatchLimits

__all__ = ["BatchLimits", "Embedded", "VectorCache"]
