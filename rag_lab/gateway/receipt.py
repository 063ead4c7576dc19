"""What hedging cost and brought."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from rag_lab.gateway.lateness import survival_quantile


class Answered(NamedTuple):
    """A call that succeeded."""

    seconds: float
    """From the first request to the answer."""
    alone_s: float
    """What the first request took, or had taken when it was cancelled."""
    cut: bool
    """Whether it was cancelled, for its hedge had answered."""


@dataclass(frozen=True, slots=True)
class HedgeReceipt:
    """What hedging cost and brought. Percentiles are of the latest calls that succeeded.

    Attributes:
        calls: made, without hedges.
        hedges: second requests that went out.
        won: hedges that answered first.
        p99_s: from the first request to the answer; None before any call succeeded.
        p99_without_s: of the first requests, had nothing been hedged. How much longer a cancelled
            one would have taken is unknown; it counts as one that would have gone on like all
            that took at least as long as it had (Kaplan-Meier).
        basis: "measured" if no first request was cancelled, else "estimated"; "at least" if
            even the slowest that was seen does not reach the percentile.
    """

    calls: int
    hedges: int
    won: int
    p99_s: float | None
    p99_without_s: float | None
    basis: Literal["measured", "estimated", "at least"]

    @classmethod
    def of(cls, calls: int, hedges: int, won: int, answered: Sequence[Answered]) -> HedgeReceipt:
        """The receipt of so many calls, with the percentiles of those given."""
        ended = sorted(call.alone_s for call in answered if not call.cut)
        cut = sorted(call.alone_s for call in answered if call.cut)
        p99 = survival_quantile(sorted(call.seconds for call in answered), (), 0.99)
        without = survival_quantile(ended, cut, 0.99)
        if not cut:
            return cls(calls, hedges, won, p99, without, "measured")
        if without is None:
            return cls(calls, hedges, won, p99, max([*ended, *cut]), "at least")
        return cls(calls, hedges, won, p99, without, "estimated")

    @property
    def extra_share(self) -> float:
        """Hedges for each call."""
        return self.hedges / self.calls if self.calls else 0.0

    def __str__(self) -> str:
        if not self.hedges:
            return f"no hedges in {self.calls:,} calls"
        brought = "no call succeeded"
        if self.p99_s is not None and self.p99_without_s is not None:
            note = "" if self.basis == "measured" else f" ({self.basis})"
            brought = f"{_signed_ms(self.p99_s - self.p99_without_s)} p99{note}"
        cost = f"+{self.extra_share:.1%}".replace("%", " %")
        return f"{brought} for {cost} calls; {self.won} of {self.hedges} hedges won"


def _signed_ms(seconds: float) -> str:
    """ "−310 ms"; a change too small to show has no sign."""
    ms = f"{abs(seconds) * 1000:,.0f}"
    return f"{'' if ms == '0' else '−' if seconds < 0 else '+'}{ms} ms"
