"""Lag is counted with what a stall swallowed, and a stall names what held the loop."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Callable

import pytest

from rag_lab.errors import SettingsError
from rag_lab.sync import run_sync
from rag_lab.telemetry.loop_lag import LagCount, LoopLag, LoopLagMonitor, Stall, stack_of

INTERVAL_S = 0.005
STALL_S = 0.05


def counted(*lags_s: float) -> LagCount:
    count = LagCount(INTERVAL_S, STALL_S)
    for at, lag_s in enumerate(lags_s):
        count.add(lag_s, at_s=float(at), stack=(f"own.py:{at} work",))
    return count


def hold(seconds: float) -> None:
    time.sleep(seconds)


def watchdogs() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "rag-lab-loop-lag"]


def test_a_lag_counts_for_the_wake_ups_it_swallowed() -> None:
    report = counted(*[0.0001] * 99, 0.203).report()
    assert report.max_ms == 203.0
    assert report.samples == 99 + 40  # at 203, 198 … 8 ms
    # The 138th of 139: 198 ms, up to 5 % high. The 99 samples alone would say 0.1 ms.
    assert 198 <= report.p99_ms <= 203
    assert report.p50_ms == pytest.approx(0.1, rel=0.06)


def test_percentiles_are_the_upper_end_of_a_bucket_and_never_above_the_maximum() -> None:
    count = counted(*[0.001] * 50, *[0.004] * 50)
    assert 0.001 <= count.percentile_s(0.5) <= 0.00106
    assert count.percentile_s(0.51) == count.percentile_s(1.0) == count.max_s == 0.004


def test_there_is_nothing_to_tell_before_the_first_wake_up() -> None:
    assert counted().report() == LoopLag()


def test_the_count_stays_small() -> None:
    count = LagCount(INTERVAL_S, STALL_S)
    for step in range(5_000):
        count.add(step / 10_000)
    assert len(count.buckets) < 250
    assert len(count.stalls) == 20


def test_the_longest_stalls_are_kept_longest_first() -> None:
    report = counted(*[0.05 + step / 1_000 for step in range(30)]).report()
    assert [round(1_000 * stall.seconds) for stall in report.stalls] == [*range(79, 59, -1)]
    assert report.stalls[0] == Stall(29.0, 0.05 + 29 / 1_000, ("own.py:29 work",))


def test_a_lag_below_the_bar_is_no_stall() -> None:
    assert counted(STALL_S - 1e-6).stalls == ()
    assert len(counted(STALL_S).stalls) == 1


def test_a_copy_goes_its_own_way() -> None:
    count = counted(0.1)
    count.copy().add(0.3)
    assert count.report() == counted(0.1).report()


def test_a_report_reads_as_text() -> None:
    text = str(LoopLag(1_200, 0.1, 20.0, 204.0, (Stall(1.5, 0.204, ("a.py:1 f", "b.py:2 g")),)))
    assert text.splitlines() == [
        "loop lag p50 0.1 ms, p99 20.0 ms, max 204 ms (1,200 wake-ups)",
        "  at 1.5 s for 204 ms: a.py:1 f > b.py:2 g",
    ]
    assert "not seen" in str(LoopLag(1, 60.0, 60.0, 60.0, (Stall(0.0, 0.06, ()),)))


@pytest.mark.parametrize("interval_s", [0.0, -1.0, 0.05])
def test_an_interval_is_shorter_than_a_stall(interval_s: float) -> None:
    with pytest.raises(SettingsError, match="above 0 and below stall_ms, got"):
        LoopLagMonitor(interval_s, stall_ms=50)


async def test_a_stall_is_one_maximum_and_names_what_held_the_loop() -> None:
    async with LoopLagMonitor() as monitor:
        await asyncio.sleep(0.02)
        hold(0.2)
        await asyncio.sleep(0.02)
    report = monitor.report()
    assert report.max_ms >= 190
    (stall,) = report.stalls
    assert 1_000 * stall.seconds == report.max_ms
    assert stall.stack[-1].startswith("test_loop_lag.py:")
    assert stall.where.endswith(" hold")
    assert stall.stack[-2].endswith(" test_a_stall_is_one_maximum_and_names_what_held_the_loop")
    assert not any(frame.startswith(("/", "asyncio")) for frame in stall.stack)
    assert report.samples >= 38  # those that it swallowed


async def test_a_stall_right_before_the_report_or_the_end_is_not_missed() -> None:
    async with LoopLagMonitor() as monitor:
        hold(0.1)
        during = monitor.report()
    after = monitor.report()
    assert 95 <= during.max_ms <= after.max_ms
    assert during.stalls[0].where.endswith(" hold")
    assert len(after.stalls) == 1


async def test_a_loop_that_is_left_alone_has_its_wake_ups_counted() -> None:
    async with LoopLagMonitor() as monitor:
        for _ in range(5):
            await asyncio.sleep(0.005)
    assert monitor.report().samples
    assert monitor.report().p50_ms <= monitor.report().p99_ms <= monitor.report().max_ms


async def test_the_watchdog_ends_with_the_monitor() -> None:
    monitor = LoopLagMonitor()
    monitor.start()
    monitor.start()  # a cell run twice
    (thread,) = watchdogs()
    assert thread.daemon
    monitor.stop()
    monitor.stop()
    assert watchdogs() == []


async def test_each_start_counts_anew() -> None:
    monitor = LoopLagMonitor()
    async with monitor:
        hold(0.1)
    async with monitor:
        pass
    assert monitor.report() == LoopLag()


async def test_it_ends_when_the_block_fails() -> None:
    with pytest.raises(ZeroDivisionError):
        async with LoopLagMonitor():
            _ = 1 / 0
    assert watchdogs() == []


def test_it_needs_a_running_loop() -> None:
    with pytest.raises(RuntimeError, match="no running event loop"):
        LoopLagMonitor().start()


def test_a_closed_loop_is_no_stall_and_ends_the_watchdog() -> None:
    monitor = LoopLagMonitor(stall_ms=20)

    async def begin() -> None:
        monitor.start()

    asyncio.run(begin())
    for thread in watchdogs():
        thread.join(5)
    assert watchdogs() == []
    assert monitor.report().stalls == ()
    asyncio.run(begin())  # and it can be started in the next loop
    monitor.stop()
    gc.collect()


def test_a_pause_between_two_runs_of_a_loop_is_no_stall() -> None:
    monitor = LoopLagMonitor(stall_ms=20)

    async def begin() -> None:
        monitor.start()

    async def end() -> None:
        await asyncio.sleep(0.02)
        monitor.stop()

    loop = asyncio.new_event_loop()
    loop.run_until_complete(begin())
    time.sleep(0.06)
    loop.run_until_complete(end())
    loop.close()
    assert monitor.report().stalls == ()


def test_one_monitor_does_not_watch_two_loops() -> None:
    monitor = LoopLagMonitor()

    async def begin() -> None:
        monitor.start()

    first = asyncio.new_event_loop()
    first.run_until_complete(begin())
    with pytest.raises(SettingsError, match="another event loop"):
        asyncio.run(begin())
    first.close()
    monitor.stop()
    assert watchdogs() == []


def stack_during(work: Callable[[threading.Event], object]) -> tuple[str, ...]:
    """The stack of a loop's callback in another thread while it waits for an event."""
    seen = threading.Event()

    async def run() -> None:
        asyncio.get_running_loop().call_soon(work, seen)
        await asyncio.sleep(0)

    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    assert thread.ident is not None
    stack: tuple[str, ...] = ()
    while not (stack and stack[-1].startswith("threading.py:")):
        time.sleep(0.001)
        stack = stack_of(thread.ident)
    seen.set()
    thread.join()
    return stack


