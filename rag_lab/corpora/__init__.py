"""Corpora: reading them, checking them, finding them by name."""

from rag_lab.corpora.base import Corpus, ReadCount, in_memory, qrels_of, questions_on
from rag_lab.corpora.registry import (
    READER_LANGUAGES,
    READERS,
    CorpusEntry,
    add_corpus,
    list_corpora,
    load_corpus,
)

__all__ = [
    "READERS",
    "READER_LANGUAGES",
    "Corpus",
    "CorpusEntry",
    "ReadCount",
    "add_corpus",
    "in_memory",
    "list_corpora",
    "load_corpus",
    "qrels_of",
    "questions_on",
]
