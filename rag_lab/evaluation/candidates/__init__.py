"""Candidates for question sets: generated from a corpus, accepted or rejected by a person."""

from rag_lab.evaluation.candidates.candidate import (
    KINDS,
    Candidate,
    Kind,
    Provenance,
    read_candidates,
    write_candidates,
)
from rag_lab.evaluation.candidates.draw import template_candidates
from rag_lab.evaluation.candidates.review import Review, record_decision, review
from rag_lab.evaluation.candidates.written import Written, written_candidates

__all__ = [
    "KINDS",
    "Candidate",
    "Kind",
    "Provenance",
    "Review",
    "Written",
    "read_candidates",
    "record_decision",
    "review",
    "template_candidates",
    "write_candidates",
    "written_candidates",
]
