"""`meshcore.Proxy` in a program of one's own, which stays as it was and ends when it is told."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.process.program import Program

MESH = """
version: 1
drain: 30s
listeners:
  edge: {bind: "127.0.0.1:0", layers: [{python: "own:Own"}]}
routes:
  - name: hello
    respond: {status: 200, body: "hello\\n"}
"""

# --- what is the program's ------------------------------------------------------------------------

HOST = f"""
import asyncio, ctypes, gc, locale, logging, os, resource, signal, sys, threading, warnings
import meshcore
from meshcore.process import memory

def refuse(*arguments):
    raise AssertionError("told the program's allocator or collector what to do")

memory.tune_allocator = memory.tune_collector = refuse

def host():
    return {{
        "collector": (gc.get_threshold(), gc.get_freeze_count(), gc.isenabled()),
        "signals": [signal.getsignal(number) for number in signal.valid_signals()],
        "limits": resource.getrlimit(resource.RLIMIT_NOFILE),
        "logging": [logging.root.level, list(logging.root.handlers)],
        "hooks": [sys.excepthook, sys.unraisablehook, threading.excepthook],
        "path": list(sys.path),
        "environment": dict(os.environ),
        "warnings": list(warnings.filters),
        "locale": locale.setlocale(locale.LC_ALL),
        "places": (os.getcwd(), os.umask(0o022)),
        "switches": sys.getswitchinterval(),
    }}

class Own(meshcore.Layer):
    pass

async def main():
    loop = asyncio.get_running_loop()
    config = meshcore.load_text({MESH!r})
    before, handler = host(), loop.get_exception_handler()
    async with meshcore.Proxy(config, layers={{"own:Own": Own()}}) as proxy:
        during = host()
        await proxy.reload(config)
    after = host()
    assert handler is loop.get_exception_handler()
    for name, what in before.items():
        assert what == during[name] == after[name], (name, what, during[name], after[name])

os.umask(0o022)
asyncio.run(main())
"""


def test_a_program_is_as_it_was() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", HOST], capture_output=True, text=True, timeout=60, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, "")


OWN_LAYER = """
import gc
import sys
import meshcore

class Own(meshcore.Layer):
    def on_request(self, request):
        if request.path == "/exit":
            sys.exit(7)
        body = f"{gc.get_freeze_count() > 10_000} {gc.get_threshold()[0]}"
        return meshcore.Answer(200, [], body.encode())
"""


@pytest.fixture
def program(tmp_path: Path) -> Iterator[tuple[Program, str]]:
    (tmp_path / "own.py").write_text(OWN_LAYER)
    file = tmp_path / "mesh.yaml"
    file.write_text(MESH)
    with Program(file) as program:
        url = program.line(r"(http://127\.0\.0\.1:\d+)")[1]
        yield program, url


def test_a_program_that_is_nothing_but_a_proxy_is_tuned(program: tuple[Program, str]) -> None:
    with urllib.request.urlopen(program[1], timeout=30) as answer:
        assert answer.read() == b"True 20000"


def test_a_layer_that_exits_ends_its_worker(program: tuple[Program, str]) -> None:
    running, url = program
    with pytest.raises(OSError, match=r".*"):
        urllib.request.urlopen(f"{url}/exit", timeout=30)
    running.line(r"worker \d+ \(\d+\) ended: .*7")
    with urllib.request.urlopen(url, timeout=30) as answer:
        assert answer.read().startswith(b"True")


# --- its end --------------------------------------------------------------------------------------

LOOPS = {
    "asyncio": "asyncio.run",
    "uvloop": "__import__('uvloop').run",
}

SERVE = """
import asyncio, signal, sys
import meshcore

class Own(meshcore.Layer):
    async def on_request(self, request):
        if request.path == "/slow":
            asked.set()
            print("slow", flush=True)
            await asyncio.sleep(float(sys.argv[1]))

asked = asyncio.Event()
before = signal.getsignal(signal.SIGTERM)
proxy = meshcore.Proxy(meshcore.load_text({mesh!r}), layers={{"own:Own": Own()}})

async def main():
    serving = asyncio.ensure_future(proxy.serve({options}))
    while not proxy.ready:
        await asyncio.sleep(0.005)
    inside = signal.getsignal(signal.SIGINT)
    print(proxy.addresses["edge"], flush=True)
    {body}
    assert signal.getsignal(signal.SIGTERM) is before
    print("over", proxy.connections, flush=True)

