"""What comes back for some texts: vectors, and a reason for each text that has none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True, slots=True, eq=False)
class Embedded:
    """The vectors of some texts.

    Attributes:
        matrix: float32 of shape (texts, dimensions), unit rows in the order of the texts; the row
            of a failed text is zero. If all failed it may have no columns.
        failed: why a text has no vector, by its place. The others are good.
        calls: requests it took.
    """

    matrix: np.ndarray
    failed: Mapping[int, str] = field(default_factory=dict)
    calls: int = 1

    @classmethod
    def of(cls, rows: Sequence[np.ndarray | str], calls: int) -> Embedded:
        """A row for each text, or the reason why it has none."""
        width = next((len(row) for row in rows if not isinstance(row, str)), 0)
        nothing = np.zeros(width, np.float32)
        vectors = [nothing if isinstance(row, str) else row for row in rows]
        matrix = np.stack(vectors) if vectors else np.zeros((0, 0), np.float32)
        return cls(matrix, {at: row for at, row in enumerate(rows) if isinstance(row, str)}, calls)
