"""A corpus as nodes: spooled to disk one by one, or only counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from rag_lab.corpora.base import Corpus, ReadCount, write_rejections
from rag_lab.errors import CorpusError, Rejection
from rag_lab.gateway.cache import VectorCache, cache_key
from rag_lab.gateway.plan import plan_batches
from rag_lab.index.backlog import Sizes
from rag_lab.index.failed import FailedTexts
from rag_lab.index.nodes import Node, NodeWriter, split_document
from rag_lab.index.report import FailedNode, IngestReport, Progress
from rag_lab.models import Embedder
from rag_lab.models.local import LSA_CONCURRENCY, LSA_LIMITS

_STEP = 200


class Reading:
    """One pass over the records of a corpus.

    Attributes:
        count: what became of the records so far.
        rejected: those that were not kept.
    """

    def __init__(
        self,
        corpus: Corpus,
        max_node_chars: int,
        progress: Callable[[Progress], None],
        *,
        strict: bool,
    ) -> None:
        self.corpus = corpus
        self.count = ReadCount()
        self.rejected: list[Rejection] = []
        self._max_node_chars = max_node_chars
        self._progress = progress
        self._strict = strict

    def nodes(self) -> Iterator[Node]:
        """The nodes of every record that is kept.

        Raises:
            RecordError: a record was rejected, in strict reading.
        """
        for item in self.corpus.checked_records(strict=self._strict):
            if isinstance(item, Rejection):
                self.count.rejected += 1
                self.rejected.append(item)
                continue
            self.count.kept += 1
            if self.count.kept % _STEP == 0:
                self._progress(Progress("read", self.count.kept))
            yield from split_document(item, self._max_node_chars)
        self._progress(Progress("read", self.count.kept, self.count.kept))

    def spool(self, folder: Path) -> None:
        """Writes nodes and rejections into a folder.

        Raises:
            CorpusError: no record is usable, or two nodes have one id.
        """
        seen: set[str] = set()
        with NodeWriter(folder) as spool:
            for node in self.nodes():
                if node.id in seen:
                    raise CorpusError(
                        f"two nodes are called {node.id!r}: a document's id must not look like "
                        "another's part ('!' separates them)."
                    )
                seen.add(node.id)
                spool.add(node)
        write_rejections(folder / "rejected.jsonl", self.rejected)
        if not self.count.kept:
            first = f" First: {self.rejected[0]}" if self.rejected else ""
            raise CorpusError(f"{self.corpus.name} has no usable document ({self.count}).{first}")

    def count_only(
        self, embedder: Embedder | None, cache: VectorCache | None, failed_texts: FailedTexts | None
    ) -> IngestReport:
        """What an ingestion would do; the nodes pass through without being kept.

        Args:
            embedder: which would be asked; None: the local one, which is not fitted yet.
            cache: where its vectors are; None: nowhere.
            failed_texts: which would not be asked for; None: all would.
        """
        model = (embedder.identity, embedder.dimensions) if embedder else ("", None)
        nodes = 0
        sizes, missing, failed = Sizes(), set[bytes](), list[FailedNode]()
        for place, node in enumerate(self.nodes()):
            nodes += 1
            text = node.embedded_text
            key = cache_key(*model, "document", text)
            reason = failed_texts.reason(key) if failed_texts else None
            if reason is not None:
                failed.append(FailedNode(node.id, reason))
            elif key not in missing and not (cache and cache.get([key])):
                missing.add(key)
                sizes.add(place, text)
        batches = plan_batches(
            sizes.tokens,
            slots=max(1, embedder.concurrency) if embedder else LSA_CONCURRENCY,
            limits=embedder.batch_limits if embedder else LSA_LIMITS,
            size_bytes=sizes.size_bytes,
        )
        return IngestReport(
            corpus=self.corpus.name,
            dry_run=True,
            count=self.count,
            nodes=nodes,
            embedder=embedder.identity if embedder else "local, not fitted yet",
            embedded=len(missing),
            from_cache=nodes - len(missing) - len(failed),
            calls=len(batches),
            estimated_tokens=sum(sizes.tokens),
            failed=tuple(failed),
            rejected=tuple(self.rejected),
        )
