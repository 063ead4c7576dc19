"""What the project promises of a measured value, and whether it holds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True, slots=True)
class Bar:
    """What must hold, and whether it does."""

    what: str
    value: float
    bound: float
    sense: Literal[">=", "<="]

    @property
    def holds(self) -> bool:
        """Whether the value is on the right side."""
        return self.value >= self.bound if self.sense == ">=" else self.value <= self.bound


def bars_table(bars: Iterable[Bar]) -> Table:
    """Bars for a terminal."""
    from rich.table import Table

    drawn = Table("must hold", "value", "bar", "")
    for bar in bars:
        state = "holds" if bar.holds else "MISSED"
        drawn.add_row(bar.what, f"{bar.value:.4g}", f"{bar.sense} {bar.bound:g}", state)
    return drawn
