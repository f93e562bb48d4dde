"""Free pages go back to the kernel when it is worth the time."""

from __future__ import annotations

import sys

import pytest

from meshcore import _core
from meshcore.process.memory import TRIM_CONNECTIONS, FreePages, tune_allocator

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator only")


def test_glibc_takes_the_thresholds() -> None:
    assert tune_allocator()


def test_pages_are_looked_for_once_half_of_many_are_gone() -> None:
    pages = FreePages()
    assert not pages.observe(1000)
    assert not pages.observe(501)
    assert pages.observe(500)
    assert not pages.observe(500)
    assert not pages.observe(251)


def test_a_few_connections_are_not_worth_it() -> None:
    pages = FreePages()
    assert not pages.observe(TRIM_CONNECTIONS - 1)
    assert not pages.observe(0)
    assert not pages.observe(TRIM_CONNECTIONS)
    assert pages.observe(0)


@pytest.mark.parametrize("kind", [_core.Request, _core.Response, _core.Ticket, _core.Chunk])
def test_what_each_request_makes_is_small_enough_for_pythons_own_allocator(kind: type) -> None:
    collector = 16  # before an object that the garbage collector looks at
    assert kind.__basicsize__ + collector <= 512
