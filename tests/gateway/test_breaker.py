"""The breaker: opens on lasting failure only, looks again, closes; nobody waits for ever."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_lab.errors import SettingsError
from rag_lab.gateway.breaker import Breaker, BreakerSettings, ProviderFailingError


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker(BreakerSettings(jitter=0), clock)


def fail(breaker: Breaker, clock: Clock, times: int = 5, every_s: float = 0.25) -> None:
    for number in range(times):
        clock.now += every_s if number else 0
        breaker.record_failure("HTTP 503")


def let_through(breaker: Breaker) -> int:
    count = 0
    while breaker.allow() is not None:
        count += 1
    return count


def test_lasting_failure_opens_it(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, clock)
    assert (breaker.state, breaker.retry_at) == ("failing", clock() + 0.25)
    assert breaker.allow() is None
    with (
        pytest.raises(ProviderFailingError, match=r"5 failures in 1.0 s, the last: HTTP 503"),
        breaker.guard(),
    ):
        pytest.fail("a call was let through")
    assert [change.state for change in breaker.history] == ["working", "failing"]


@pytest.mark.parametrize(("times", "every_s"), [(9, 1.0), (200, 0.004), (50, 11.0)])
def test_few_brief_or_rare_failures_do_not(
    breaker: Breaker, clock: Clock, times: int, every_s: float
) -> None:
    for number in range(times):
        fail(breaker, clock, times=1)
        clock.now += every_s
        if number % 3 == 2:
            breaker.record_success()
            breaker.record_success()
            breaker.record_success()
            breaker.record_success()
    assert breaker.state == "working"


def test_a_share_of_failures_opens_it(breaker: Breaker, clock: Clock) -> None:
    for _ in range(20):
        clock.now += 0.2
        breaker.record_success()
        breaker.record_failure("timeout")
        breaker.record_failure("timeout")
        if breaker.state == "failing":
            break
    assert breaker.state == "failing"
    assert clock() < 103


def test_successes_of_a_busy_minute_do_not_hide_an_outage(breaker: Breaker, clock: Clock) -> None:
    for _ in range(5_000):
        breaker.record_success()
    assert breaker.failure_share == 0
    fail(breaker, clock)
    assert breaker.state == "failing"


def test_one_probe_then_more_then_closed(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, clock)
    clock.now += 0.5
    probe = breaker.allow()
    assert probe is not None
    assert probe.probe
    assert (breaker.state, let_through(breaker)) == ("recovering", 0)
    probe.succeeded()
    probe.failed("told twice")
    more = [breaker.allow() for _ in range(1 + breaker.settings.step)]
    assert let_through(breaker) == 0
    assert more[-1] is not None
    more[-1].succeeded()
    assert (breaker.state, breaker.retry_at, breaker.ready) == ("working", None, True)


def test_pauses_are_a_tenth_of_how_long_it_has_been_failing_and_capped(
    breaker: Breaker, clock: Clock
) -> None:
    fail(breaker, clock)
    pauses = []
    for _ in range(80):
        assert breaker.retry_at is not None
        pauses.append(breaker.retry_at - clock())
        clock.now = breaker.retry_at
        with breaker.guard() as probe:
            probe.failed("HTTP 503")
    assert pauses[:3] == pytest.approx([0.25, 0.25, 0.25])
    assert pauses[12] == pytest.approx(0.1 * sum(pauses[:12]))
    assert max(pauses) == pytest.approx(15)


def test_jitter_spreads_probes(clock: Clock) -> None:
    moments = set()
    for seed in range(20):
        breaker = Breaker(clock=clock, seed=seed)
        fail(breaker, clock)
        assert breaker.retry_at is not None
        moments.add(round(breaker.retry_at - clock(), 3))
    assert len(moments) > 10
    assert all(0.2 <= moment <= 0.3 for moment in moments)


def test_a_cancelled_or_lost_probe_bars_nobody(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, clock)
    clock.now += 1
    with pytest.raises(asyncio.CancelledError), breaker.guard():
        raise asyncio.CancelledError
    assert let_through(breaker) == 1  # this one never comes back
    clock.now += 61
    assert let_through(breaker) == 1


def test_late_outcomes_of_old_calls_change_nothing(breaker: Breaker, clock: Clock) -> None:
    old = [breaker.allow() for _ in range(3)]
    fail(breaker, clock)
    clock.now += 1
    probe = breaker.allow()
    for permit in old:
        assert permit is not None
        permit.failed("timeout")
    assert breaker.state == "recovering"
    assert probe is not None
    probe.succeeded()
    assert breaker.state == "recovering"


def test_a_probe_that_is_not_refused_as_others_were_lets_more_through(
    breaker: Breaker, clock: Clock
) -> None:
    for _ in range(6):  # each fails after 0.25 s
        with breaker.guard() as permit:
            clock.now += 0.25
            permit.failed("HTTP 503")
        if breaker.state == "failing":
            break
    clock.now += 1
    probe = breaker.allow()
    assert probe is not None
    clock.now += 1.2
    assert let_through(breaker) == 0
    clock.now += 0.1  # five times as long as failures took
    assert let_through(breaker) == breaker.settings.step
    probe.failed("HTTP 503")
    assert breaker.state == "failing"


async def test_waiting_ends_when_the_provider_is_back() -> None:
    quick = BreakerSettings(min_failures=1, min_duration_s=0, pause_s=0.003, successes=1)
    breaker = Breaker(quick)
    breaker.record_failure("connection")
    assert breaker.state == "failing"
    waiting = [asyncio.create_task(breaker.wait_until_not_failing()) for _ in range(3)]
    await waiting[0]
    probe = breaker.allow()
    assert probe is not None
    probe.succeeded()
    await asyncio.wait_for(asyncio.gather(*waiting), 1)
    await breaker.wait_until_not_failing()


async def test_waiting_ends_at_the_deadline(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, clock)
    with pytest.raises(ProviderFailingError, match="What is done is kept"):
        await breaker.wait_until_not_failing(deadline=clock())


def test_waiters_of_a_dead_loop_are_dropped(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, clock)

    async def give_up() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(breaker.wait_until_not_failing(), 0.002)

    asyncio.run(give_up())
    clock.now += 1
    asyncio.run(breaker.wait_until_not_failing())
    assert let_through(breaker) == 1


@given(st.lists(st.tuples(st.sampled_from(["ok", "fail", "drop", "ask"]), st.floats(0, 20))))
def test_it_never_stays_shut(steps: list[tuple[str, float]]) -> None:
    clock = Clock()
    breaker, permits = Breaker(clock=clock, seed=0), []
    for what, pause in steps:
        clock.now += pause
        if what == "ask":
            permits += [permit] if (permit := breaker.allow()) else []
        elif permits:
            permit = permits.pop(0)
            {"ok": permit.succeeded, "drop": permit.give_back}.get(
                what, lambda permit=permit: permit.failed("x")
            )()
    clock.now += 61
    for _ in range(3):
        permit = breaker.allow()
        assert permit is not None
        permit.succeeded()
    assert breaker.state == "working"


def test_settings() -> None:
    with pytest.raises(SettingsError, match="failing_share is a share above 0, got 0"):
        BreakerSettings(failing_share=0)
