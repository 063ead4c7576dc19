"""Gateways before the simulated provider, and a check that every text has its own vector."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import SecretStr

from provider import KEY
from rag_lab.gateway.call import Endpoint
from rag_lab.gateway.embedded import Embedded
from rag_lab.gateway.gateway import Gateway
from rag_lab.gateway.retry import RetryPolicy
from rag_lab.settings import GatewaySettings
from rag_lab.simulate import SimulatedProvider, expected_vector

DIMENSIONS = 8


@pytest.fixture
def no_long_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """What failed is asked again at once, where nobody says how long to wait."""
    monkeypatch.setattr(RetryPolicy, "ceiling_s", lambda policy, failures: 0.005)
    monkeypatch.setattr("rag_lab.gateway.embedding._LONGEST_WAIT_S", 0.005)


@pytest.fixture
def endpoint(shared_provider: SimulatedProvider) -> Callable[..., Endpoint]:
    """Makes endpoints of the simulated provider; `use` says how it behaves."""

    def made(**more: Any) -> Endpoint:
        known = {"base_url": shared_provider.base_url, "api_key": SecretStr(KEY)}
        return Endpoint(**{"model": "simulated", **known, **more})

    return made


@pytest.fixture
async def open_gateway(tmp_path: Path) -> AsyncIterator[Callable[..., Gateway]]:
    """Makes gateways that keep things in one folder, unless told otherwise, and closes them."""
    made = []

    def opened(*, folder: Path | None = tmp_path / "kept", **settings: Any) -> Gateway:
        made.append(Gateway(GatewaySettings(**settings), folder))
        return made[-1]

    yield opened
    for gateway in made:
        await gateway.aclose()


@pytest.fixture
def assert_right() -> Callable[..., None]:
    """Checks that each text has the vector that is its own, and the `bad` ones a reason."""

    def check(embedded: Embedded, texts: Sequence[str], bad: Collection[str] = ()) -> None:
        assert {texts[place] for place in embedded.failed} == set(bad)
        assert all(embedded.failed.values())
        for place, text in enumerate(texts):
            right = expected_vector(text, DIMENSIONS) * (text not in bad)
            np.testing.assert_allclose(embedded.matrix[place], right, atol=1e-6, err_msg=text)

    return check
