"""What holds for every test."""

from __future__ import annotations

import gc

from hypothesis import settings

# How fast an example runs is the machine's, which has other work.
settings.register_profile("meshcore", deadline=None)
settings.load_profile("meshcore")


def pytest_collection_finish() -> None:
    """What every test has around it, thousands of tests, is looked through by no `gc.collect`."""
    gc.collect()
    gc.freeze()
