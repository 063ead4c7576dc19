"""Stragglers are asked again, once, late enough and within a budget; nothing is left behind."""

from __future__ import annotations

import asyncio
import gc
import math
import random
import selectors
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import watched
from rag_lab.errors import ProviderError, SettingsError
from rag_lab.gateway.call import EmbeddingCall, Endpoint
from rag_lab.gateway.hedge import Hedger, HedgeSettings
from rag_lab.gateway.reply import EmbeddingReply
from rag_lab.simulate import SimulatorSettings, simulated

NEVER = 1e6


class Skipping(selectors.SelectSelector):
    """Does not wait but sets the clock on."""

    now = 0.0

    def select(self, timeout: float | None = None) -> Any:
        assert timeout is not None, "everybody waits for nothing"
        self.now += max(timeout, 0.0)
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop in which waiting takes no time."""

    def __init__(self) -> None:
        self.clock = Skipping()
        super().__init__(self.clock)

    def time(self) -> float:
        return self.clock.now


def now() -> float:
    return asyncio.get_running_loop().time()


run = partial(watched.run, loop_factory=VirtualLoop)


class Request:
    """One request: ends after so many seconds, or fails then."""

    def __init__(self, seconds: float, error: Exception | None = None) -> None:
        self.seconds, self.error = seconds, error
        self.began: float | None = None
        self.cancelled: float | None = None

    async def __call__(self, sent: Callable[[], None] = lambda: None) -> Request:
        sent()
        self.began = now()
        try:
            await asyncio.sleep(self.seconds)
        except asyncio.CancelledError:
            self.cancelled = now()
            raise
        if self.error is not None:
            raise self.error
        return self


def ask(
    hedger: Hedger,
    first: Request,
    second: Request | None = None,
    *,
    size: float = 1.0,
    may_hedge: Callable[[], bool] = lambda: True,
) -> asyncio.Task[Request]:
    second = second or Request(1.0)
    call = hedger.run(first, second, kind="bulk", size=size, may_hedge=may_hedge)
    return asyncio.ensure_future(call)


async def learned(
    took: Iterable[float] = (1.0,) * 20, settings: HedgeSettings | None = None
) -> Hedger:
    """A hedger that has seen calls of one size, one after the other."""
    hedger = Hedger(settings, clock=now)
    for seconds in took:
        await hedger.run(Request(seconds), Request(0), kind="bulk", may_hedge=lambda: False)
    return hedger


@contextmanager
def no_new_tasks() -> Iterator[None]:
    loop = asyncio.get_running_loop()

    def refuse(*_: Any, **__: Any) -> Any:
        pytest.fail("a task was begun")

    loop.set_task_factory(refuse)
    yield
    loop.set_task_factory(None)


# When the second request goes.


def test_a_late_call_is_made_again_and_the_quicker_wins() -> None:
    async def main() -> None:
        hedger = await learned()
        first, second, start = Request(NEVER), Request(0.3), now()
        assert await ask(hedger, first, second) is second
        assert second.began == pytest.approx(start + 1)
        assert first.cancelled == now() == pytest.approx(start + 1.3)

    run(main)


def test_the_first_may_still_win() -> None:
    async def main() -> None:
        hedger = await learned()
        first, second, start = Request(1.2), Request(NEVER), now()
        assert await ask(hedger, first, second) is first
        assert (second.began, second.cancelled) == pytest.approx((start + 1, start + 1.2))

    run(main)


def test_who_is_not_late_costs_no_task() -> None:
    async def main() -> None:
        hedger = await learned()
        with no_new_tasks():
            for seconds in (0.1, 0.5, 0.99):
                await hedger.run(Request(seconds), Request(0), kind="bulk", may_hedge=lambda: True)

    run(main)


def test_one_of_a_wave_of_sixteen_hangs() -> None:
    async def main() -> None:
        hedger = Hedger(clock=now)
        took = [1 + number / 20 for number in range(15)]
        stalled, hedge = Request(NEVER), Request(1.0)
        sizes = [92.0] * 15 + [78.0]
        wave = [ask(hedger, Request(seconds), size=92) for seconds in took]
        wave.insert(3, ask(hedger, stalled, hedge, size=sizes[-1]))
        await asyncio.gather(*wave)
        assert hedge.began is not None
        assert max(took) <= hedge.began <= 1.15 * max(took)
        assert hedger.receipt().hedges == 1

    run(main)


def test_three_of_a_wave_hang() -> None:
    async def main() -> None:
        hedger = Hedger(HedgeSettings(reserve=3), clock=now)
        wave = [ask(hedger, Request(1 + number / 20)) for number in range(13)]
        wave += [ask(hedger, Request(NEVER), Request(0.5)) for _ in range(3)]
        await asyncio.gather(*wave)
        assert now() < 2 * 1.6 + 0.5 + 0.3
        assert hedger.receipt().hedges == 3

    run(main)


def test_the_slower_half_of_a_wave_is_not_late() -> None:
    async def main() -> None:
        hedger, hedge = Hedger(clock=now), Request(1.0)
        await asyncio.gather(*(ask(hedger, Request(1 + number), hedge) for number in range(16)))
        assert hedger.receipt().hedges == 1  # the last, later than all the others
        assert hedge.began == pytest.approx(15, abs=0.1)

    run(main)


def test_waiting_for_a_slot_is_not_lateness() -> None:
    async def main() -> None:
        hedger = await learned()

        async def queued(sent: Callable[[], None]) -> str:
            await asyncio.sleep(50)
            sent()
            await asyncio.sleep(0.9)
            return "first"

        async def second(_: Callable[[], None]) -> str:
            pytest.fail("hedged")

        assert await hedger.run(queued, second, kind="bulk", may_hedge=lambda: True) == "first"

    run(main)


def test_a_large_call_may_take_longer_and_kinds_do_not_mix() -> None:
    async def main() -> None:
        hedger = await learned()
        await ask(hedger, Request(60), size=92)
        await hedger.run(Request(60), Request(0), kind="chat", may_hedge=lambda: True)
        assert hedger.receipt().hedges == 0

    run(main)


def test_a_small_call_sent_after_a_large_one_is_not_looked_at_too_late() -> None:
    async def main() -> None:
        hedger = await learned([1.0] * 10)
        for _ in range(10):
            await ask(hedger, Request(10.0), size=92, may_hedge=lambda: False)
        large, start = ask(hedger, Request(9.9), size=92), now()
        hedge = Request(0.1)
        await ask(hedger, Request(NEVER), hedge)
        assert hedge.began == pytest.approx(start + 1, rel=0.01)
        await large

    run(main)


def test_it_waits_until_a_hedge_does_no_harm() -> None:
    async def main() -> None:
        hedger = await learned()
        start, hedge = now(), Request(0.1)
        await ask(hedger, Request(NEVER), hedge, may_hedge=lambda: now() > start + 7)
        assert hedge.began == pytest.approx(start + 7, abs=0.06)

    run(main)


def test_one_hedge_at_a_time_so_that_the_next_sees_the_slot_taken() -> None:
    async def main() -> None:
        hedger = await learned([1.0] * 60)
        slots = asyncio.Semaphore(1)

        def request(seconds: float) -> Callable[[Callable[[], None]], Awaitable[None]]:
            async def hedge(sent: Callable[[], None]) -> None:
                assert not slots.locked()
                sent()
                async with slots:
                    await asyncio.sleep(seconds)

            return hedge

        async def hang(sent: Callable[[], None]) -> None:
            sent()
            await asyncio.sleep(NEVER)

        free = [
            hedger.run(hang, request(0.2), kind="bulk", may_hedge=lambda: not slots.locked())
            for _ in range(4)
        ]
        await asyncio.gather(*free)
        assert hedger.receipt().won == 4

    run(main)


def test_it_can_be_switched_off() -> None:
    async def main() -> None:
        hedger = await learned(settings=HedgeSettings(share=0, reserve=0))
        await ask(hedger, Request(90))
        assert str(hedger.receipt()) == "no hedges in 21 calls"

    run(main)


# How the two end.


@pytest.mark.parametrize("error", [OSError("first"), ProviderError("first")])
def test_the_second_decides_if_the_first_fails(error: Exception) -> None:
    async def main() -> None:
        hedger = await learned()
        second = Request(5)
        assert await ask(hedger, Request(1.5, error), second) is second

    run(main)


def test_the_first_goes_on_if_the_second_fails() -> None:
    async def main() -> None:
        hedger = await learned()
        first = Request(5)
        assert await ask(hedger, first, Request(0.5, OSError("second"))) is first
        assert hedger.receipt().hedges == 1  # and no third request

    run(main)


@pytest.mark.parametrize("takes", [0.1, 0.5, 3])
def test_the_error_of_the_first_is_raised_if_both_fail(takes: float) -> None:
    async def main() -> None:
        hedger = await learned()
        with pytest.raises(OSError, match="first"):
            await ask(hedger, Request(1.5, OSError("first")), Request(takes, OSError("second")))

    run(main)


def test_a_hedge_that_never_went_out_is_not_counted() -> None:
    async def main() -> None:
        hedger = await learned()

        async def queued(_: Callable[[], None]) -> Request:
            return await Request(NEVER)()

        await hedger.run(Request(5), queued, kind="bulk", may_hedge=lambda: True)
        assert hedger.receipt().hedges == 0

    run(main)


def test_a_hedge_that_cannot_even_begin_is_a_failed_one() -> None:
    async def main() -> None:
        hedger = await learned()
        first = Request(5)

        def broken(_: Callable[[], None]) -> Awaitable[Request]:
            raise OSError("no request")

        assert await hedger.run(first, broken, kind="bulk", may_hedge=lambda: True) is first

    run(main)


@pytest.mark.parametrize("stubborn", ["fails", "answers", "takes its time"])
@pytest.mark.parametrize("loser", ["first", "second"])
def test_how_the_loser_takes_it_does_not_matter(loser: str, stubborn: str) -> None:
    left: list[str] = []

    async def odd(sent: Callable[[], None] = lambda: None) -> str:
        sent()
        try:
            await asyncio.sleep(NEVER)
        except asyncio.CancelledError:
            left.append(loser)
            if stubborn == "takes its time":
                await asyncio.sleep(0.2)
            if stubborn == "answers":
                return "odd"
            raise OSError("in the middle of leaving") from None
        return "odd"

    async def good(sent: Callable[[], None] = lambda: None) -> str:
        sent()
        await asyncio.sleep(1.5)
        return "good"

    async def main() -> None:
        hedger = await learned()
        pair = (odd, good) if loser == "first" else (good, odd)
        assert await hedger.run(*pair, kind="bulk", may_hedge=lambda: True) == "good"
        assert left == [loser]
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0

    run(main)


@pytest.mark.parametrize("after_s", [0.5, 1.5])
def test_cancelling_cancels_both(after_s: float) -> None:
    async def main() -> None:
        hedger = await learned()
        first, second = Request(NEVER), Request(NEVER)
        call = ask(hedger, first, second)
        await asyncio.sleep(after_s)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert first.cancelled == now()
        assert second.cancelled == (now() if after_s > 1 else None)

    run(main)


def test_cancelling_while_the_second_decides() -> None:
    async def main() -> None:
        hedger = await learned()
        second = Request(NEVER)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(2):
                await hedger.run(
                    Request(1.5, OSError()), second, kind="bulk", may_hedge=lambda: True
                )
        assert second.cancelled == now()

    run(main)


def test_cancelled_twice_it_still_leaves_nothing_behind() -> None:
    async def main() -> None:
        hedger = await learned()

        async def slow_to_leave(_: Callable[[], None]) -> Request:
            try:
                return await Request(NEVER)()
            finally:
                await asyncio.sleep(1)

        call = asyncio.ensure_future(
            hedger.run(Request(NEVER), slow_to_leave, kind="bulk", may_hedge=lambda: True)
        )
        await asyncio.sleep(1.5)
        for _ in range(3):
            call.cancel()
            await asyncio.sleep(0.1)
        start = now()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert now() == pytest.approx(start + 0.7)

    run(main)


def test_cancelled_in_the_very_turn_in_which_the_second_wins() -> None:
    async def main() -> None:
        hedger = await learned()

        async def win(_: Callable[[], None]) -> str:
            await asyncio.sleep(0.5)
            loop = asyncio.get_running_loop()
            loop.call_soon(lambda: loop.call_soon(call.cancel))
            return "won"

        call = asyncio.ensure_future(
            hedger.run(Request(NEVER), win, kind="bulk", may_hedge=lambda: True)
        )
        with pytest.raises(asyncio.CancelledError):
            await call

    run(main)


def test_the_second_and_its_permission_see_the_context_of_their_caller() -> None:
    name: ContextVar[str] = ContextVar("name")
    seen: list[str] = []

    async def main() -> None:
        hedger = await learned()

        async def hang(sent: Callable[[], None]) -> None:
            sent()
            await asyncio.sleep(NEVER)

        async def hedge(_: Callable[[], None]) -> None:
            seen.append(f"second of {name.get()}")

        def may_hedge() -> bool:
            seen.append(f"may {name.get()}")
            return True

        async def asked_by(who: str) -> None:
            name.set(who)
            await hedger.run(hang, hedge, kind="bulk", may_hedge=may_hedge)

        await asyncio.gather(asked_by("a"), asked_by("b"))
        assert sorted(seen) == ["may a", "may b", "second of a", "second of b"]

    run(main)


def test_a_loop_closed_in_mid_hedge_leaves_no_complaint_behind() -> None:
    async def hang(sent: Callable[[], None]) -> None:
        sent()
        await asyncio.Event().wait()

    async def quick(sent: Callable[[], None]) -> None:
        sent()

    async def main() -> None:
        for _ in range(8):
            await hedger.run(quick, quick, kind="bulk", may_hedge=lambda: False)
        call = hedger.run(hang, hang, kind="bulk", may_hedge=lambda: True)
        abandoned.append(asyncio.create_task(call))
        await asyncio.sleep(1)

    abandoned: list[asyncio.Task[None]] = []
    loop = VirtualLoop()
    hedger = Hedger(clock=loop.time)
    loop.set_exception_handler(lambda *_: None)  # it says that tasks were pending, and so it was
    loop.run_until_complete(main())
    assert hedger.receipt().hedges == 1
    loop.close()
    abandoned.clear()
    gc.collect()


def test_a_loop_that_died_in_mid_flight_does_not_matter_to_the_next() -> None:
    hedger = Hedger(HedgeSettings(min_samples=1))

    async def main() -> None:
        async def quick(sent: Callable[[], None]) -> int:
            sent()
            return 1

        async def hang(sent: Callable[[], None]) -> int:
            sent()
            await asyncio.sleep(30)
            return 2

        async def hedge(_: Callable[[], None]) -> int:
            return 3

        assert await hedger.run(quick, hedge, kind="bulk", may_hedge=lambda: False) == 1
        left = hedger.run(hang, hedge, kind="bulk", may_hedge=lambda: False)
        asyncio.create_task(left)  # noqa: RUF006 (left to the loop's end)
        await asyncio.sleep(0.002)
        assert await hedger.run(hang, hedge, kind="bulk", may_hedge=lambda: True) == 3

    asyncio.run(main())
    asyncio.run(main())


async def test_over_http_a_stalled_call_is_dropped_for_its_hedge() -> None:
    stall = {"kind": "stall", "seconds": 60, "marker": "stalls", "at_most": 1}
    latency = {"base_ms": 40, "spread": "uniform"}
    told = SimulatorSettings.of({"dimensions": 8, "latency": latency, "faults": [stall]})
    async with simulated(told) as provider:
        embed = EmbeddingCall(Endpoint("simulated", provider.base_url))
        hedger = Hedger()

        async def ask_for(texts: list[str]) -> EmbeddingReply:
            async def call(sent: Callable[[], None]) -> EmbeddingReply:
                sent()
                return await embed(texts)

            return await hedger.run(
                call, call, kind="bulk", size=len(texts), may_hedge=lambda: True
            )

        wave = [[f"text {number}", "stalls" if number == 5 else "goes"] for number in range(16)]
        replies = await asyncio.gather(*map(ask_for, wave))
        assert all(len(reply.matrix) == 2 for reply in replies)
        assert hedger.receipt().won >= 1
        await embed.aclose()
        for _ in range(500):
            if not (seen := await provider.stats()).in_flight:
                break
            await asyncio.sleep(0.01)
        assert seen.statuses[200] >= 16
        assert 1 <= seen.statuses[499] <= hedger.receipt().hedges


# What it may cost.


def test_an_outage_is_not_made_worse() -> None:
    async def main() -> None:
        hedger = Hedger(clock=now)
        chance = random.Random(0)
        for _ in range(10):
            await asyncio.gather(*(ask(hedger, Request(chance.uniform(1, 2))) for _ in range(40)))
        before = hedger.receipt()

        async def user() -> None:
            for _ in range(8):
                with pytest.raises(TimeoutError):
                    await ask(hedger, Request(60, TimeoutError()), Request(60, TimeoutError()))

        await asyncio.gather(*(user() for _ in range(50)))
        after = hedger.receipt()
        assert after.calls - before.calls == 400
        assert after.hedges - before.hedges <= 10

        for _ in range(20):  # after it hedges are earned anew
            await ask(hedger, Request(1.5))
        second = Request(1)
        assert await ask(hedger, Request(NEVER), second) is second

    run(main)


def test_after_a_failure_no_hedge_until_a_call_succeeds() -> None:
    async def main() -> None:
        hedger = await learned()
        with pytest.raises(ProviderError):
            await ask(hedger, Request(0.5, ProviderError("503")))
        start, hedge = now(), Request(0.1)
        late = ask(hedger, Request(NEVER), hedge)
        await asyncio.sleep(5)
        await ask(hedger, Request(0.5))
        await late
        assert hedge.began == pytest.approx(start + 5.5, abs=0.06)

    run(main)


def test_an_input_that_is_refused_is_no_failure_of_the_provider() -> None:
    async def main() -> None:
        hedger = await learned()
        for _ in range(5):
            with pytest.raises(ValueError, match="refused"):
                await ask(hedger, Request(0.5, ValueError("refused")))
        start, hedge = now(), Request(0.1)
        await ask(hedger, Request(NEVER), hedge)
        assert hedge.began == pytest.approx(start + 1)

    run(main)


def test_the_last_of_the_budget_is_kept_for_a_call_that_hangs() -> None:
    async def main() -> None:
        hedger = await learned([1.0] * 60, HedgeSettings(share=0))
        hedges = [Request(1.0) for _ in range(3)]
        await ask(hedger, Request(1.4), hedges[0])
        await ask(hedger, Request(1.4), hedges[1])
        start = now()
        await ask(hedger, Request(NEVER), hedges[2])
        assert hedges[0].began is not None
        assert hedges[1].began is None
        assert hedges[2].began == pytest.approx(start + 2, abs=0.06)
        spent = Request(1.0)
        await ask(hedger, Request(30), spent)
        assert spent.began is None

    run(main)


SECONDS = st.sampled_from([0.01, 0.5, 1.0, 1.5, 3.0, 30.0])
REQUESTS = st.tuples(SECONDS, st.sampled_from(["ok", "ok", "ok", "down", "refused"]))
CALLS = st.lists(
    st.tuples(st.floats(0, 2), REQUESTS, REQUESTS, st.none() | SECONDS, st.floats(1, 92)),
    max_size=40,
)
ERRORS = {"ok": None, "down": ProviderError("down"), "refused": ValueError("refused")}


@settings(max_examples=150)
@given(CALLS, st.floats(0, 0.5), st.integers(0, 3), st.integers(0, 2**16))
def test_whatever_happens_each_call_ends_once_and_the_budget_holds(
    calls: list[Any], share: float, reserve: int, seed: int
) -> None:
    chance = random.Random(seed)
    hedger = Hedger(HedgeSettings(share=share, reserve=reserve, min_samples=2), clock=now)

    async def one(
        pause: float,
        first: tuple[float, str],
        second: tuple[float, str],
        give_up: float | None,
        size: float,
    ) -> None:
        await asyncio.sleep(pause)
        requests = [Request(seconds, ERRORS[end]) for seconds, end in (first, second)]
        start = now()
        task = ask(hedger, *requests, size=size, may_hedge=lambda: chance.random() < 0.7)
        if give_up is not None:
            asyncio.get_running_loop().call_later(give_up, task.cancel)
        (outcome,) = await asyncio.gather(task, return_exceptions=True)
        made = hedger.receipt()
        assert made.hedges <= reserve + share * made.calls + 1e-6
        for request in requests:  # nothing is under way any more
            assert request.began is None or (
                request.cancelled is not None or now() >= request.began + request.seconds - 1e-9
            )
        if isinstance(outcome, asyncio.CancelledError):
            assert give_up is not None
            assert now() == pytest.approx(start + give_up)
        elif isinstance(outcome, BaseException):
            assert outcome is requests[0].error
            assert requests[1].began is None or requests[1].error is not None
        else:
            assert outcome in requests
            assert outcome.error is None
            assert now() <= start + first[0] + 1e-9 or requests[0].error is not None

    async def main() -> None:
        await asyncio.gather(*(one(*call) for call in calls))
        made = hedger.receipt()
        assert made.calls == len(calls)
        assert made.won <= made.hedges

    run(main)


# The receipt.


def test_the_receipt_tells_what_was_made_and_won() -> None:
    async def main() -> None:
        hedger = await learned([1.0] * 20)
        await ask(hedger, Request(1.2), Request(NEVER))
        assert str(hedger.receipt()) == "0 ms p99 for +4.8 % calls; 0 of 1 hedges won"
        start = now()
        await ask(hedger, Request(NEVER), Request(0.5), may_hedge=lambda: now() > start + 4)
        receipt = hedger.receipt()
        assert (receipt.calls, receipt.hedges, receipt.won) == (22, 2, 1)
        assert receipt.p99_s == pytest.approx(4.5, abs=0.06)
        assert receipt.basis == "at least"

    run(main)


# Settings.


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"quantile": 1.0}, "quantile must be between 0 and 1, got 1.0"),
        ({"min_samples": 0}, "min_samples must be between 1 and 256, got 0"),
        ({"reserve": 11.0}, "share 0.05, reserve 11.0, most 10.0"),
        ({"share": -0.1}, "share -0.1"),
    ],
)
def test_settings(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        Hedger(HedgeSettings(**wrong))


@pytest.mark.parametrize("size", [0, -1, -math.inf])
async def test_a_call_has_a_size(size: float) -> None:
    with pytest.raises(SettingsError, match="the size of a call must be above 0, got"):
        await ask(Hedger(), Request(0), size=size)
