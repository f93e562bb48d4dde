"""Free pages go back to the kernel when it is worth the time."""

from __future__ import annotations

import subprocess
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


# Of 20,000 connections that have each read half a head.
RESIDENT = """
from pathlib import Path
from meshcore import _core

def resident_kib():
    return int(Path("/proc/self/status").read_text().split("VmRSS:")[1].split()[0])

before = resident_kib()
codecs = [_core.ServerCodec(_core.CodecLimits(), False) for _ in range(20_000)]
for codec in codecs:
    codec.receive(b"GET / HTTP/1.1\\r\\nhost: a\\r\\nx: " + b"y" * 400)
del codecs, codec
closed = resident_kib()
_core.release_free_pages()
print(closed - before, resident_kib() - before)
"""


def test_the_cores_free_pages_go_back() -> None:
    run = subprocess.run(
        [sys.executable, "-c", RESIDENT], capture_output=True, text=True, check=True
    )
    closed_kib, released_kib = map(int, run.stdout.split())
    assert released_kib < closed_kib - 4_000
