"""Combining ranked lists: rank fusion, score fusion and folding of parts to wholes.

Everything here is a pure function of lists and dictionaries. Keys are any hashable identifier.
Results are sorted by score, highest first; equal scores keep the order in which the keys were
first met, reading the input lists one after the other, so a result never depends on hashing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Final, Literal, TypeAlias, TypeVar, get_args

__all__ = ["Normalisation", "fold", "fuse_ranks", "fuse_scores", "normalise_scores"]

Normalisation: TypeAlias = Literal["minmax", "max"]

_NORMALISATIONS: Final = get_args(Normalisation)

K = TypeVar("K", bound=Hashable)
P = TypeVar("P", bound=Hashable)


def fuse_ranks(
    rankings: Sequence[Sequence[K]],
    weights: Sequence[float] | None = None,
    k: int = 60,
) -> list[tuple[K, float]]:
    r"""Fuse rankings by weighted reciprocal rank.

    .. math:: \mathrm{score}(d) = \sum_i \frac{w_i}{k + \mathrm{rank}_i(d)}

    Ranks start at 1; a ranking without ``d`` adds nothing. With all weights 1 this is the formula
    of Cormack, Clarke and Büttcher, "Reciprocal Rank Fusion outperforms Condorcet and individual
    Rank Learning Methods", SIGIR 2009, who use ``k = 60``.

    Args:
        rankings: lists of keys, best first, each key at most once per list.
        weights: one weight per ranking, not negative; ``None`` weighs all alike.
        k: how gently the contribution falls with the rank; at least 0.

    Returns:
        Pairs of key and fused score, best first.

    Raises:
        ValueError: a key occurs twice in a ranking, ``k`` is negative, or the weights are
            negative, not finite or not as many as the rankings.
    """
    if k < 0:
        raise ValueError(f"k must be at least 0, got {k}")
    fused: dict[K, float] = {}
    for ranking, weight in zip(rankings, _checked(weights, len(rankings)), strict=True):
        if len(set(ranking)) < len(ranking):
            _require_distinct(ranking)
        for rank, key in enumerate(ranking, start=1):
            fused[key] = fused.get(key, 0.0) + weight / (k + rank)
    return _best_first(fused)


def fuse_scores(
    scored_lists: Sequence[Sequence[tuple[K, float]]],
    weights: Sequence[float],
    normalise: Normalisation = "max",
) -> list[tuple[K, float]]:
    r"""Fuse scored lists by a convex combination of normalised scores.

    .. math:: \mathrm{score}(d) = \sum_i \frac{w_i}{\sum_j w_j}\, \phi_i(s_i(d))

    A key that a list does not hold gets 0 from it. The normalisation :math:`\phi` is explained
    at :func:`normalise_scores`. Source: Bruch, Gai and Ingber, "An Analysis of Fusion Functions
    for Hybrid Retrieval", ACM TOIS 42(1), 2023; ``"max"`` is their theoretical min-max for
    scores whose lower bound is 0.

    Args:
        scored_lists: pairs of key and score, in any order, each key at most once per list.
        weights: one weight per list, not negative; only their proportions matter.
        normalise: ``"minmax"`` or ``"max"``.

    Returns:
        Pairs of key and fused score in [0, 1], best first.

    Raises:
        ValueError: a key occurs twice in a list, a score is not finite, the normalisation is
            unknown, or the weights are negative, not finite, all zero or not as many as the lists.
    """
    checked = _checked(weights, len(scored_lists))
    total = math.fsum(checked)
    if scored_lists and total == 0:
        raise ValueError(f"weights must not all be 0, got {list(weights)}")
    fused: dict[K, float] = {}
    for scored, weight in zip(scored_lists, checked, strict=True):
        given = dict(scored)
        if len(given) < len(scored):
            _require_distinct([key for key, _ in scored])
        share = weight / total
        values = normalise_scores(list(given.values()), normalise)
        for key, value in zip(given, values, strict=True):
            fused[key] = fused.get(key, 0.0) + share * value
    return _best_first(fused)


def normalise_scores(scores: Sequence[float], normalise: Normalisation = "max") -> list[float]:
    r"""Bring the scores of one list to [0, 1].

    ``"minmax"`` is :math:`(s - \min) / (\max - \min)`, and 1 for all when they are equal.
    ``"max"`` is :math:`\max(s, 0) / \max`, and 0 for all when none is positive; it keeps the
    distance to zero, so the last candidate of a deep list is not worth as little as a stranger.

    Raises:
        ValueError: a score is not finite, or the normalisation is unknown.
    """
    if normalise not in _NORMALISATIONS:
        raise ValueError(f"normalise must be one of {_NORMALISATIONS}, got {normalise!r}")
    if not math.isfinite(sum(scores)):  # also when finite ones add up to more than a float holds
        for score in scores:
            if not math.isfinite(score):
                raise ValueError(f"scores must be finite, got {score}")
    if not scores:
        return []
    high = max(scores)
    if normalise == "max":
        return [score / high if score > 0 else 0.0 for score in scores]
    low = min(scores)
    # Halving first keeps the difference of two very large scores finite.
    span = high / 2 - low / 2
    if span == 0:
        return [1.0] * len(scores)
    return [(score / 2 - low / 2) / span for score in scores]


def fold(ranking: Iterable[tuple[K, float]], key: Callable[[K], P]) -> list[tuple[P, float]]:
    """Fold scored parts to wholes: a whole has the score of its best part.

    Also known as MaxP (Dai and Callan, "Deeper Text Understanding for IR with Contextual Neural
    Language Modeling", SIGIR 2019).

    Args:
        ranking: pairs of part and score, in any order.
        key: gives the whole that a part belongs to.

    Returns:
        Pairs of whole and score, best first.
    """
    best: dict[P, float] = {}
    for part, score in ranking:
        whole = key(part)
        best[whole] = max(score, best.get(whole, -math.inf))
    return _best_first(best)


def _best_first(scores: Mapping[K, float]) -> list[tuple[K, float]]:
    return sorted(scores.items(), key=itemgetter(1), reverse=True)


def _checked(weights: Sequence[float] | None, count: int) -> list[float]:
    if weights is None:
        return [1.0] * count
    if len(weights) != count:
        raise ValueError(f"weights must be as many as the lists ({count}), got {len(weights)}")
    for weight in weights:
        if not (math.isfinite(weight) and weight >= 0):
            raise ValueError(f"weights must be finite and at least 0, got {weight}")
    return list(weights)


def _require_distinct(keys: Sequence[K]) -> None:
    seen: set[K] = set()
    for key in keys:
        if key in seen:
            raise ValueError(f"a list must hold each key once, got {key!r} again")
        seen.add(key)
