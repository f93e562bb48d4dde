"""What holds for every test."""

from __future__ import annotations

import gc

import pytest
from hypothesis import settings

# How fast an example runs is the machine's, which has other work.
settings.register_profile("meshcore", deadline=None)
settings.load_profile("meshcore")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Which way requests go in wire tests."""
    told = "requests of wire tests go step by step, over the loop's transports"
    parser.addoption("--stepped", action="store_true", help=told)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What tells the one way from the other by its counts runs the one way alone."""
    if config.getoption("--stepped"):
        told = [item for item in items if item.get_closest_marker("at_once")]
        config.hook.pytest_deselected(items=told)
        items[:] = [item for item in items if item not in told]


def pytest_collection_finish() -> None:
    """What every test has around it, thousands of tests, is looked through by no `gc.collect`."""
    gc.collect()
    gc.freeze()
