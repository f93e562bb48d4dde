"""Free pages go back to the kernel when it is worth the time."""

from __future__ import annotations

import asyncio
import resource
import sys
from pathlib import Path

import pytest
import trustme

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


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def test_what_many_connections_left_in_the_core_is_given_back() -> None:
    pair = trustme.CA().issue_cert("a.test")
    chain, key = pair.cert_chain_pems[0].bytes(), pair.private_key_pem.bytes()
    ring = _core.TicketRing()
    server = _core.TlsServer("edge", [(None, chain, key, None, None)], [], "1.3", None, ring)
    protocol = asyncio.Protocol()
    before = resident_bytes()
    sessions = [server.session(protocol) for _ in range(8000)]
    held = resident_bytes() - before
    assert held > 8 << 20
    sessions.clear()
    left = resident_bytes() - before
    _core.give_back_pages()
    assert left - (resident_bytes() - before) > held / 4


@pytest.mark.parametrize("kind", [_core.Request, _core.Response, _core.Ticket, _core.Chunk])
def test_what_each_request_makes_is_small_enough_for_pythons_own_allocator(kind: type) -> None:
    collector = 16  # before an object that the garbage collector looks at
    assert kind.__basicsize__ + collector <= 512
