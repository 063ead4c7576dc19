"""A remote model on loopback for the tests of the models."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from provider import Provider


@pytest.fixture
def provider() -> Iterator[Provider]:
    """A provider that no setting names yet."""
    with Provider() as made:
        yield made
