"""`python -m benches.load.tls`: handshakes at a fixed rate, and what idle connections hold."""

from __future__ import annotations

import argparse
import contextlib
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from benches.load.idle import WARM_UP, again, believing, connect, hold, settled
from benches.load.machine import LOAD_CORE, PROXY_CORE, Process, free_port
from benches.load.proxies import prepare

CONNECTIONS, MANY = 2_000, 10_000
OPEN_KIB, LEFT_KIB = 8, 2
# Behind which the core's allocator has given back what it had kept for them.
LATER = 200
# The clients' ends of the largest test, and room.
OPEN_FILES = MANY + 1_000
# Behind the time that the handshakes should take.
PATIENCE_S = 60


class Handshakes(NamedTuple):
    """What became of connections that were begun at a fixed rate."""

    done: int
    failed: int
    seconds: float

    @property
    def per_second(self) -> float:
        """Of those that were answered."""
        return self.done / self.seconds


def parse(text: str) -> Handshakes:
    """The closing lines of h2load, whose requests may have failed; `ValueError` without them.

    A request whose connection did not come up is in none of its counts but the total.
    """
    finished = re.search(r"^finished in ([\d.]+)(us|ms|s),", text, re.MULTILINE)
    counts = re.search(r"^requests: (\d+) total, .* (\d+) succeeded", text, re.MULTILINE)
    good = re.search(r"^status codes: (\d+) 2xx", text, re.MULTILINE)
    if finished is None or counts is None or good is None:
        raise ValueError(f"no closing lines in:\n{text}")
    done = min(int(counts[2]), int(good[1]))
    seconds = float(finished[1]) * {"us": 1e-6, "ms": 1e-3, "s": 1.0}[finished[2]]
    return Handshakes(done, int(counts[1]) - done, seconds)


def handshakes(port: int, per_second: int, seconds: int) -> Handshakes:
    """A connection, a whole handshake and a request each."""
    count = str(per_second * seconds)
    command = ["taskset", "-c", str(LOAD_CORE), "h2load", "--h1", "-t1"]
    command += ["-n", count, "-c", count, "-r", str(per_second)]
    ended = subprocess.run(
        [*command, f"https://127.0.0.1:{port}/"],
        capture_output=True,
        text=True,
        check=True,
        timeout=seconds + PATIENCE_S,
    )
    return parse(ended.stdout)


@contextlib.contextmanager
def proxy(folder: Path) -> Iterator[tuple[Process, int]]:
    """A worker that answers by itself, and its port of TLS."""
    tls, plain = free_port(), free_port()
    answers = '{status: 200, body: "hello\\n.\\n"}'
    file = folder / "tls.yaml"
    file.write_text(f"""
version: 1
admin: {{bind: "127.0.0.1:0"}}
drain: 100ms
listeners:
  plain: {{bind: "127.0.0.1:{plain}"}}
  tls:
    bind: 127.0.0.1:{tls}
    tls: {{cert: {folder}/cert.pem, key: {folder}/key.pem}}
    limits: {{connections: {2 * MANY}, handshakes: {MANY}}}
    timeouts: {{idle: 10m}}
routes:
  - {{name: all, match: {{path: {{prefix: /}}}}, respond: {answers}}}
""")
    command = [sys.executable, "-m", "meshcore", "run", str(file), "--workers", "1"]
    with Process("meshcore", command, plain, PROXY_CORE) as started:
        yield started, tls


def _said(kept: bool) -> str:
    return "ok" if kept else "MISSED"


def _rate(port: int, per_second: int, seconds: int) -> None:
    found = handshakes(port, per_second, seconds)
    kept = not found.failed and found.per_second >= 0.95 * per_second
    print(
        f"handshakes: {found.done} in {found.seconds:.1f} s, {found.per_second:.0f}/s, "
        f"{found.failed} failed; {per_second}/s {_said(kept)}"
    )


def _memory(process: Process, port: int, folder: Path) -> None:
    context = believing(folder)
    for _ in range(WARM_UP):
        connect(port, context).close()
    # The first time it has what allocators then keep; the second tells whether that grows.
    for time_of in ("the first time", "a second time"):
        before = process.rss_kib()
        held = hold(process, CONNECTIONS, lambda: [connect(port, context)])
        for each in [connect(port, context) for _ in range(LATER)]:
            each.close()
        later_kib = (settled(process) - before) / CONNECTIONS
        open_said, left_said = _said(held.open_kib <= OPEN_KIB), _said(held.closed_kib <= LEFT_KIB)
        print(
            f"{CONNECTIONS} idle connections, {time_of}: {held.open_kib:.2f} KiB each "
            f"<= {OPEN_KIB} {open_said}; left when closed: {held.closed_kib:.2f} "
            f"<= {LEFT_KIB} {left_said}; behind {LATER} others: {later_kib:.2f}"
        )


def _many(process: Process, port: int, folder: Path) -> None:
    context = believing(folder)
    before, began = process.rss_kib(), time.monotonic()
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(connect(port, context)) for _ in range(MANY)]
        opened_s, each = time.monotonic() - began, (process.rss_kib() - before) / MANY
        answered = sum(map(again, held))
    print(
        f"{MANY} idle connections: opened in {opened_s:.0f} s, {each:.2f} KiB each; "
        f"{answered} answered when asked again {_said(answered == MANY)}"
    )


def main() -> None:
    """Parse, run, print; each part with a worker of its own."""
    parser = argparse.ArgumentParser(prog="benches.load.tls", description=__doc__)
    parser.add_argument("--per-second", type=int, default=2_000)
    parser.add_argument("--seconds", type=int, default=60)
    asked = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(OPEN_FILES, hard), hard))
    with tempfile.TemporaryDirectory(prefix="meshcore-tls-") as name:
        folder = Path(name)
        prepare(folder)
        with proxy(folder) as (_, port):
            _rate(port, asked.per_second, asked.seconds)
        with proxy(folder) as (process, port):
            _memory(process, port, folder)
        with proxy(folder) as (process, port):
            _many(process, port, folder)


if __name__ == "__main__":
    main()
