"""Autobahn's WebSocket cases, directly and through the proxy: both must be judged the same."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.conformance.autobahn_tool import Autobahn, made
from tests.conformance.programs import ProgramError, service
from tests.conformance.proxies import PROXIES, Place, certificate
from tests.conformance.score import Case, full

CASES = 517
# All of them take a quarter of an hour, most of it for messages that are compressed (12, 13).
LIMIT_S = 7200
RUN = "from autobahntestsuite.wstest import run; run()"
# How many cases that differ get another chance, and how often.
FEW, AGAIN = 10, 2


class Servers(NamedTuple):
    """The ports of the echo server and of the proxy before it; the names stand in the report."""

    direct: int
    proxied: int


class Verdict(NamedTuple):
    """What Autobahn says of one case of one server."""

    behavior: str
    closing: str
    close_code: int | None


def verdicts(text: str) -> dict[str, dict[str, Verdict]]:
    """The verdicts of a report's index, by server and case."""
    return {
        server: {
            case: Verdict(said["behavior"], said["behaviorClose"], said["remoteCloseCode"])
            for case, said in cases.items()
        }
        for server, cases in json.loads(text).items()
    }


def compared(direct: dict[str, Verdict], proxied: dict[str, Verdict]) -> list[Case]:
    """A case fails when the proxy changes its verdict, or its run lacks it."""
    names = sorted(direct, key=lambda name: [int(part) for part in name.split(".")])
    return [_case(name, direct[name], proxied.get(name)) for name in names]


def _case(name: str, direct: Verdict, proxied: Verdict | None) -> Case:
    if proxied is None:
        return Case(name, "failed", "not run through the proxy")
    if direct != proxied:
        one, other = (" ".join(map(str, verdict)) for verdict in (direct, proxied))
        return Case(name, "failed", f"directly {one}, through the proxy {other}")
    # What fails without the proxy says nothing of it.
    return Case(name, "skipped" if direct.behavior == "FAILED" else "passed")


def measure(tool: Autobahn, of: Servers, cases: list[str], folder: Path) -> list[Case]:
    """Run cases against both servers, one after the other, and compare."""
    spec = {
        "outdir": str(folder / "autobahn"),
        "servers": [
            {"agent": name, "url": f"ws://127.0.0.1:{port}"} for name, port in of._asdict().items()
        ],
        "cases": cases,
        "exclude-cases": [],
        "exclude-agent-cases": {},
    }
    file, index = folder / "autobahn.json", folder / "autobahn" / "index.json"
    file.write_text(json.dumps(spec))
    index.unlink(missing_ok=True)
    command = [tool.python, "-c", RUN, "--mode", "fuzzingclient", "--spec", str(file)]
    environment = {**os.environ, **tool.environment}
    ended = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=LIMIT_S
    )
    if not index.exists():
        last = "\n".join((ended.stdout + ended.stderr).splitlines()[-20:])
        raise ProgramError(f"autobahn: left no report\n{last}")
    found = verdicts(index.read_text())
    return compared(found.get("direct", {}), found.get("proxied", {}))


def settled(tool: Autobahn, of: Servers, cases: list[str], folder: Path) -> list[Case]:
    """Run cases; those that differ are run again, since some verdicts hang on who is faster.

    (4.2.5, say, is OK or NON-STRICT by whether an echo comes before the close.)
    """
    found = {case.name: case for case in measure(tool, of, cases, folder)}
    for _ in range(AGAIN):
        different = [case for case in found.values() if case.outcome == "failed"]
        if not 0 < len(different) <= FEW:
            break
        for case in different:
            print(f"autobahn: again: {case.name}: {case.detail}")
        names = [case.name for case in different]
        found |= {case.name: case for case in measure(tool, of, names, folder)}
    return list(found.values())


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What can be asked of this suite alone."""
    parser.add_argument("--cases", nargs="+", default=["*"], metavar="CASE", help="such as 7.*")
    parser.add_argument(
        "--over",
        choices=("http1", "h2"),
        default="http1",
        help="h2: through two proxies, with extended CONNECT between them",
    )


@contextmanager
def _before(asked: argparse.Namespace, folder: Path, origin: int) -> Iterator[int]:
    """The port before the echo server. Autobahn speaks HTTP/1.1: the second proxy makes extended
    CONNECT of it, and the first an upgrade again."""
    proxy, pair = PROXIES[asked.proxy], certificate(folder)
    with proxy(Place(folder, pair, origin, "websocket")) as ports:
        if asked.over == "http1":
            yield ports.plain
            return
        front = folder / "front"
        front.mkdir()
        with proxy(Place(front, pair, ports.plain, "websocket-h2")) as outer:
            yield outer.plain


def run(asked: argparse.Namespace, folder: Path) -> bool:
    """The same cases against an echo server and against the proxy before it."""
    tool = made(asked.tools)
    # 9.3.1 and 9.4.1 send 4 MiB in 65,536 fragments, which the server would refuse.
    environment = {"PYTHONPATH": tool.echo_path, "WEBSOCKETS_MAX_FRAGMENTS": "100000"}
    with (
        service("echo", folder, environment) as origin,
        _before(asked, folder, origin) as port,
    ):
        cases = settled(tool, Servers(origin, port), asked.cases, folder)
    return full(f"autobahn {asked.over}", cases, CASES if asked.cases == ["*"] else 1)
