"""What the measurements search in: an index in the cache of the run, and a plain baseline."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from rag_lab.corpora import Corpus
from rag_lab.corpora.analysis import Analyzer
from rag_lab.index import LabIndex, ingest, open_index
from rag_lab.index.keyword import KeywordIndex
from rag_lab.index.nodes import split_document
from rag_lab.settings import load_settings


class PlainBM25:
    """The baseline: stemmed BM25, one entry a document, names and text counted alike."""

    def __init__(self, corpus: Corpus, analyzer: Analyzer | None = None) -> None:
        self._analyzer = analyzer or Analyzer(corpus.language)
        self._ids: list[str] = []
        self._index = KeywordIndex.build(self._tokens(corpus), k1=1.2, b=0.75)

    def _tokens(self, corpus: Corpus) -> Iterable[list[str]]:
        for document in corpus.documents:
            whole = split_document(document, max_chars=sys.maxsize)[0]
            self._ids.append(document.id_)
            yield self._analyzer.tokens(" ".join((*whole.names, whole.context, whole.text)))

    async def rank_documents(self, query: str, k: int | None = None) -> list[tuple[str, float]]:
        """The k best (document id, score), best first; a thousand by default."""
        tokens = self._analyzer.tokens(query)
        hits = await asyncio.to_thread(self._index.search, tokens, k or 1_000)
        return [(self._ids[place], score) for place, score in hits]


async def indexed(corpus: Corpus, cache: Path) -> LabIndex:
    """The index of a corpus, built in this cache if it is not there yet."""
    settings = load_settings(paths={"cache": cache})
    await ingest(corpus, settings=settings)
    return open_index(corpus, settings=settings)


def statute_of(index: LabIndex) -> Callable[[str], str]:
    """Maps a document id of a law corpus to its statute."""
    groups = dict(zip(index.nodes.document_ids, index.column("doc"), strict=True))
    return groups.__getitem__
