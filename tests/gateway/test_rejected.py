"""Refused batches: the one at fault is found with few calls, the others come through."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import httpx
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_lab.errors import ModelError
from rag_lab.gateway.rejected import bisect_rejected, verdict_of
from rag_lab.gateway.reply import ReplyDimensionError, UnsendableTextError


class RefusedError(openai.APIStatusError):
    def __init__(self, status: int, param: str | None = None, code: str | None = None) -> None:
        response = httpx.Response(status, request=httpx.Request("POST", "http://localhost"))
        super().__init__(f"HTTP {status}", response=response, body={"param": param, "code": code})


class Provider:
    """Refuses batches with a poisoned item (400), or of more than `most` items (413)."""

    def __init__(self, poison: set[int], most: int = 10_000, wrong: bool = False) -> None:
        self.poison, self.most, self.wrong = poison, most, wrong
        self.calls: list[list[int]] = []
        self.accepted: list[int] = []

    async def __call__(self, items: list[int]) -> Sequence[str | Exception]:
        self.calls.append(items)
        await asyncio.sleep(0)
        if len(items) > self.most:
            raise RefusedError(413)
        if self.wrong or self.poison.intersection(items):
            raise RefusedError(400)
        self.accepted += items
        return [f"r{item}" for item in items]


def ask(provider: Provider, count: int, probe: int | None = None) -> list[str | Exception]:
    return asyncio.run(bisect_rejected(provider, range(count), probe=probe))


def test_what_is_accepted_is_one_call() -> None:
    provider = Provider(set())
    assert ask(provider, 5) == ["r0", "r1", "r2", "r3", "r4"]
    assert len(provider.calls) == 1
    assert ask(provider, 0) == []
    assert len(provider.calls) == 1


def test_one_of_four_by_hand() -> None:
    provider = Provider({2})
    found = ask(provider, 4)
    assert [str(outcome) for outcome in found] == ["r0", "r1", "HTTP 400", "r3"]
    # The second half holds the poison once the first has passed: it is not asked as a whole.
    assert provider.calls == [[0, 1, 2, 3], [0, 1], [2], [3]]


@pytest.mark.parametrize("at", [0, 1, 45, 46, 91])
def test_one_of_92_takes_few_calls(at: int) -> None:
    provider = Provider({at})
    found = ask(provider, 92)
    assert [place for place, item in enumerate(found) if isinstance(item, Exception)] == [at]
    assert len(provider.calls) <= 2 * 7 + 1
    assert len(provider.accepted) == len(set(provider.accepted)) == 91


def test_too_large_is_split_in_halves() -> None:
    provider = Provider(set(), most=25)
    assert ask(provider, 92) == [f"r{place}" for place in range(92)]
    assert sorted(len(call) for call in provider.calls) == [23, 23, 23, 23, 46, 46, 92]


def test_a_wrong_request_is_known_by_the_probe() -> None:
    provider = Provider(set(), wrong=True)
    with pytest.raises(RefusedError, match="HTTP 400"):
        ask(provider, 92, probe=-1)
    assert len(provider.calls) == 3


def test_a_probe_that_passes_lets_the_search_go_on() -> None:
    provider = Provider({0, 1, 2, 3})
    found = ask(provider, 4, probe=-1)
    assert all(isinstance(outcome, RefusedError) for outcome in found)
    assert provider.calls.count([-1]) == 1


def test_another_failure_at_first_is_raised_and_later_stands_in_place() -> None:
    calls = 0

    async def failing_later(items: list[int]) -> list[str | Exception]:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise RefusedError(400)
        if calls == 2:
            return [f"r{item}" for item in items]
        raise RefusedError(503)

    async def failing(items: list[int]) -> list[str | Exception]:
        raise RefusedError(503)

    with pytest.raises(RefusedError, match="503"):
        asyncio.run(bisect_rejected(failing, range(4)))
    found = asyncio.run(bisect_rejected(failing_later, range(4)))
    assert [str(outcome) for outcome in found] == ["r0", "r1", "HTTP 503", "HTTP 503"]


def test_a_wrong_number_of_results_is_an_error() -> None:
    async def short(items: list[int]) -> list[str | Exception]:
        return ["one"]

    with pytest.raises(ModelError, match="asked for 3 results, got 1"):
        asyncio.run(bisect_rejected(short, range(3)))


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (RefusedError(400), "rejected"),
        (RefusedError(422), "rejected"),
        (RefusedError(400, param="input"), "rejected"),
        (RefusedError(413), "too large"),
        (RefusedError(400, code="context_length_exceeded"), "too large"),
        (RefusedError(400, param="dimensions"), "other"),
        (RefusedError(401), "other"),
        (RefusedError(405), "other"),
        (ReplyDimensionError(), "other"),
        (RefusedError(429), "other"),
        (RefusedError(500), "other"),
        (UnsendableTextError([1]), "rejected"),
        (OSError(), "other"),
    ],
    ids=str,
)
def test_verdicts(error: Exception, verdict: str) -> None:
    assert verdict_of(error) == verdict


@given(st.integers(1, 120), st.sets(st.integers(0, 119), max_size=6), st.integers(1, 120))
def test_exactly_the_poisoned_are_refused(count: int, poison: set[int], most: int) -> None:
    provider = Provider(poison, most)
    found = ask(provider, count)
    for place, outcome in enumerate(found):
        if place in poison:
            assert isinstance(outcome, RefusedError)
        else:
            assert outcome == f"r{place}"
    assert sorted(provider.accepted) == [place for place in range(count) if place not in poison]
    bad = len(poison & {*range(count)})
    assert len(provider.calls) <= 2 * (count // most + 1) * 2 + bad * 2 * count.bit_length() + 1
