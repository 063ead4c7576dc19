"""From documents to something that can be searched."""

from rag_lab.index.ingest import ingest
from rag_lab.index.report import IngestReport, Progress
from rag_lab.index.snapshot import LabIndex, open_index

__all__ = ["IngestReport", "LabIndex", "Progress", "ingest", "open_index"]
