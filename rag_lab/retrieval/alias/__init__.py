"""Shows by any of their names, said anywhere in a question."""

from rag_lab.retrieval.alias.index import AliasHit, AliasIndex

__all__ = ["AliasHit", "AliasIndex"]
