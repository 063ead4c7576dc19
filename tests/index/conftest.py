"""A remote embedding model on loopback for the tests of the index."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from provider import Provider


@pytest.fixture
def remote(monkeypatch: pytest.MonkeyPatch) -> Iterator[Provider]:
    """A provider that is configured as the embedding model: two texts a call."""
    with Provider() as provider:
        for name, value in provider.environment(BATCH_SIZE="2").items():
            monkeypatch.setenv(name, value)
        yield provider
