"""Merging what parts found: every part's best is there, nothing twice, reckoned by hand."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from llama_index.core.schema import NodeWithScore, TextNode

from rag_lab.asking.merge import brought_alone, interleave, merge_nodes, together
from rag_lab.asking.passages import FOUND_BY, passages_of
from rag_lab.records import Answer, Part, PartOutcome

_RANKINGS = st.lists(st.lists(st.sampled_from("abcdefgh"), unique=True), max_size=5)


def test_rankings_take_turns() -> None:
    merged = interleave([["a", "b", "c"], ["x", "y"]])
    assert [key for key, _ in merged] == ["a", "x", "b", "y", "c"]
    assert interleave([]) == interleave([[], []]) == []


def test_what_was_given_already_costs_no_turn() -> None:
    # The second ranking's best is given by the first: it gives its next.
    merged = interleave([["a", "b"], ["a", "c", "b"]])
    assert merged == [("a", (1, 2)), ("c", (2,)), ("b", (1, 2))]


@given(_RANKINGS)
def test_the_best_of_each_ranking_is_among_the_first(rankings: list[list[str]]) -> None:
    first = [key for key, _ in interleave(rankings)][: len(rankings)]
    assert {ranking[0] for ranking in rankings if ranking} <= set(first)


@given(_RANKINGS)
def test_every_key_comes_once_with_all_who_hold_it(rankings: list[list[str]]) -> None:
    merged = interleave(rankings)
    assert len(dict(merged)) == len(merged)
    assert dict(merged) == {
        key: tuple(n for n, ranking in enumerate(rankings, 1) if key in ranking)
        for ranking in rankings
        for key in ranking
    }


@given(_RANKINGS)
def test_a_ranking_keeps_its_order_among_what_it_gave_alone(rankings: list[list[str]]) -> None:
    order = [key for key, _ in interleave(rankings)]
    for alone in brought_alone(rankings):
        assert sorted(alone, key=order.index) == list(alone)


def test_what_one_alone_brought() -> None:
    assert brought_alone([["a", "b", "a"], ["b", "c"], []]) == [("a",), ("c",), ()]


def hits(*names: str, score: float = 5.0) -> list[NodeWithScore]:
    return [
        NodeWithScore(node=TextNode(id_=name, text=name, metadata={"by": score}), score=score)
        for name in names
    ]


def test_nodes_are_folded_and_say_who_found_them() -> None:
    given = [hits("a", "b"), hits("b", "c", score=9.0), []]
    merged = merge_nodes(given)
    assert [hit.node.node_id for hit in merged] == ["a", "b", "c"]
    assert [hit.score for hit in merged] == [1, 1 / 2, 1 / 3]
    assert [passage.parts for passage in passages_of(merged)] == [(1,), (1, 2), (2,)]
    # As the part shows it that ranks it first.
    assert merged[1].node.metadata["by"] == 9.0
    assert FOUND_BY in merged[1].node.excluded_llm_metadata_keys


def test_the_nodes_given_are_left_as_they_are() -> None:
    given = hits("a")
    merge_nodes([given, given])
    assert (given[0].score, given[0].node.metadata) == (5.0, {"by": 5.0})
    assert given[0].node.excluded_llm_metadata_keys == []


def test_answers_of_parts_stand_below_their_parts() -> None:
    outcomes = (
        PartOutcome(Part("Who?"), "answered", text="She. [a]"),
        PartOutcome(Part("When?"), "refused", "nothing was retrieved", "Not found."),
        PartOutcome(Part("Why?"), "failed", "not done within 5 s"),
    )
    answers = [Answer("Who?", "She. [a]", "extractive", cited_ids=("a",))]
    passages = passages_of(hits("a"))
    whole = together("Who, when and why?", outcomes, answers, passages)
    assert whole.text.split("\n\n") == [
        "1. Who?\nShe. [a]",
        "2. When?\nNot found.",
        "3. Why?\n(failed: not done within 5 s)",
    ]
    assert (whole.kind, whole.cited_ids, whole.passages) == ("extractive", ("a",), passages)
    assert whole.ledger == (
        "1 of 3 parts answered; part 2 refused: nothing was retrieved; "
        "part 3 failed: not done within 5 s"
    )


def test_a_document_cited_for_two_parts_is_cited_once() -> None:
    outcomes = tuple(PartOutcome(Part(name), "answered", text=name) for name in "pq")
    kinds = ("extractive", "generated")
    answers = [Answer("?", "!", kind, cited_ids=("a",)) for kind in kinds]
    whole = together("?", outcomes, answers, ())
    assert (whole.kind, whole.cited_ids) == ("generated", ("a",))
