"""One run of a simulated provider: what has been counted since the last reset, and its clock."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from rag_lab.simulate.limits import Slots
from rag_lab.simulate.provider import Provider
from rag_lab.simulate.settings import Endpoint, SimulatorSettings
from rag_lab.simulate.stats import CallTime, Ledger


class Run:
    """Everything that starts afresh at a reset. Its clock starts with the first call."""

    def __init__(self, settings: SimulatorSettings, on_first_call: Callable[[], None]) -> None:
        self.provider = Provider(settings)
        self.ledger = Ledger()
        self.slots = Slots(self.provider.capacity(0.0))
        self.started_at: float | None = None
        self._on_first_call = on_first_call
        self._loop = asyncio.get_running_loop()

    @property
    def settings(self) -> SimulatorSettings:
        """The settings in force."""
        return self.provider.settings

    def now_s(self) -> float:
        """Modelled seconds since the first call."""
        if self.started_at is None:
            return 0.0
        return (self._loop.time() - self.started_at) / self.settings.time_scale

    def arrive(self, endpoint: Endpoint) -> CallTime:
        """Counts a call in."""
        if self.started_at is None:
            self.started_at = self._loop.time()
            self._on_first_call()
        return self.ledger.arrive(endpoint, self.now_s())

    async def sleep(self, modelled_s: float) -> None:
        """Lets modelled time pass."""
        if modelled_s > 0:
            await asyncio.sleep(modelled_s * self.settings.time_scale)

    def later_edges(self) -> list[float]:
        """When, by the event loop's clock, windows of the provider's own state open or close."""
        if self.started_at is None:
            return []
        now_s, scale = self.now_s(), self.settings.time_scale
        return [self.started_at + at_s * scale for at_s in self.provider.edges() if at_s > now_s]
