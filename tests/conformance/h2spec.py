"""h2spec, strict, over h2c by prior knowledge and over TLS by ALPN."""

from __future__ import annotations

import argparse
import subprocess
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from tests.conformance.programs import service
from tests.conformance.proxies import PROXIES, Place, certificate
from tests.conformance.score import Case, full
from tests.conformance.tools import H2SPEC, built

# Of version 2.2.1 with `--strict`.
CASES = 146
# Every case can wait twice for the answer that does not come.
PATIENCE_S = 3
LIMIT_S = 2 * PATIENCE_S * CASES


class Target(NamedTuple):
    """What is tried, and how it is spoken to."""

    host: str
    port: int
    tls: bool

    @property
    def label(self) -> str:
        """As it stands before the score."""
        return f"h2spec {'TLS' if self.tls else 'h2c'}"


def parse(text: str) -> list[Case]:
    """The cases of h2spec's JUnit report; it tells a failure as `error`."""
    cases = []
    for case in ElementTree.fromstring(text).iter("testcase"):
        name = f"{case.get('package')} {case.get('classname')}"
        wrong = next((found for found in case if found.tag in ("error", "failure")), None)
        if wrong is not None:
            cases.append(Case(name, "failed", _expectation(wrong.text or "")))
        else:
            cases.append(Case(name, "passed" if case.find("skipped") is None else "skipped"))
    return cases


def _expectation(text: str) -> str:
    """The last line is what came, those before it are what would have been right."""
    *wanted, came = text.strip().splitlines() or [""]
    return f"got {came}" + (f", expected {' or '.join(wanted)}" if wanted else "")


def measure(tool: Path, target: Target, folder: Path) -> list[Case]:
    """Run every case."""
    report = folder / "h2spec.xml"
    report.unlink(missing_ok=True)
    command = [
        *(str(tool), "-h", target.host, "-p", str(target.port), "-o", str(PATIENCE_S)),
        *("--strict", "-j", str(report), *(["-t", "-k"] if target.tls else [])),
    ]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        return [Case("all", "failed", f"not over after {LIMIT_S} s")]
    if not report.exists():
        # It gives up, without a report, when the target no longer takes connections.
        last = "\n".join((ended.stdout + ended.stderr).splitlines()[-20:])
        return [Case("all", "failed", last)]
    return parse(report.read_text())


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What can be asked of this suite alone."""
    parser.add_argument("--against", metavar="HOST:PORT", help="a server that already runs")
    parser.add_argument("--tls", action="store_true", help="speak TLS to it")


def run(asked: argparse.Namespace, folder: Path) -> bool:
    """Both listeners of a proxy, or the one server that was named."""
    tool = built(H2SPEC, asked.tools)
    if asked.against:
        host, _, port = asked.against.rpartition(":")
        return _told(tool, Target(host, int(port), asked.tls), folder)
    with service("origin", folder) as origin:
        # Where HTTP/1.1 is spoken too, what is no preface (3.5, the second case) is a request of
        # that: the answer is 400, but h2spec wants nothing before the close.
        place = Place(folder, certificate(folder), origin, "h1", only_h2=True)
        with PROXIES[asked.proxy](place) as ports:
            plain = _told(tool, Target("127.0.0.1", ports.plain, tls=False), folder)
            return _told(tool, Target("127.0.0.1", ports.tls, tls=True), folder) and plain


def _told(tool: Path, target: Target, folder: Path) -> bool:
    return full(target.label, measure(tool, target, folder), CASES)
