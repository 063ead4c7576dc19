"""How late the event loop wakes up, and what held it up.

While the loop is held, no reply is read, no timeout fires and every latency looks longer than the
provider's. A heartbeat measures it; a thread that mostly sleeps looks at the loop's stack when
the heartbeat is late.
"""

from __future__ import annotations

import asyncio
import math
import sys
import sysconfig
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import PurePath
from types import FrameType, TracebackType

from rag_lab.errors import SettingsError

_SMALLEST_S = 1e-5
_WIDTH = math.log(1.05)  # a bucket is 5 % wide: some 400 of them reach from 10 µs to an hour
_STALLS = 20
_FRAMES = 8
_INSTALLED = tuple(sysconfig.get_paths()[name] for name in ("stdlib", "purelib", "platlib"))


@dataclass(frozen=True, slots=True)
class Stall:
    """One time that the loop was held.

    Attributes:
        at_s: when the loop should have woken, in seconds after the start of the monitor.
        seconds: how much later it did.
        stack: `file:line function` of what ran, innermost last; empty if it could not be seen.
    """

    at_s: float
    seconds: float
    stack: tuple[str, ...]

    @property
    def where(self) -> str:
        """The innermost frame; empty if it could not be seen."""
        return self.stack[-1] if self.stack else ""


@dataclass(frozen=True, slots=True)
class LoopLag:
    """How late the loop woke; percentiles are up to 5 % high, all are 0 without samples.

    Attributes:
        samples: wake-ups, with those that a stall swallowed.
        stalls: the longest, longest first.
    """

    samples: int = 0
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    max_ms: float = 0.0
    stalls: tuple[Stall, ...] = ()

    def __str__(self) -> str:
        text = (
            f"loop lag p50 {self.p50_ms:.1f} ms, p99 {self.p99_ms:.1f} ms, max {self.max_ms:.0f} ms"
            f" ({self.samples:,} wake-ups)"
        )
        lines = [
            f"  at {stall.at_s:.1f} s for {1_000 * stall.seconds:.0f} ms: "
            f"{' > '.join(stall.stack) or 'not seen'}"
            for stall in self.stalls
        ]
        return "\n".join([text, *lines])


@dataclass(slots=True)
class LagCount:
    """Counts lags in buckets, so that its size does not depend on how long it counts.

    A lag of 200 ms hides the 39 wake-ups that were due meanwhile. They are filled in at 195,
    190 … 5 ms, as HdrHistogram's `recordValueWithExpectedInterval` does (Tene, "How NOT to measure
    latency": coordinated omission); else a loop that is held half of the time has a p99 of 0.
    """

    interval_s: float
    stall_s: float
    samples: int = 0
    max_s: float = 0.0
    buckets: dict[int, int] = field(default_factory=dict)
    stalls: tuple[Stall, ...] = ()

    def add(self, lag_s: float, at_s: float = 0.0, stack: tuple[str, ...] = ()) -> None:
        """A wake-up that was due at `at_s` came `lag_s` late."""
        self.max_s = max(self.max_s, lag_s)
        if lag_s >= self.stall_s:
            stalls = [*self.stalls, Stall(at_s, lag_s, stack)]
            stalls.sort(key=lambda stall: -stall.seconds)
            self.stalls = tuple(stalls[:_STALLS])
        self._bucket(lag_s)
        lag_s -= self.interval_s
        while lag_s >= self.interval_s:
            self._bucket(lag_s)
            lag_s -= self.interval_s

    def _bucket(self, lag_s: float) -> None:
        place = int(math.log(lag_s / _SMALLEST_S) / _WIDTH) if lag_s > _SMALLEST_S else 0
        self.buckets[place] = self.buckets.get(place, 0) + 1
        self.samples += 1

    def percentile_s(self, share: float) -> float:
        """The upper end of the bucket that the share falls into; never above the maximum."""
        missing = math.ceil(share * self.samples)
        for place, count in sorted(self.buckets.items()):
            missing -= count
            if missing <= 0:
                return min(self.max_s, _SMALLEST_S * math.exp(_WIDTH * (place + 1)))
        return 0.0

    def copy(self) -> LagCount:
        """A count that goes its own way."""
        return replace(self, buckets=self.buckets.copy())

    def report(self) -> LoopLag:
        """The figures so far."""
        return LoopLag(
            samples=self.samples,
            p50_ms=1_000 * self.percentile_s(0.5),
            p99_ms=1_000 * self.percentile_s(0.99),
            max_ms=1_000 * self.max_s,
            stalls=self.stalls,
        )


