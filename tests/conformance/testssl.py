"""testssl.sh: versions, suites, groups, the attacks that have a name, each with its severity."""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import TypedDict

from tests.conformance.programs import ProgramError
from tests.conformance.score import Case, full
from tests.conformance.tls_listeners import Offer, listening

LIMIT_S = 600
# What is offered, in which order, with forward secrecy or not, and every attack that it knows. What
# it thinks of a certificate's authority and of fields of an application is not asked.
ASKED = ["--protocols", "--std", "--fs", "--server-preference", "--vulnerable"]
EXPECTED = 40
"""So many findings at least: a scan that could not connect has few."""
RIGHT = ("OK", "INFO")
"""Severities; all others are failures, those that it calls low too."""


class Finding(TypedDict):
    """A line of its report."""

    id: str
    severity: str
    finding: str


def judge(findings: Iterable[Finding]) -> list[Case]:
    """Each finding as a case."""
    return [
        Case(
            each["id"],
            "passed" if each["severity"] in RIGHT else "failed",
            f"{each['severity']}: {each['finding']}",
        )
        for each in findings
    ]


def add_arguments(_: argparse.ArgumentParser) -> None:
    """Nothing can be asked of this suite alone."""


def _scan(program: str, offer: Offer, port: int, folder: Path) -> list[Finding]:
    report = folder / f"testssl-{offer.name}.json"
    quiet = ["--quiet", "--color", "0", "--warnings", "batch", "--jsonfile", str(report)]
    command = [program, *quiet, *ASKED, f"localhost:{port}"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S)
    if not report.exists():
        raise ProgramError(f"testssl.sh left no report\n{ended.stdout}{ended.stderr}")
    found: list[Finding] = json.loads(report.read_text())
    return found


def run(asked: argparse.Namespace, folder: Path) -> bool:
    """Each kind of key, and both at once, with each policy."""
    program = shutil.which("testssl") or shutil.which("testssl.sh")
    if program is None:
        raise ProgramError("missing: testssl.sh (Debian: apt-get install testssl.sh)")
    whole = True
    with listening(folder) as ports:
        for offer, port in ports.items():
            cases = judge(_scan(program, offer, port, folder))
            whole = full(f"testssl.sh {offer.title}", cases, EXPECTED) and whole
    return whole
