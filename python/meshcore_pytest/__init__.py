"""Fixtures for tests with meshcore, found by pytest itself.

A package of its own, for pytest loads it in every run: nothing of meshcore is imported before a
fixture is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from meshcore.testing import StubServices

__all__ = ["stub_service"]


@pytest.fixture
def stub_service() -> Iterator[StubServices]:
    """Makes HTTP/1.1 services that answer what they are told and record what they are asked, until
    the test ends: ``stub_service(200)`` (see `meshcore.testing.StubService`)."""
    from meshcore.testing.stub import StubServices

    made = StubServices()
    yield made
    made.close()
