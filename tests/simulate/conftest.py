"""Clients of the simulated provider."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from openai import AsyncOpenAI

from rag_lab.simulate import SimulatedProvider


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
