"""A batch that a provider will not take: find what it minds, let the rest through."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, Literal, TypeVar

import openai

from rag_lab.errors import ModelError
from rag_lab.gateway.budget import BudgetError
from rag_lab.gateway.outcomes import Outcome, classify
from rag_lab.gateway.reply import ReplyCountError, UnsendableTextError

T = TypeVar("T")
R = TypeVar("R")
Verdict = Literal["rejected", "too large", "other"]

_REQUEST_PARAMETERS = ("model", "dimensions", "encoding_format", "user", "service_tier")


def verdict_of(error: Exception) -> Verdict:
    """Whether a smaller or cleaner batch would have been taken.

    A 400 that names a parameter of the request is "other": no text is to blame. Where the number
    of vectors is wrong each time, the server leaves a text out (an empty one, say).
    """
    if isinstance(error, UnsendableTextError | ReplyCountError):
        return "rejected"
    if isinstance(error, BudgetError):
        return "too large"
    outcome = classify(error)
    if outcome is Outcome.TOO_LARGE:
        return "too large"
    if outcome is not Outcome.REJECTED_INPUT or not isinstance(error, openai.APIStatusError):
        return "other"
    blamed = error.status_code in (400, 422) and error.param not in _REQUEST_PARAMETERS
    return "rejected" if blamed else "other"


async def bisect_rejected(
    call: Callable[[list[T]], Awaitable[Sequence[R | Exception]]],
    items: Sequence[T],
    *,
    verdict: Callable[[Exception], Verdict] = verdict_of,
    probe: T | None = None,
    known: Exception | None = None,
) -> list[R | Exception]:
    """The result of each item, in order, with an exception in place of each refused one.

    Calls follow one another, so no more are under way than the one it stands for. One rejected
    item among n takes about log2(n) + 2 calls: where the first half passes, the second holds it
    and is not asked as a whole. An item is refused only by a call with that item alone.

    Args:
        call: asks for some items; raises when the batch is not taken.
        items: what to ask for.
        verdict: what an error says about the batch.
        probe: an item that no provider refuses. If given, it is asked once when nothing has
            passed after two refusals, so that a wrong request costs three calls and not 2n.
        known: why these items were not taken as a whole, if that is known: they are not asked so
            again.

    Raises:
        Exception: the first call failed for another reason, or the request itself is refused.
            Later failures stand in place of their items: what was paid for is kept.
    """
    if not items:
        return []
    return await _Bisection(call, items, verdict, probe).run(known)


class _Bisection(Generic[T, R]):
    def __init__(
        self,
        call: Callable[[list[T]], Awaitable[Sequence[R | Exception]]],
        items: Sequence[T],
        verdict: Callable[[Exception], Verdict],
        probe: T | None,
    ) -> None:
        self.call = call
        self.items = items
        self.verdict = verdict
        self.probe = probe
        self.outcomes: dict[int, R | Exception] = {}
        self.refusals = 0
        self.accepted = False

    async def run(self, known: Exception | None) -> list[R | Exception]:
        await self.ask(range(len(self.items)), known)
        return [self.outcomes[place] for place in range(len(self.items))]

    async def ask(self, places: range, known: Exception | None = None) -> bool:
        """Settles these items; True if any was refused. `known`: they hold a rejected one."""
        error = known if known is not None and len(places) > 1 else await self.attempt(places)
        if error is None:
            return False
        kind = self.verdict(error)
        if len(places) == 1 or kind == "other":
            self.outcomes.update(dict.fromkeys(places, error))
            return True
        middle = (len(places) + 1) // 2
        left_refused = await self.ask(places[:middle])
        # Only a rejected text is blamed on one half; what is too large may fit once it is split.
        blamed = error if kind == "rejected" and not left_refused else None
        await self.ask(places[middle:], blamed)
        return True

    async def attempt(self, places: range) -> Exception | None:
        """Asks; keeps the results, or returns why there are none."""
        first = not self.refusals and not self.accepted
        try:
            found = await self.call([self.items[place] for place in places])
            if len(found) != len(places):
                raise ModelError(f"asked for {len(places)} results, got {len(found)}.")
        except Exception as error:
            if first and self.verdict(error) == "other":
                raise
            self.refusals += 1
            if self.refusals == 2 and await self.all_is_refused():
                raise
            return error
        self.outcomes.update(zip(places, found, strict=True))
        self.accepted = True
        return None

    async def all_is_refused(self) -> bool:
        """Whether not even the probe passes, so that no item is to blame."""
        if self.accepted or self.probe is None:
            return False
        try:
            await self.call([self.probe])
        except Exception as error:
            return self.verdict(error) != "other"
        self.accepted = True
        return False
