"""When a call is late: later than most calls of its kind, set against what its size lets expect."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

BEYOND = 2.0
"""A call hangs if it takes this many times as long as one that is just late."""
WINDOW = 256
"""Ended calls of a kind that others are compared with."""
_FEW = 3  # calls of other size say nothing about what size costs
_REFIT = 16  # the line is fitted anew once one in so many of them is
_STAGGER = 1.25  # a wave is not sent all at once; see `Lateness.judge`


@dataclass(frozen=True, slots=True)
class SizeLine:
    """Seconds to expect of a call by its size: `base_s + per_size_s * max(size, smallest)`."""

    base_s: float
    per_size_s: float
    smallest: float

    def expected_s(self, size: float) -> float:
        """The median of calls of this size."""
        return self.base_s + self.per_size_s * max(size, self.smallest)


def fit_line(samples: Sequence[tuple[float, float]]) -> SizeLine:
    """A line through the medians of the smaller and of the larger calls, split at √(min · max).

    It lies between constant and proportional. Where sizes are too much alike to tell (or of one
    sort there are fewer than three), a smaller call is expected to take as long and a larger one
    in proportion: rather late than hedged in error.

    Args:
        samples: size and seconds of each call, both above 0.
    """
    middle = math.sqrt(min(samples)[0] * max(samples)[0])
    small = [sample for sample in samples if sample[0] <= middle]
    large = [sample for sample in samples if sample[0] > middle]
    if min(len(small), len(large)) >= _FEW:
        (size, seconds), (more, longer) = _centre(small), _centre(large)
        if more >= 2 * size:
            per_size = min(max(0.0, (longer - seconds) / (more - size)), longer / more)
            return SizeLine(longer - per_size * more, per_size, size)
    size, seconds = _centre(samples)
    return SizeLine(0.0, seconds / size, size)


def survival_quantile(
    ended: Sequence[float], open_: Sequence[float], quantile: float
) -> float | None:
    """The time in which this share of calls ends, when some have not ended yet.

    S(t) = Π (1 − 1/nᵢ) over the ended calls i with tᵢ ≤ t, where nᵢ calls took, or have taken so
    far, at least tᵢ; the time is the first with S(t) ≤ 1 − quantile. With none open that is the
    nearest rank. Kaplan and Meier (1958), Nonparametric estimation from incomplete observations.

    Args:
        ended: what calls took, ascending.
        open_: what others have taken so far, ascending.
        quantile: between 0 and 1.

    Returns:
        None if too many are open for it to be known.
    """
    surviving, passed = 1.0, 0
    for number, seconds in enumerate(ended):
        while passed < len(open_) and open_[passed] < seconds:
            passed += 1
        surviving *= 1 - 1 / (len(ended) - number + len(open_) - passed)
        if surviving <= 1 - quantile + 1e-9:
            return seconds
    return None


class Lateness:
    """How long the calls of one kind took, and from when on one of them is late.

    Args:
        quantile: of comparable calls; who takes longer is late.
        min_samples: ended calls before any is late.
    """

    def __init__(self, quantile: float, min_samples: int) -> None:
        self._quantile = quantile
        self._min_samples = min_samples
        self._ended: deque[tuple[float, float]] = deque(maxlen=WINDOW)
        self._fresh = 0  # calls that ended since the line was fitted
        self._line = SizeLine(0.0, 1.0, 1.0)
        self._ratios: list[float] = []  # what ended calls took ÷ what was to be expected
        self._late = self._hangs = math.inf  # ratios likewise

    def learn(self, size: float, seconds: float) -> None:
        """A call took so long, or at least so long if it was cancelled for its hedge.

        Without the cancelled ones each hedge would lower the quantile that leads to the next.
        """
        self._ended.append((size, max(seconds, 1e-9)))
        self._fresh += 1

    def judge(self, under_way: Iterable[tuple[float, float]]) -> None:
        """Finds out what is late, given size and age of the calls under way.

        They count, for of a wave that began together the quick ones are back first; and as a
        little older than they are, or one sent a moment later would not count beside them. The
        oldest is left out: it is the one to be judged by the others.
        """
        if len(self._ended) < self._min_samples:
            return
        if self._fresh * _REFIT >= len(self._ended):
            ended, self._fresh = [*self._ended], 0
            self._line = fit_line(ended)
            self._ratios = sorted(took / self._line.expected_s(size) for size, took in ended)
        open_ = sorted(_STAGGER * age / self._line.expected_s(size) for size, age in under_way)
        found = survival_quantile(self._ratios, open_[:-1], self._quantile)
        self._hangs = BEYOND * (self._ratios[-1] if found is None else found)
        self._late = self._hangs if found is None else found

    def late_after_s(self, size: float, *, hangs: bool = False) -> float:
        """Seconds after which a call of this size is late, or hangs; infinite until known."""
        return (self._hangs if hangs else self._late) * self._line.expected_s(size)


def _centre(samples: Sequence[tuple[float, float]]) -> tuple[float, float]:
    return median(size for size, _ in samples), median(seconds for _, seconds in samples)
