"""The proof of a finished index: counts, lengths, and vectors that find themselves."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from rag_lab.index.keyword import KeywordIndex
from rag_lab.index.vectors import FaissVectors

_SELF_CHECKS = 32


def prove(
    vectors: np.ndarray, failed: Collection[int], built: FaissVectors, keyword: KeywordIndex
) -> tuple[str, ...]:
    """What is wrong with the finished index.

    Args:
        vectors: a row a node; zero for the failed ones.
        failed: places of the nodes that got no vector.
        built: holds the vectors.
        keyword: holds every node.
    """
    problems = []
    nodes = len(vectors)
    if not nodes == len(built) + len(failed) == len(keyword):
        without = f" and {len(failed)} nodes without one" if failed else ""
        problems.append(
            f"{nodes} nodes, {len(built)} vectors{without}, {len(keyword)} keyword entries: "
            "not equal"
        )
    lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
    problems += _unusual(lengths, failed)
    problems += _misplaced(vectors, built, lengths)
    return tuple(problems)


def _unusual(lengths: np.ndarray, failed: Collection[int]) -> list[str]:
    """Vectors that are not finite, not of unit length, or missing and not known to be."""
    infinite = int((~np.isfinite(lengths)).sum())
    zero = set(np.flatnonzero(lengths == 0).tolist()) - set(failed)
    wrong = int((np.abs(lengths[np.isfinite(lengths) & (lengths > 0)] - 1) > 1e-3).sum())
    counts = {"not finite": infinite, "zero": len(zero), "not of unit length": wrong}
    return [f"{count} vectors are {what}" for what, count in counts.items() if count]


def _misplaced(vectors: np.ndarray, built: FaissVectors, lengths: np.ndarray) -> list[str]:
    """Searches some vectors for themselves: each must come back as similar as it can be."""
    usable = np.flatnonzero(lengths > 0)
    places = usable[:: max(1, len(usable) // _SELF_CHECKS)][:_SELF_CHECKS]
    if not len(places):
        return ["no vector is usable"]
    found = built.search(np.asarray(vectors[places]), 1)
    # Equal texts have equal vectors, so another place is right if its vector is the same.
    lost = sum(
        not hits or float(vectors[hits[0][0]] @ vectors[place]) < 0.999 or hits[0][1] < 0.99
        for place, hits in zip(places, found, strict=True)
    )
    return [f"{lost} of {len(places)} vectors were not found by themselves"] if lost else []
