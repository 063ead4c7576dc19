from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_lab.simulate.provider import Call, Plan, Provider, Refusal, tokens_of
from rag_lab.simulate.settings import Fault, SimulatorSettings


def provider(*faults: Fault, **values: Any) -> Provider:
    return Provider(SimulatorSettings.of({"faults": faults, **values}))


def call(*texts: str, endpoint: Any = "embeddings", model: str = "simulated") -> Call:
    return Call(endpoint, model, texts, sum(map(tokens_of, texts)))


def struck(decision: Plan | Refusal) -> list[str]:
    return [fault.name for fault in decision.faults]


LOGNORMAL = {"base_ms": 100, "spread": "lognormal"}


@pytest.mark.parametrize(("text", "tokens"), [("", 1), ("a", 1), ("abcd", 1), ("abcde", 2)])
def test_tokens(text: str, tokens: int) -> None:
    assert tokens_of(text) == tokens


@given(st.randoms(use_true_random=False))
def test_luck_hangs_on_content_not_on_order(chance: random.Random) -> None:
    texts = [f"text {number}" for number in range(20)] * 2
    shuffled = list(texts)
    chance.shuffle(shuffled)

    def luck(order: list[str]) -> dict[str, list[Any]]:
        known = provider(Fault(kind="order", rate=0.3), latency=LOGNORMAL)
        drawn: dict[str, list[Any]] = {text: [] for text in texts}
        for text in order:
            plan = known.decide(call(text), 0)
            assert isinstance(plan, Plan)
            drawn[text].append((plan.factor, struck(plan)))
        return drawn

    assert luck(texts) == luck(shuffled)


def test_a_repeat_and_another_seed_have_other_luck() -> None:
    known, other = provider(latency=LOGNORMAL), provider(latency=LOGNORMAL, seed=1)
    decisions = [p.decide(call("text"), 0) for p in (known, known, other)]
    assert len({plan.factor for plan in decisions if isinstance(plan, Plan)}) == 3


def test_luck_by_number_is_the_same_for_any_content() -> None:
    one, two = (provider(latency=LOGNORMAL, draw_by="ordinal") for _ in range(2))
    factors = [
        [p.decide(call(f"{name} {number}"), 0).factor for number in range(5)]  # type: ignore[union-attr]
        for name, p in (("a", one), ("b", two))
    ]
    assert factors[0] == factors[1]
    assert len(set(factors[0])) == 5


def test_rates_are_kept_and_faults_are_independent() -> None:
    known = provider(Fault(kind="order", rate=0.2), Fault(kind="truncate", rate=0.2))
    drawn = [struck(known.decide(call(str(number)), 0)) for number in range(4_000)]
    for name in ("order", "truncate"):
        assert sum(name in faults for faults in drawn) / 4_000 == pytest.approx(0.2, abs=0.03)
    assert sum(len(faults) == 2 for faults in drawn) / 4_000 == pytest.approx(0.04, abs=0.02)


def test_conditions_of_a_fault() -> None:
    text, chat = call("text"), call("text", endpoint="chat")
    assert struck(provider(Fault(kind="order", endpoint="chat")).decide(text, 0)) == []
    assert struck(provider(Fault(kind="slow", seconds=1, endpoint="chat")).decide(chat, 0))
    window = provider(Fault(kind="order", from_s=2, until_s=3))
    assert [bool(struck(window.decide(text, at))) for at in (1.9, 2, 2.9, 3)] == [0, 1, 1, 0]
    crowd = provider(Fault(kind="slow", seconds=9, above_in_flight=16))
    assert [bool(struck(crowd.decide(text, 0, n))) for n in (1, 16, 17)] == [0, 0, 1]
    twice = provider(Fault(kind="reset", at_most=2))
    assert [bool(struck(twice.decide(text, 0))) for _ in range(3)] == [1, 1, 0]
    poison = provider(Fault(kind="status", status=400, marker="☠"))
    assert isinstance(poison.decide(call("good", "a ☠ b"), 0), Refusal)
    assert isinstance(poison.decide(call("good", "fine"), 0), Plan)


def test_service_time() -> None:
    faults = (
        Fault(kind="stall", seconds=8, marker="stall"),
        Fault(kind="slow", seconds=30, marker="slow"),
    )
    known = provider(*faults, latency={"base_ms": 500, "per_text_ms": 100})

    def service_s(*texts: str) -> float:
        plan = known.decide(call(*texts), 0)
        assert isinstance(plan, Plan)
        return known.service_s(call(*texts), plan)

    assert service_s("a", "b") == pytest.approx(0.7)
    assert service_s("stall") == pytest.approx(8.6)
    assert service_s("slow and stall") == 30


@pytest.mark.parametrize(
    ("values", "asked", "status", "code"),
    [
        ({}, call("text", model="gpt"), 404, "model_not_found"),
        ({"max_texts": 2}, call("a", "b", "c"), 413, "too_many_inputs"),
        ({"max_tokens": 3}, call("abcd" * 4), 413, "max_tokens_per_request"),
        (
            {"max_tokens": 3, "too_large_status": 400},
            call("abcd" * 4),
            400,
            "max_tokens_per_request",
        ),
        ({"max_text_tokens": 3}, call("a", "abcd" * 4), 400, "context_length_exceeded"),
    ],
)
def test_unacceptable(values: dict[str, Any], asked: Call, status: int, code: str) -> None:
    refusal = provider(**values).decide(asked, 0)
    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.code) == (status, code)


def test_keys() -> None:
    assert provider().authorize("") is None
    known = provider(api_key="sk-right")
    assert known.authorize("Bearer sk-right") is None
    refusal = known.authorize("Bearer sk-wrong")
    assert refusal is not None
    assert refusal.status == 401
    assert "sk-" not in refusal.message


def test_a_budget_that_is_used_up_and_one_that_never_suffices() -> None:
    known = provider(tokens_per_minute=60, burst_s=10)
    assert isinstance(known.decide(call("abcd" * 10), 0), Plan)
    refusal = known.decide(call("abcd" * 5), 0)
    assert isinstance(refusal, Refusal)
    assert refusal.headers["retry-after"] == "5"
    assert "try again in 5.000s" in refusal.message
    never = known.decide(call("abcd" * 11), 100)
    assert isinstance(never, Refusal)
    assert "limit 10 tokens, requested 11" in never.message
    assert "retry-after" not in never.headers


def test_a_full_provider_queues_or_rejects() -> None:
    assert isinstance(provider(capacity=1).decide(call("a"), 0, full=True), Plan)
    known = provider(capacity=1, over_capacity="reject", requests_per_minute=60)
    refusal = known.decide(call("a"), 0, full=True)
    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.headers["retry-after"]) == (429, "1")
    assert refusal.headers["x-ratelimit-remaining-requests"] == "60"


def test_states_by_window() -> None:
    known = provider(
        Fault(kind="capacity", amount=4, from_s=10, until_s=20),
        Fault(kind="refuse", from_s=15, until_s=18),
        capacity=16,
    )
    assert [known.capacity(at) for at in (0, 10, 19.9, 20)] == [16, 4, 4, 16]
    assert [known.refusing(at) for at in (14, 15, 18)] == [False, True, False]
    assert known.edges() == [10, 15, 18, 20]


def test_a_change_keeps_what_budgets_hold() -> None:
    known = provider(requests_per_minute=60, burst_s=1)
    known.decide(call("a"), 0)
    known.change(known.settings.changed(capacity=2))
    assert isinstance(known.decide(call("b"), 0), Refusal)
    known.change(known.settings.changed(requests_per_minute=120))
    assert isinstance(known.decide(call("c"), 0), Plan)
