"""What templates make: a question without an id, and what it was made with."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256

from rag_lab.records import Question


@dataclass(frozen=True, slots=True)
class Draft:
    """A question made by a template, before the draw.

    Attributes:
        question: its `kind` is the candidate's.
        template: by name.
        made_from: documents beyond the gold ones.
    """

    question: Question
    template: str
    made_from: tuple[str, ...] = ()


def drawn_by(seed: int, *about: str) -> int:
    """A number that is the same for the same seed and words, and otherwise as good as random."""
    return int.from_bytes(sha256("\n".join([str(seed), *about]).encode()).digest()[:8])
