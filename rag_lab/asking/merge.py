"""Merging what the parts of a question found, so that each part's evidence is represented.

Parts are numbered from 1, as "#1" in the text of a later part names the first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from itertools import chain, zip_longest
from typing import TYPE_CHECKING, TypeVar

from rag_lab.asking.passages import FOUND_BY
from rag_lab.records import Answer, PartOutcome, Passage

if TYPE_CHECKING:
    from llama_index.core.schema import NodeWithScore

K = TypeVar("K", bound=Hashable)


def interleave(rankings: Sequence[Sequence[K]]) -> list[tuple[K, tuple[int, ...]]]:
    """Merges rankings by turns: each gives its best key that none has given yet.

    So the best keys of n rankings are all among the first n of the result. This is the draft of
    Radlinski, Kurup and Joachims, "How Does Clickthrough Data Reflect Retrieval Quality?", CIKM
    2008, without the coin: the rankings keep their order. Adding up reciprocal ranks (`fuse_ranks`)
    does worse here: it prefers what every part finds somewhere to what one part finds first. The
    ranking of the whole question as one more, or mixed into each, brings nothing either.

    Args:
        rankings: lists of keys, best first.

    Returns:
        Pairs of a key and the numbers, from 1, of the rankings that hold it.
    """
    holders: dict[K, list[int]] = {}
    for number, ranking in enumerate(rankings, start=1):
        for key in dict.fromkeys(ranking):
            holders.setdefault(key, []).append(number)
    taken: dict[K, tuple[int, ...]] = {}
    turns = [iter(ranking) for ranking in rankings]
    while len(taken) < len(holders):
        for turn in turns:
            for key in turn:
                if key not in taken:
                    taken[key] = tuple(holders[key])
                    break
    return list(taken.items())


def brought_alone(rankings: Sequence[Sequence[K]]) -> list[tuple[K, ...]]:
    """For each ranking the keys that no other holds, in its order."""
    count = Counter(chain.from_iterable(dict.fromkeys(ranking) for ranking in rankings))
    return [tuple(key for key in dict.fromkeys(ranking) if count[key] == 1) for ranking in rankings]


def merge_nodes(found: Sequence[Sequence[NodeWithScore]]) -> list[NodeWithScore]:
    """Interleaves the nodes of the parts; a node that several found comes once.

    It comes as the part that ranks it highest gives it, with the numbers of all that found it in
    `metadata[FOUND_BY]`. Its score is 1 / its place, for the scores of different questions cannot
    be compared; the nodes given are left as they are.
    """
    best: dict[str, NodeWithScore] = {}
    for row in zip_longest(*found):
        for hit in filter(None, row):
            best.setdefault(hit.node.node_id, hit)
    merged = interleave([[hit.node.node_id for hit in hits] for hits in found])
    return [
        _merged(best[node_id], parts, 1 / place)
        for place, (node_id, parts) in enumerate(merged, start=1)
    ]


def _merged(hit: NodeWithScore, parts: tuple[int, ...], score: float) -> NodeWithScore:
    told = {
        "metadata": {**hit.node.metadata, FOUND_BY: list(parts)},
        "excluded_llm_metadata_keys": [*hit.node.excluded_llm_metadata_keys, FOUND_BY],
    }
    return hit.model_copy(update={"node": hit.node.model_copy(update=told), "score": score})


def together(
    question: str,
    outcomes: tuple[PartOutcome, ...],
    answers: Sequence[Answer],
    passages: tuple[Passage, ...],
) -> Answer:
    """The answers of the parts as one: each below its part; one without an answer says why.

    Args:
        question: the whole one.
        outcomes: of every part.
        answers: of the parts that were answered, at least one.
        passages: what all parts found.
    """
    blocks = [
        f"{number}. {each.part.text}\n{each.text or f'({each.outcome}: {each.reason})'}"
        for number, each in enumerate(outcomes, start=1)
    ]
    cited = dict.fromkeys(chain.from_iterable(answer.cited_ids for answer in answers))
    kind = answers[0].kind if len({answer.kind for answer in answers}) == 1 else "generated"
    return Answer(question, "\n\n".join(blocks), kind, passages, tuple(cited), parts=outcomes)
