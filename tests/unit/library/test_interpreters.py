"""Several interpreters in one process: each catches what is raised in it, by its own class."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

import meshcore

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


CROWD = """
import os
import sys
import meshcore

sys.setswitchinterval(1e-6)
state = meshcore.SharedState(NAME)
taken = [state.token_bucket(str(n), "1/h", 2).try_acquire() for n in range(400)]
os.write(WRITER, b"".join(b"1" if each else b"0" for each in taken) + b" ")
"""

# Each imports by itself before any begins: that takes time, and what is to meet is the making.
THREADS = """
import os, sys, threading

if sys.version_info >= (3, 13):
    import _interpreters as interpreters
    make = lambda: interpreters.create("legacy")
    run = interpreters.exec
else:
    import _xxsubinterpreters as interpreters
    make = lambda: interpreters.create(isolated=False)
    run = interpreters.run_string
reader, writer = os.pipe()
code = sys.argv[2].replace("NAME", repr(sys.argv[1])).replace("WRITER", str(writer))
made = [make() for _ in range(4)]
for each in made:
    run(each, "import meshcore.library.shared")
threads = [threading.Thread(target=run, args=(each, code)) for each in made]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
os.close(writer)
print(open(reader).read())
"""


def test_they_make_one_part_together() -> None:
    name = f"test-{os.getpid()}-{time.monotonic_ns()}"
    command = [sys.executable, "-W", "ignore", "-c", THREADS, name, CROWD]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    finally:
        meshcore.SharedState.unlink(name)
    assert ended.returncode == 0, ended.stderr
    taken = [[int(each) for each in said] for said in ended.stdout.split()]
    assert [sum(each) for each in zip(*taken, strict=True)] == [2] * 400


HELD = """
import os, sys, threading
import meshcore

if sys.version_info >= (3, 13):
    import _interpreters as interpreters
    other, run = interpreters.create("legacy"), interpreters.exec
else:
    import _xxsubinterpreters as interpreters
    other, run = interpreters.create(isolated=False), interpreters.run_string
name = sys.argv[1]
makes = f"import meshcore; meshcore.SharedState({name!r}).token_bucket('x', '1/s')"
run(other, f"import meshcore; state = meshcore.SharedState({name!r})")
state = meshcore.SharedState(name)
waiting = threading.Thread(target=run, args=(other, makes))
def hold(_fd):
    waiting.start()
    waiting.join(0.3)
    print(waiting.is_alive(), state._file.words.find("token_bucket", "x"))
state._file.alone(hold)
waiting.join(30)
print(waiting.is_alive(), state.remove("x"))
"""


def test_one_waits_for_another_that_makes_something() -> None:
    name = f"test-{os.getpid()}-{time.monotonic_ns()}"
    command = [sys.executable, "-W", "ignore", "-c", HELD, name]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    finally:
        meshcore.SharedState.unlink(name)
    assert ended.stdout == "True None\nFalse True\n", ended.stderr


@pytest.mark.skipif(
    sys.version_info < (3, 13), reason="only CPython 3.13 has interpreters with a lock of their own"
)
def test_one_with_a_gil_of_its_own_is_told_why_not() -> None:
    code = """
import _interpreters
print(_interpreters.exec(_interpreters.create("isolated"), "import meshcore").msg)
"""
    command = [sys.executable, "-c", code]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert ended.stdout == "module meshcore._core does not support loading in subinterpreters\n"
