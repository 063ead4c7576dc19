"""One simulated provider for all tests of a process, reset for each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from openai import AsyncOpenAI

from rag_lab.simulate import SimulatedProvider, SimulatorSettings

Use = Callable[..., Awaitable[SimulatedProvider]]
Until = Callable[[Callable[[], Awaitable[bool]]], Awaitable[None]]


@pytest.fixture(scope="session")
def shared_provider() -> Iterator[SimulatedProvider]:
    provider = SimulatedProvider.start(SimulatorSettings())
    yield provider
    provider.stop()


@pytest.fixture
def use(shared_provider: SimulatedProvider) -> Use:
    """Resets the provider to settings, given as `SimulatorSettings` takes them."""

    async def use(**values: Any) -> SimulatedProvider:
        await shared_provider.reset(SimulatorSettings.of({"dimensions": 8, **values}))
        return shared_provider

    return use


@pytest.fixture
def http(shared_provider: SimulatedProvider) -> Callable[[], Any]:
    """Opens an aiohttp session whose paths start at the base URL."""

    @asynccontextmanager
    async def opened() -> AsyncIterator[aiohttp.ClientSession]:
        async with aiohttp.ClientSession(f"{shared_provider.base_url}/") as session:
            yield session

    return opened


@pytest.fixture
def client(shared_provider: SimulatedProvider) -> Callable[..., AsyncOpenAI]:
    """The real client, which retries nothing unless told."""

    def made(**more: Any) -> AsyncOpenAI:
        known = {"api_key": "none", "max_retries": 0, "timeout": 20.0, **more}
        return AsyncOpenAI(base_url=shared_provider.base_url, **known)

    return made


@pytest.fixture
def until() -> Until:
    """Waits for something that the server's process will do."""

    async def until(done: Callable[[], Awaitable[bool]]) -> None:
        for _ in range(1_000):
            if await done():
                return
            await asyncio.sleep(0.01)
        raise TimeoutError("it has not come about within 10 s")

    return until
