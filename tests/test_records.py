"""What passes between stages: adding up, telling apart, staying as it is."""

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_lab.records import Answer, Part, PartOutcome, Passage, Question, Timing, Usage

_COUNTS = st.integers(0, 10**6)
_USAGE = st.builds(
    Usage,
    calls=_COUNTS,
    texts=_COUNTS,
    prompt_tokens=_COUNTS,
    completion_tokens=_COUNTS,
    cache_hits=_COUNTS,
    cost_usd=st.one_of(st.none(), st.integers(0, 100).map(float)),
)


# sha256("an-001") begins with 0x85 (odd), sha256("lw-001") with 0xd4, sha256("q2") with 0xbe.
@pytest.mark.parametrize(
    ("question_id", "half"), [("an-001", "held_out"), ("lw-001", "dev"), ("q2", "dev")]
)
def test_the_half_of_a_question_is_fixed_by_its_id(question_id: str, half: str) -> None:
    assert Question(question_id, "?").split == half
    assert Question(question_id, "Another text?", kind="alias").split == half


def test_the_halves_are_about_equal() -> None:
    dev = sum(Question(f"q{n}", "?").split == "dev" for n in range(1000))
    assert 450 <= dev <= 550


def test_a_question_with_gold_documents_or_groups_is_answerable() -> None:
    assert Question("q", "?", relevant_ids=("a",)).answerable
    assert Question("q", "?", relevant_groups=("uu-2007-40",)).answerable
    assert not Question("q", "?", parts=(Part("?"),)).answerable


def test_usage_adds_up_by_hand() -> None:
    one = Usage(calls=1, texts=2, prompt_tokens=30, cost_usd=0.25)
    other = Usage(calls=2, completion_tokens=7, cache_hits=4)
    assert one + other == Usage(3, 2, 30, 7, cache_hits=4, cost_usd=0.25)
    more = Usage(calls=1, retries=2, hedges=1) + Usage(retries=1)
    assert (more.calls, more.retries, more.hedges) == (1, 3, 1)
    assert (other + other).cost_usd is None
    assert (one + one).cost_usd == 0.5


@given(_USAGE, _USAGE, _USAGE)
def test_usage_adds_in_any_order(a: Usage, b: Usage, c: Usage) -> None:
    assert a + b == b + a
    assert (a + b) + c == a + (b + c)
    assert a + Usage() == a


def test_the_ledger_counts_the_parts_and_names_the_others() -> None:
    parts = (
        PartOutcome(Part("a?"), "answered"),
        PartOutcome(Part("b?"), "failed", "not done within 5 s"),
        PartOutcome(Part("c?"), "skipped", "part 1 had brought no new document"),
    )
    answer = Answer("?", "Yes.", "extractive", parts=parts)
    assert answer.answered_parts == 1
    assert answer.ledger == (
        "1 of 3 parts answered; part 2 failed: not done within 5 s; "
        "part 3 skipped: part 1 had brought no new document"
    )
    assert Answer("?", "Yes.", "extractive").ledger == ""


def test_records_are_frozen() -> None:
    for record in (Question("q", "?"), Usage(), Timing(), Part("?"), Answer("?", "", "refused")):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(record, dataclasses.fields(record)[0].name, "x")


def test_an_answer_is_plain_data_for_json() -> None:
    passage = Passage("a#0", "a", "Text.", 1.5, "shelf", {"dense": 0.5})
    part = PartOutcome(Part("?", ("a",)), "failed", "timeout", timing=Timing(0.5, {"ask": 0.5}))
    answer = Answer("?", "", "refused", (passage,), reason="no support", parts=(part,))
    assert answer.refused
    assert not Answer("?", "Yes.", "extractive").refused
    data = json.loads(json.dumps(answer.to_dict()))
    assert data["passages"][0]["scores"] == {"dense": 0.5}
    assert data["parts"][0]["outcome"] == "failed"
    assert data["usage"]["cost_usd"] is None