def test_a_stack_shows_who_called_a_library_and_where_that_is() -> None:
    def held(seen: threading.Event) -> None:
        seen.wait()

    outer, inner = stack_during(held)  # without the other frames of threading, and the loop's
    assert outer.startswith("test_loop_lag.py:")
    assert outer.endswith(" held")
    assert inner.endswith(" wait")


def test_a_stack_without_own_frames_shows_the_librarys() -> None:
    stack = stack_during(threading.Event.wait)
    assert [frame.partition(":")[0] for frame in stack] == ["threading.py", "threading.py"]


def test_a_stack_is_at_most_eight_frames_deep() -> None:
    def deeper(seen: threading.Event, depth: int = 30) -> None:
        if depth:
            deeper(seen, depth - 1)
        else:
            seen.wait()

    stack = stack_during(deeper)
    assert len(stack) == 8
    assert all(frame.endswith(" deeper") for frame in stack[:-1])


def test_a_file_of_a_package_is_named_from_the_package_on() -> None:
    async def wait(seen: threading.Event) -> None:
        await asyncio.to_thread(seen.wait)

    stack = stack_during(lambda seen: run_sync(wait(seen)))
    assert stack[1].startswith("rag_lab/sync.py:")


def test_a_thread_that_is_gone_has_no_stack() -> None:
    assert stack_of(-1) == ()
