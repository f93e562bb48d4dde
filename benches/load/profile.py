"""`python -m benches.load.profile`: where the CPU of a request goes.

User and kernel time by ticks; their parts, and the functions that have most of it, by samples of
the program's clock (perf); and calls of Python and of the core, counted in a second run. Shares are
good to a percent or two, and a figure in microseconds is this machine's in this minute: what is
compared are shares and calls. `perf` is of the Debian package linux-perf.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from benches.load import configs
from benches.load.__main__ import Run, measure
from benches.load.idle import allow_files
from benches.load.machine import PROXY_CORE, Process, free_port
from benches.load.proxies import origins, prepare
from benches.load.scenarios import SCENARIOS

KEYS = ("plain", "layer", "tls", "16k", "1m", "1m up", "handshake", "h2 8x16", "h2 h2", "grpc")
SAMPLES_PER_S = 4999
# What a sample's object is part of; the first that its name has.
PARTS = {
    "[kernel": "kernel",
    "_core": "core (Rust)",
    "loop.cpython": "loop (uvloop)",
    "python": "interpreter",
    "libc.so": "libc",
}
COUNT_S = 10.0


class Sample(NamedTuple):
    """A function's share of all time."""

    share: float
    part: str
    symbol: str


def part_of(name: str) -> str:
    """What a shared object belongs to."""
    return next((part for word, part in PARTS.items() if word in name), "other")


def read_report(text: str) -> list[Sample]:
    """The lines of `perf report`, of three columns parted by `|`; `ValueError` if there is none."""
    samples = []
    for line in text.splitlines():
        found = re.match(r"\s*([\d.]+)%\s*\|\s*(\S+)\s*\|\s*\[.\] (.*)", line)
        if found:
            samples.append(Sample(float(found[1]) / 100, part_of(found[2]), found[3].strip()))
    if not samples:
        raise ValueError(f"no samples in:\n{text}")
    return samples


@contextlib.contextmanager
def _started(folder: Path, command: list[str]) -> Iterator[tuple[Process, configs.Ports]]:
    """A proxy, which is given its configuration in place of `{}`."""
    with contextlib.ExitStack() as stack:
        ends, plain = origins(folder, stack), free_port()
        ports = configs.Ports(plain, free_port(), free_port(), plain, ends, str(folder), 1)
        file = folder / "profile.yaml"
        file.write_text(configs.meshcore(ports))
        given = [sys.executable, "-m", *(word.replace("{}", str(file)) for word in command)]
        yield stack.enter_context(Process("meshcore", given, plain, PROXY_CORE)), ports


def sampled(folder: Path, key: str, seconds: int) -> None:
    """Time, its parts, and the functions that have most of it."""
    run = Run(1, seconds, [key], [])
    with _started(folder, ["meshcore", "run", "{}", "--workers", "1"]) as (process, ports):
        measure(process, ports, SCENARIOS[key], Run(1, 1, [key], []))  # warms up
        data = str(folder / "perf.data")
        pid = str(process.pids()[-1])
        record = ["perf", "record", "--quiet", "-e", "cpu-clock", "-F", str(SAMPLES_PER_S)]
        perf = subprocess.Popen([*record, "-p", pid, "-o", data])
        try:
            load = measure(process, ports, SCENARIOS[key], run)
        finally:
            perf.send_signal(signal.SIGINT)
            perf.wait()
        report = ["perf", "report", "--stdio", "-t", "|", "-i", data, "-F", "overhead,dso,symbol"]
        text = subprocess.run(report, capture_output=True, text=True, check=True).stdout
    print(f"{key}: {load.us:.2f} us a request, {load.user_us:.2f} of the user's")
    samples = read_report(text)
    for part in dict.fromkeys((*PARTS.values(), "other")):
        share = sum(sample.share for sample in samples if sample.part == part)
        print(f"  {share:6.1%}  {share * load.us:6.2f} us  {part}")
    for sample in sorted(samples, reverse=True)[:12]:
        print(f"    {sample.share:6.1%}  {sample.part}: {sample.symbol[:70]}")


def counted(folder: Path, key: str) -> None:
    """Calls of Python and of the core a request."""
    file = folder / "counts.json"
    file.unlink(missing_ok=True)
    with _started(folder, ["benches.load.counted", "{}", str(file)]) as (process, ports):
        run, scenario = Run(1, 1, [key], []), SCENARIOS[key]
        measure(process, ports, scenario, run)  # what is done for a connection is done
        os.kill(process.pids()[-1], signal.SIGUSR1)
        load = measure(process, ports, scenario, run).load
        os.kill(process.pids()[-1], signal.SIGUSR1)
        end = time.monotonic() + COUNT_S
        while not file.exists():
            if time.monotonic() > end:
                raise TimeoutError("the proxy did not say what it counted")
            time.sleep(0.02)
    calls = {name: number / load.requests for name, number in json.loads(file.read_text()).items()}
    for kind in ("python", "core"):
        of_kind = {name.partition(" ")[2]: n for name, n in calls.items() if name.startswith(kind)}
        print(f"  {sum(of_kind.values()):6.1f} calls of {kind} a request, of them")
        for name, number in sorted(of_kind.items(), key=lambda item: -item[1]):
            if number >= 0.1:
                print(f"    {number:6.2f}  {name}")


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(prog="benches.load.profile", description=__doc__)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--only", nargs="+", choices=KEYS, default=KEYS)
    asked = parser.parse_args()
    allow_files()
    with tempfile.TemporaryDirectory(prefix="meshcore-profile-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # nginx reads its files as another user
        prepare(folder)
        for key in asked.only:
            sampled(folder, key, asked.seconds)
            counted(folder, key)


if __name__ == "__main__":
    main()
