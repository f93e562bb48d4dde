"""Worlds that end with their test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.unit.exchange.world import MESH, World


@pytest.fixture
def world_of() -> Iterator[Callable[[str], World]]:
    """Makes a world of a configuration, and ends it with the test."""
    with ExitStack() as made:

        def make(text: str) -> World:
            world = World(text)
            made.callback(world.close)
            return world

        yield make


@pytest.fixture
def world(world_of: Callable[[str], World]) -> World:
    return world_of(MESH)
