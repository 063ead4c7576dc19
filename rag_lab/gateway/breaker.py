"""The breaker: when a provider has been failing for a while, stop asking and look again later.

    working     calls go; outcomes are watched over a rolling window
    failing     calls are refused at once, until the pause is over
    recovering  a probe goes; each success lets more through, two close the breaker

Only failures of the provider count (5xx, connection, timeout); a 429 or another 4xx does not.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from rag_lab.errors import ProviderError, SettingsError
from rag_lab.gateway.waiters import WaitingLine

BreakerState = Literal["working", "failing", "recovering"]
_QUICK_S = 0.05


class ProviderFailingError(ProviderError):
    """The provider is failing; no call was made."""


@dataclass(frozen=True, slots=True)
class BreakerSettings:
    """When to stop asking, and how soon to look again.

    Attributes:
        window_s: how far back outcomes count.
        failing_share: of the calls in the window, from which on it opens.
        min_failures: fewer do not open it,
        in_a_row: unless that many followed one another and nothing succeeded.
        min_duration_s: failures over a shorter time never open it.
        pause_s: before a probe, at least; `pause_share` of how long it has been failing if that
            is more, up to `max_pause_s`. So little of an outage's length is lost after its end.
        jitter: share by which a pause is longer or shorter, so that processes spread out.
        successes: probes that must succeed.
        step: calls that each success lets through beside the first; so does a first probe that
            is out for `slower` times as long as failures took: it was not refused as they were.
        probe_lost_s: a probe that has not come back by then no longer bars the next.
        history: changes kept.
    """

    window_s: float = 10.0
    failing_share: float = 0.5
    min_failures: int = 10
    in_a_row: int = 5
    min_duration_s: float = 1.0
    pause_s: float = 0.25
    pause_share: float = 0.1
    max_pause_s: float = 15.0
    jitter: float = 0.2
    successes: int = 2
    step: int = 6
    slower: float = 5.0
    probe_lost_s: float = 60.0
    history: int = 1_000

    def __post_init__(self) -> None:
        if not 0 < self.failing_share <= 1:
            raise SettingsError(f"failing_share is a share above 0, got {self.failing_share}.")


@dataclass(frozen=True, slots=True)
class BreakerChange:
    """One change of state, for plotting."""

    at: float
    state: BreakerState
    reason: str


class Permit:
    """The leave to make one call. An outcome that is never told changes nothing."""

    __slots__ = ("_breaker", "_open", "began", "era", "probe")

    def __init__(self, breaker: Breaker, era: int, began: float, *, probe: bool) -> None:
        self._breaker = breaker
        self._open = True
        self.began = began
        self.era = era
        self.probe = probe

    def succeeded(self) -> None:
        """The provider answered; a 429 or another 4xx is an answer too."""
        self._tell(None)

    def failed(self, reason: str) -> None:
        """The provider failed: 5xx, connection or timeout."""
        self._tell(reason)

    def give_back(self) -> None:
        """The call was not made, or was cancelled."""
        if self._open:
            self._open = False
            self._breaker._returned(self)

    def _tell(self, failure: str | None) -> None:
        if self._open:
            self._open = False
            self._breaker._told(self, failure)


class Breaker:
    """Watches one provider and model. Bound to no event loop."""

    def __init__(
        self,
        settings: BreakerSettings | None = None,
        clock: Callable[[], float] = time.monotonic,
        seed: int | None = None,
    ) -> None:
        self.settings = settings or BreakerSettings()
        self._clock = clock
        self._random = random.Random(seed)
        self._state: BreakerState = "working"
        self._era = 0  # outcomes of calls begun before a change of state no longer count
        self._window: deque[tuple[float, bool]] = deque()
        self._failed_in_row = 0
        self._row_began = 0.0
        self._failing_since: float | None = None
        self._retry_at = -math.inf
        self._probes: set[Permit] = set()
        self._failed_after_s = 0.0
        self._probe_successes = 0
        self._line = WaitingLine()
        self._history: deque[BreakerChange] = deque(maxlen=self.settings.history)
        self._note("start")

    @property
    def state(self) -> BreakerState:
        """The state; "failing" until a probe has been let through."""
        return self._state

    @property
    def history(self) -> Sequence[BreakerChange]:
        """Every change of state with its time and reason, oldest first."""
        return tuple(self._history)

    @property
    def retry_at(self) -> float | None:
        """When the next probe may go, on this breaker's clock; None unless failing."""
        return self._retry_at if self._state == "failing" else None

    @property
    def failure_share(self) -> float:
        """Share of failed calls in the rolling window; 0 if there were none."""
        self._forget(self._clock())
        return sum(failed for _, failed in self._window) / max(1, len(self._window))

    @property
    def ready(self) -> bool:
        """Whether a call would be allowed now."""
        if self._state == "working":
            return True
        now = self._clock()
        if self._state == "failing":
            return now >= self._retry_at
        lost = now - self.settings.probe_lost_s
        self._probes = {probe for probe in self._probes if probe.began > lost}
        hopeful = self._probe_successes + any(self._looks_well_at(p) <= now for p in self._probes)
        return len(self._probes) < 1 + self.settings.step * hopeful

    def _looks_well_at(self, probe: Permit) -> float:
        """When a probe has been out for so long that it was not refused as others were."""
        return probe.began + max(_QUICK_S, self.settings.slower * self._failed_after_s)

    def allow(self) -> Permit | None:
        """Leave to make one call, or None: fail fast. Tell the permit how the call ended."""
        if not self.ready:
            return None
        if self._state == "failing":
            self._change("recovering", "looks again")
        permit = Permit(self, self._era, self._clock(), probe=self._state == "recovering")
        if permit.probe:
            self._probes.add(permit)
        return permit

    def check(self) -> None:
        """Refuses where `guard` would.

        Raises:
            ProviderFailingError: the provider is failing.
        """
        if not self.ready:
            raise self._refusal()

    @contextmanager
    def guard(self) -> Iterator[Permit]:
        """Leave to make one call inside the block.

        Raises:
            ProviderFailingError: the provider is failing; nothing was asked.
        """
        permit = self.allow()
        if permit is None:
            raise self._refusal()
        try:
            yield permit
        finally:
            permit.give_back()

    def record_success(self) -> None:
        """A call came back that had no permit."""
        self._told(Permit(self, self._era, self._clock(), probe=False), None)

    def record_failure(self, reason: str) -> None:
        """A call failed that had no permit."""
        self._told(Permit(self, self._era, self._clock(), probe=False), reason)

    async def wait_until_not_failing(self, deadline: float | None = None) -> None:
        """Returns once a call would be allowed; whoever asks first then gets the probe.

        Args:
            deadline: on this breaker's clock.

        Raises:
            ProviderFailingError: the deadline has passed.
        """
        while not self.ready:
            now = self._clock()
            looks_well = [at for at in map(self._looks_well_at, self._probes) if at > now]
            wake = min(looks_well, default=now + 1.0)
            if self._state == "failing":
                wake = self._retry_at
            if deadline is not None:
                if now >= deadline:
                    raise self._refusal()
                wake = min(wake, deadline)
            waiter = self._line.join("bulk")
            try:
                async with asyncio.timeout(max(wake - now, 0.001)):
                    await waiter.wait()
            except TimeoutError:
                pass
            finally:
                self._line.leave(waiter)

    def _told(self, permit: Permit, failure: str | None) -> None:
        self._probes.discard(permit)
        if failure is not None:
            self._failed_after_s = self._clock() - permit.began
        if permit.era == self._era and self._state != "failing":
            if self._state == "recovering":
                self._probed(failure)
            else:
                self._watched(failure)
        self._wake()

    def _returned(self, permit: Permit) -> None:
        self._probes.discard(permit)
        self._wake()

    def _probed(self, failure: str | None) -> None:
        if failure is not None:
            self._fail(f"the probe failed: {failure}")
            return
        self._probe_successes += 1
        if self._probe_successes >= self.settings.successes:
            self._change("working", f"{self._probe_successes} probes succeeded")

    def _watched(self, failure: str | None) -> None:
        now = self._clock()
        self._window.append((now, failure is not None))
        self._forget(now)
        if failure is None:
            self._failed_in_row = 0
            return
        if not self._failed_in_row:
            self._row_began = now
        self._failed_in_row += 1
        settings = self.settings
        failed = [at for at, is_failure in self._window if is_failure]
        # Successes of a busy minute would hide an outage for as long: nothing but failures is one.
        only_failures = self._failed_in_row >= settings.in_a_row
        many = len(failed) >= max(settings.min_failures, settings.failing_share * len(self._window))
        lasting = now - (self._row_began if only_failures else failed[0])
        if (only_failures or many) and lasting >= settings.min_duration_s:
            count = self._failed_in_row if only_failures else len(failed)
            self._fail(f"{count} failures in {lasting:.1f} s, the last: {failure}")

    def _fail(self, reason: str) -> None:
        settings, now = self.settings, self._clock()
        if self._failing_since is None:
            self._failing_since = now
        longest = settings.pause_share * (now - self._failing_since)
        pause = min(settings.max_pause_s, max(settings.pause_s, longest))
        pause *= self._random.uniform(1 - settings.jitter, 1 + settings.jitter)
        self._retry_at = now + pause
        self._change("failing", reason)

    def _change(self, state: BreakerState, reason: str) -> None:
        self._state = state
        self._era += 1
        self._probes.clear()
        self._probe_successes = self._failed_in_row = 0
        self._window.clear()
        if state == "working":
            self._failing_since = None
        self._note(reason)

    def _refusal(self) -> ProviderFailingError:
        after = max(0.0, (self.retry_at or self._clock()) - self._clock())
        return ProviderFailingError(
            f"the provider is failing ({self._history[-1].reason}). Nothing was asked of it; it "
            f"will be tried again in {after:.1f} s. What is done is kept."
        )

    def _wake(self) -> None:
        while self.ready and (waiter := self._line.first()):
            self._line.serve(waiter)

    def _forget(self, now: float) -> None:
        while self._window and self._window[0][0] < now - self.settings.window_s:
            self._window.popleft()

    def _note(self, reason: str) -> None:
        self._history.append(BreakerChange(self._clock(), self._state, reason))
