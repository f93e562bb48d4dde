"""`python -m tests.conformance SUITE`: exit code 0 for a full score, else 1."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.conformance import autobahn, grpc_interop, h2spec, peers, sslyze, testssl, tools
from tests.conformance.programs import ROOT, ProgramError
from tests.conformance.proxies import PROXIES

SUITES = {
    "h2spec": h2spec,
    "grpc": grpc_interop,
    "autobahn": autobahn,
    "sslyze": sslyze,
    "testssl": testssl,
    "peers": peers,
}
# Where programs are kept, unless `--tools` says so.
KEPT = Path(os.environ.get("CONFORMANCE_TOOLS", ROOT / "target" / "tools"))


def parser() -> argparse.ArgumentParser:
    """The suites as subcommands, and `tools`, which only builds."""
    top = argparse.ArgumentParser(prog="tests.conformance", description=__doc__)
    top.add_argument("--tools", type=Path, default=KEPT, metavar="FOLDER")
    top.add_argument("--work", type=Path, metavar="FOLDER", help="keep logs and reports there")
    commands = top.add_subparsers(dest="suite", required=True)
    commands.add_parser("tools", help=tools.__doc__)
    for name, suite in SUITES.items():
        command = commands.add_parser(name, help=suite.__doc__)
        command.add_argument("--proxy", choices=list(PROXIES), default="meshcore")
        suite.add_arguments(command)
    return top


@contextmanager
def working(kept: Path | None) -> Iterator[Path]:
    """A folder for configurations, logs and reports."""
    if kept is None:
        with tempfile.TemporaryDirectory(prefix="meshcore-conformance-") as folder:
            yield Path(folder)
    else:
        kept.mkdir(parents=True, exist_ok=True)
        yield kept.resolve()


def main() -> int:
    """Parse, run, and say in one line what was missing."""
    asked = parser().parse_args()
    asked.tools = asked.tools.resolve()
    # Ends the children too, as every way out of the blocks does.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        if asked.suite == "tools":
            for tool in tools.TOOLS:
                tools.built(tool, asked.tools)
            return 0
        with working(asked.work) as folder:
            return 0 if SUITES[asked.suite].run(asked, folder) else 1
    except (ProgramError, subprocess.TimeoutExpired) as failed:
        print(failed, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
