"""Articles of law by citation, laws by name."""

from rag_lab.retrieval.citation.parse import Citation
from rag_lab.retrieval.citation.statutes import Resolved, Statutes

__all__ = ["Citation", "Resolved", "Statutes"]
