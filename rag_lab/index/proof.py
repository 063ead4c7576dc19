"""The proof of a finished index: counts, lengths, and vectors that find themselves."""

from __future__ import annotations

import numpy as np

from rag_lab.index.keyword import KeywordIndex
from rag_lab.index.nodes import NodeStore
from rag_lab.index.report import FailedNode
from rag_lab.index.vectors import FaissVectors

_SELF_CHECKS = 32


def prove(
    nodes: NodeStore, vectors: np.ndarray, built: FaissVectors, keyword: KeywordIndex
) -> tuple[tuple[str, ...], tuple[FailedNode, ...]]:
    """What is wrong with the finished index, and which nodes cannot be found by meaning."""
    problems = []
    if not len(nodes) == len(built) == len(keyword):
        problems.append(
            f"{len(nodes)} nodes, {len(built)} vectors, {len(keyword)} keyword entries: not equal"
        )
    lengths = np.linalg.norm(vectors, axis=1)
    if not np.isfinite(lengths).all():
        problems.append(f"{int((~np.isfinite(lengths)).sum())} vectors are not finite")
    zero = np.flatnonzero(lengths == 0)
    wrong = int((np.abs(lengths[lengths > 0] - 1) > 1e-3).sum())
    if wrong:
        problems.append(f"{wrong} vectors are not of unit length")
    problems += _misplaced(vectors, built, lengths)
    reason = "zero vector: the embedder knows none of its words (keyword search finds it)"
    return tuple(problems), tuple(FailedNode(nodes[int(place)].id, reason) for place in zero)


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
