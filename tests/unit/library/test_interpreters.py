"""Several interpreters in one process: each catches what is raised in it, by its own class."""

from __future__ import annotations

import subprocess
import sys

import pytest

CAUGHT = """
import meshcore

breaker = meshcore.CircuitBreaker(failures=1)
breaker.acquire().failure()
bucket = meshcore.TokenBucket("1/h")
bucket.acquire()
clients = meshcore.ClientLimiter("1/h")
clients.acquire("a")
shared = meshcore.SharedState().circuit_breaker("x", failures=1)
shared.acquire().failure()
small = meshcore.SharedState(size="512KiB")
codec = __import__("meshcore._core")._core.ServerCodec(meshcore._core.CodecLimits(), False)
calls = [
    (meshcore.BreakerOpen, breaker.acquire),
    (meshcore.BreakerOpen, lambda: breaker.call(print)),
    (meshcore.BreakerOpen, breaker.__enter__),
    (meshcore.BreakerOpen, shared.acquire),
    (meshcore.RateLimited, bucket.acquire),
    (meshcore.RateLimited, lambda: clients.acquire("a")),
    (meshcore.ConfigError, lambda: small.client_limiter("x", "1/s", clients=1 << 20)),
    (__import__("meshcore.errors").errors.CodecError, lambda: codec.receive(b"\\0\\0\\r\\n\\r\\n")),
]
for expected, call in calls:
    try:
        call()
    except expected:
        continue
    raise AssertionError(expected)
print("caught", end=" ")
"""

# An interpreter that shares the GIL is what mod_wsgi makes; one with a GIL of its own refuses
# what was not written for it.
PROGRAM = f"""
import sys
code = {CAUGHT!r}
if sys.version_info >= (3, 13):
    import _interpreters as interpreters
    make = lambda: interpreters.create("legacy")
    run = interpreters.exec
else:
    import _xxsubinterpreters as interpreters
    make = lambda: interpreters.create(isolated=False)
    run = interpreters.run_string
if "main" in sys.argv:
    exec(code)
for _ in range(2):
    failed = run(make(), code)
    if failed is not None:
        print(failed)
if "main" in sys.argv:
    exec(code)
sys.stdout.flush()
"""


@pytest.mark.parametrize("first", ["main", "other"])
def test_each_catches_its_own_classes(first: str) -> None:
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM, first]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    times = 4 if first == "main" else 2
    assert (ended.stdout, ended.returncode) == ("caught " * times, 0), ended.stderr
