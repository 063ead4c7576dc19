"""What hedging cost and brought, as a reader sees it."""

from __future__ import annotations

from typing import Any

import pytest

from rag_lab.gateway.receipt import Answered, HedgeReceipt


def alone(*seconds: float) -> list[Answered]:
    return [Answered(took, took, False) for took in seconds]


def test_a_receipt_of_nothing() -> None:
    receipt = HedgeReceipt.of(0, 0, 0, [])
    assert (receipt.p99_s, receipt.p99_without_s, receipt.extra_share) == (None, None, 0)
    assert str(receipt) == "no hedges in 0 calls"


def test_what_hedging_brought_is_measured_while_no_request_was_cancelled() -> None:
    receipt = HedgeReceipt.of(21, 1, 0, alone(*[1.0] * 20, 1.2))
    assert receipt.p99_s == receipt.p99_without_s == 1.2
    assert str(receipt) == "0 ms p99 for +4.8 % calls; 0 of 1 hedges won"


def test_a_cancelled_request_counts_as_one_of_those_that_reached_as_much() -> None:
    answered = [*alone(*[1.0] * 95, *[8.0] * 4), Answered(1.5, 1.5, True)]
    receipt = HedgeReceipt.of(100, 1, 1, answered)
    assert (receipt.p99_s, receipt.p99_without_s, receipt.basis) == (8.0, 8.0, "estimated")


def test_the_gain_is_a_lower_bound_where_no_straggler_was_seen_to_end() -> None:
    answered = [*alone(*[1.0] * 150), Answered(6.1, 6.0, True), Answered(1.5, 1.5, True)]
    receipt = HedgeReceipt.of(152, 2, 2, answered)
    assert (receipt.p99_s, receipt.p99_without_s, receipt.basis) == (1.5, 6.0, "at least")


@pytest.mark.parametrize(
    ("basis", "expected"),
    [
        ("measured", "−310 ms p99 for +1.8 % calls; 4 of 5 hedges won"),
        ("estimated", "−310 ms p99 (estimated) for +1.8 % calls; 4 of 5 hedges won"),
        ("at least", "−310 ms p99 (at least) for +1.8 % calls; 4 of 5 hedges won"),
    ],
)
def test_a_receipt_reads_as_a_sentence(basis: Any, expected: str) -> None:
    assert str(HedgeReceipt(280, 5, 4, 0.5, 0.81, basis)) == expected


def test_a_receipt_if_all_failed() -> None:
    told = str(HedgeReceipt(10, 1, 0, None, None, "measured"))
    assert told == "no call succeeded for +10.0 % calls; 0 of 1 hedges won"
