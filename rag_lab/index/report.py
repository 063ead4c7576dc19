"""What an ingestion tells while it runs and when it is done."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from rag_lab.corpora.base import ReadCount
from rag_lab.errors import Rejection
from rag_lab.records import Usage


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an ingestion is: sent to the `progress` callback."""

    stage: str
    done: int
    total: int | None = None
    calls: int = 0


@dataclass(frozen=True, slots=True)
class FailedNode:
    """A node without a vector, and why: keyword search finds it, dense search does not."""

    node_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class IngestReport:
    """What an ingestion did and proved.

    `problems` is empty if every node has a keyword entry, every node but the failed ones has a
    vector, and every vector is finite, of one dimension, of unit length and found under its own id.

    Attributes:
        embedded: texts that the model embedded in this run.
        from_cache: nodes whose vector was known, or is that of an equal text.
        calls: requests for the embeddings.
        failed: nodes without a vector.
        usage: what the run used of remote models.
    """

    corpus: str
    snapshot: str = ""
    folder: str = ""
    up_to_date: bool = False
    dry_run: bool = False
    count: ReadCount = field(default_factory=ReadCount)
    nodes: int = 0
    vectors: int = 0
    keyword_entries: int = 0
    dimensions: int = 0
    embedder: str = ""
    embedded: int = 0
    from_cache: int = 0
    calls: int = 0
    estimated_tokens: int = 0
    notes: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    failed: tuple[FailedNode, ...] = ()
    rejected: tuple[Rejection, ...] = ()
    usage: Usage = field(default_factory=Usage)
    stages_s: dict[str, float] = field(default_factory=dict)
    peak_mib: float | None = None

    @property
    def complete(self) -> bool:
        """Whether everything that was kept is searchable in both ways."""
        return not self.problems and not self.failed

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {**asdict(self), "read": self.count.read, "complete": self.complete}

    def __str__(self) -> str:
        if self.dry_run:
            return (
                f"{self.corpus}: {self.count}; {self.nodes:,} nodes, {self.embedded:,} to embed in "
                f"about {self.calls:,} calls (~{self.estimated_tokens:,} tokens). No call was made."
            )
        state = "unchanged" if self.up_to_date else f"{sum(self.stages_s.values()):.1f} s"
        whole = "complete" if self.complete else "INCOMPLETE"
        failed = f" + {len(self.failed):,} without one" if self.failed else ""
        return (
            f"{self.corpus}: {self.count}; {self.nodes:,} nodes = {self.vectors:,} vectors{failed} "
            f"= {self.keyword_entries:,} keyword entries, {whole} ({state}, snapshot "
            f"{self.snapshot})"
        )