{run}(main())
"""


class Serving:
    """A program that serves, and requests to it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        assert process.stdout is not None
        assert process.stderr is not None
        self.output, self.errors = process.stdout, process.stderr
        self.url = self.output.readline().strip()
        self.asking: list[subprocess.Popen[str]] = []

    def ask_slowly(self) -> None:
        """A request is under way when this returns."""
        code = "import sys, urllib.request as r; print(r.urlopen(sys.argv[1] + '/slow').status)"
        command = [sys.executable, "-c", code, self.url]
        self.asking.append(
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        )
        assert self.output.readline() == "slow\n"

    def accepts_no_more(self) -> None:
        """It has been told once when this returns."""
        address = "127.0.0.1", int(self.url.rpartition(":")[2])
        for _ in range(2_000):
            try:
                socket.create_connection(address).close()
            except ConnectionRefusedError:
                return
            time.sleep(0.01)
        raise AssertionError("still accepting")

    def rest(self) -> tuple[str, str]:
        """What else it writes until it ends. By the same reader, which may have read ahead."""
        output, errors = self.output.read(), self.errors.read()
        self.process.wait(30)
        return output, errors

    def said(self) -> str:
        """The status of what was asked; empty when it failed."""
        return self.asking[0].communicate(timeout=40)[0].strip()


@contextmanager
def serving(
    loop: str, *, options: str = "", body: str = "await serving", seconds: float = 0.5
) -> Iterator[Serving]:
    code = SERVE.format(mesh=MESH, options=options, body=body, run=LOOPS[loop])
    command = [sys.executable, "-c", code, str(seconds)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        got = Serving(process)
        try:
            yield got
        finally:
            process.kill()
            for asking in got.asking:
                asking.kill()
                asking.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("loop", LOOPS)
def test_a_signal_ends_what_serves_when_all_is_over(loop: str, number: signal.Signals) -> None:
    with serving(loop, options="handle_signals=True") as got:
        got.ask_slowly()
        got.process.send_signal(number)
        assert got.said() == "200"
        output, errors = got.rest()
        assert (output, got.process.returncode, errors) == ("over 0\n", 0, "")


@pytest.mark.parametrize("loop", LOOPS)
def test_a_second_signal_ends_what_is_under_way(loop: str) -> None:
    with serving(loop, options="handle_signals=True", seconds=60) as got:
        got.ask_slowly()
        got.process.send_signal(signal.SIGTERM)
        got.accepts_no_more()
        got.process.send_signal(signal.SIGTERM)
        assert got.said() == ""
        output, _ = got.rest()
        assert (output, got.process.returncode) == ("over 0\n", 0)


@pytest.mark.parametrize("loop", LOOPS)
def test_without_it_a_signal_does_what_it_did_before(loop: str) -> None:
    with serving(loop) as got:
        got.process.send_signal(signal.SIGTERM)
        assert got.process.wait(30) == -signal.SIGTERM


CANCEL = """
    await asked.wait()
    for _ in range({times}):
        serving.cancel()
        while proxy.ready:
            await asyncio.sleep(0.005)
    try:
        await serving
    except asyncio.CancelledError:
        print("cancelled", flush=True)
"""


@pytest.mark.parametrize(("times", "answer"), [(1, "200"), (2, "")])
@pytest.mark.parametrize("loop", LOOPS)
def test_cancelled_it_stops_as_stop_does(loop: str, times: int, answer: str) -> None:
    seconds = 0.5 if times == 1 else 60
    with serving(loop, body=CANCEL.format(times=times), seconds=seconds) as got:
        got.ask_slowly()
        assert got.said() == answer
        output, errors = got.rest()
        assert (output, got.process.returncode) == ("cancelled\nover 0\n", 0), errors


STOPPED = """
    import threading
    raised = []
    def elsewhere():
        other = meshcore.Proxy(meshcore.load_text({mesh!r}), layers={{"own:Own": Own()}})
        try:
            asyncio.run(other.serve(handle_signals=True))
        except RuntimeError as error:
            raised.append(str(error))
    thread = threading.Thread(target=elsewhere)
    thread.start()
    await asyncio.to_thread(thread.join)
    assert "main thread" in raised[0], raised
    await proxy.stop()
    await serving
    for again in (proxy.start, proxy.serve):
        try:
            await again()
        except RuntimeError as error:
            assert "started once" in str(error)
        else:
            raise AssertionError(again)
"""


def test_what_cannot_be_is_said() -> None:
    with serving("asyncio", body=STOPPED.format(mesh=MESH)) as got:
        output, errors = got.rest()
        assert (output, got.process.returncode, errors) == ("over 0\n", 0, "")