class LoopLagMonitor:
    """Watches the loop it is started in: `async with LoopLagMonitor() as monitor`.

    In a notebook call `start()` and `stop()`. Each start counts anew. An idle loop is up to 1 ms
    late by itself, since its selector counts in milliseconds. A heartbeat takes 2 µs from a busy
    loop (0.04 % at the default interval); to wake an idle one costs what a sleep of that length
    does: 1 to 2 % of a core on a virtual machine.

    Args:
        interval_s: between two heartbeats.
        stall_ms: a heartbeat that much late is a stall, and the stack is looked at.
    """

    def __init__(self, interval_s: float = 0.005, stall_ms: float = 50.0) -> None:
        if not 0 < 1_000 * interval_s < stall_ms:
            raise SettingsError(
                f"interval_s must be above 0 and below stall_ms, got {interval_s} s and "
                f"{stall_ms} ms."
            )
        self.interval_s = interval_s
        self._stall_s = stall_ms / 1_000
        self._count = LagCount(interval_s, self._stall_s)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._heartbeat: asyncio.TimerHandle | None = None
        self._watchdog: threading.Thread | None = None
        self._stopped = threading.Event()
        self._began = self._due = 0.0
        self._paused_at = -math.inf  # the heartbeat that was due when the loop was seen not to run
        self._seen: tuple[float, tuple[str, ...]] = (-math.inf, ())

    async def __aenter__(self) -> LoopLagMonitor:
        self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Begins to watch the running loop; if it does so already, nothing changes.

        Raises:
            SettingsError: it watches another loop.
            RuntimeError: no loop is running.
        """
        loop = asyncio.get_running_loop()
        if self._loop is loop:
            return
        if self._loop is not None and not self._loop.is_closed():
            raise SettingsError(
                "this monitor watches another event loop. Stop it there, or use one for each loop."
            )
        self.stop()
        self._loop = loop
        self._count = LagCount(self.interval_s, self._stall_s)
        self._stopped = threading.Event()
        self._began = loop.time()
        self._beat(loop, self._began)
        self._watchdog = threading.Thread(
            target=self._watch,
            args=(loop, threading.get_ident(), self._stopped),
            name="rag-lab-loop-lag",
            daemon=True,
        )
        self._watchdog.start()

    def stop(self) -> None:
        """Ends the watch; the report stays."""
        self._count = self._count_until_now()
        self._stopped.set()
        if self._heartbeat is not None:
            self._heartbeat.cancel()
        if self._watchdog is not None:
            self._watchdog.join()
        self._loop = self._heartbeat = self._watchdog = None

    def report(self) -> LoopLag:
        """The figures since the start, with a stall that is not over yet."""
        return self._count_until_now().report()

    def _count_until_now(self) -> LagCount:
        loop, due = self._loop, self._due
        if loop is None or not loop.is_running():
            return self._count
        late_s = loop.time() - due
        if late_s < self.interval_s or self._paused_at == due:
            return self._count
        count = self._count.copy()
        count.add(late_s, due - self._began, self._stack_at(due))
        return count

    def _stack_at(self, due: float) -> tuple[str, ...]:
        seen_at, stack = self._seen
        return stack if seen_at == due else ()

    def _beat(self, loop: asyncio.AbstractEventLoop, now: float) -> None:
        self._due = now + self.interval_s
        self._heartbeat = loop.call_at(self._due, self._on_beat, loop)

    def _on_beat(self, loop: asyncio.AbstractEventLoop) -> None:
        now, due = loop.time(), self._due
        if self._paused_at != due:
            self._count.add(max(0.0, now - due), due - self._began, self._stack_at(due))
        self._beat(loop, now)

    def _watch(
        self, loop: asyncio.AbstractEventLoop, thread: int, stopped: threading.Event
    ) -> None:
        look_at = self._due + self._stall_s
        while not stopped.wait(max(0.0, look_at - loop.time())):
            now, due = loop.time(), self._due
            if now < due + self._stall_s:
                look_at = due + self._stall_s
                continue
            look_at = now + self._stall_s
            if loop.is_closed():
                return
            if not loop.is_running():
                self._paused_at = due
            elif self._seen[0] != due:
                stack = stack_of(thread)
                if self._due == due:  # else the loop has moved on while we looked
                    self._seen = (due, stack)


def stack_of(thread: int) -> tuple[str, ...]:
    """What the loop's callback in a thread is doing, as `file:line function`, innermost last.

    Frames of installed libraries are left out but for the innermost, since who called them is
    what can be changed; if there are no others, they are shown. At most 8.
    """
    frames = [*_callback_frames(sys._current_frames().get(thread))]
    shown = [frame for place, frame in enumerate(frames) if place == 0 or _is_own(frame)]
    if not any(map(_is_own, shown)):
        shown = frames
    return tuple(_describe(frame) for frame in reversed(shown[:_FRAMES]))


def _callback_frames(frame: FrameType | None) -> Iterator[FrameType]:
    """From the innermost to the one that the loop called."""
    while frame is not None and not _is_machinery(frame):
        yield frame
        frame = frame.f_back


def _is_machinery(frame: FrameType) -> bool:
    name, module = frame.f_code.co_name, frame.f_globals.get("__name__")
    return name == "_run_once" or (name == "_run" and module == "asyncio.events")


def _is_own(frame: FrameType) -> bool:
    package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
    path = frame.f_code.co_filename
    return package == "rag_lab" or not path.startswith((*_INSTALLED, "<frozen"))


def _describe(frame: FrameType) -> str:
    levels = len([*filter(None, str(frame.f_globals.get("__package__") or "").split("."))])
    file = "/".join(PurePath(frame.f_code.co_filename).parts[-levels - 1 :])
    return f"{file}:{frame.f_lineno} {frame.f_code.co_name}"
