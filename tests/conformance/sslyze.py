"""sslyze: what a listener of TLS offers, and the attacks that have a name."""

from __future__ import annotations

import argparse
import json
import operator
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.conformance.programs import ProgramError
from tests.conformance.score import Case, full
from tests.conformance.tls_listeners import Offer, listening

REQUIREMENTS = Path(__file__).with_name("sslyze.txt")
LIMIT_S = 300
SUITES_1_3 = {"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"}
SUITES_1_2 = ("AES_128_GCM_SHA256", "AES_256_GCM_SHA384", "CHACHA20_POLY1305_SHA256")
CURVES = {"X25519", "secp256r1", "secp384r1"}
OLD = {"ssl_2_0", "ssl_3_0", "tls_1_0", "tls_1_1"}

# All that is judged; what sslyze thinks of the certificates is not.
ASKED = [
    f"--{test}"
    for test in (
        *("sslv2", "sslv3", "tlsv1", "tlsv1_1", "tlsv1_2", "tlsv1_3", "elliptic_curves"),
        *("heartbleed", "openssl_ccs", "robot", "compression", "reneg", "ems", "fallback"),
    )
]

Scan = dict[str, Any]


# The same of every listener: what of the scan, and what it must be.
FLAWS: dict[str, tuple[str, object]] = {
    "heartbleed": ("is_vulnerable_to_heartbleed", False),
    "openssl_ccs_injection": ("is_vulnerable_to_ccs_injection", False),
    "robot": ("robot_result", "NOT_VULNERABLE_RSA_NOT_SUPPORTED"),
    "tls_compression": ("supports_compression", False),
}
# Of a listener that speaks TLS 1.2 too: a scanner of that alone asks.
OF_1_2: dict[str, tuple[str, object]] = {
    "session_renegotiation": ("is_vulnerable_to_client_renegotiation_dos", False),
    "tls_extended_master_secret": ("supports_ems_extension", True),
    "tls_fallback_scsv": ("supports_fallback_scsv", True),
}


def judge(offer: Offer, scan: Scan) -> list[Case]:
    """What a scan found, beside what `docs/tls.md` says is offered."""
    versions = offer.versions
    wanted = {"tls_1_3": SUITES_1_3, **{old: set[str]() for old in OLD}}
    of_1_2 = {f"TLS_ECDHE_{kind}_WITH_{suite}" for kind in offer.kinds for suite in SUITES_1_2}
    wanted["tls_1_2"] = of_1_2 if "1.2" in versions else set()
    cases = []
    for version, suites in wanted.items():
        cases.append(_case(f"{version}_cipher_suites", scan, _suites, suites))
    cases.append(_case("elliptic_curves", scan, _curves, CURVES))
    flaws = FLAWS | (OF_1_2 if "1.2" in versions else {})
    for test, (field, right) in flaws.items():
        cases.append(_case(test, scan, operator.itemgetter(field), right))
    return cases


def _suites(found: Scan) -> set[str]:
    return {each["cipher_suite"]["name"] for each in found["accepted_cipher_suites"]}


def _curves(found: Scan) -> set[str]:
    return {each["name"] for each in found["supported_curves"] or ()}


def _case(test: str, scan: Scan, read: Callable[[Scan], object], right: object) -> Case:
    ended = scan[test]
    if ended["status"] != "COMPLETED":
        return Case(test, "failed", f"{ended['status']} {ended['error_reason']}")
    found = read(ended["result"])
    return Case(test, "passed" if found == right else "failed", f"{found} in place of {right}")


def built(folder: Path) -> Path:
    """Its program, in a virtual environment of its own that is made if it is not there."""
    made = folder / "sslyze-6.3.1"
    program = made / "bin" / "sslyze"
    if not program.exists():
        print(f"installing {made.name}", flush=True)
        # What this package was tested with has other versions of the same.
        env = {name: value for name, value in os.environ.items() if name != "PIP_CONSTRAINT"}
        for command in (
            [sys.executable, "-m", "venv", str(made)],
            [str(made / "bin/pip"), "install", "--quiet", "--no-deps", "-r", str(REQUIREMENTS)],
        ):
            ended = subprocess.run(command, env=env, capture_output=True, text=True)
            if ended.returncode:
                raise ProgramError(f"missing: sslyze\n{ended.stderr}")
    return program


def add_arguments(_: argparse.ArgumentParser) -> None:
    """Nothing can be asked of this suite alone."""


def run(asked: argparse.Namespace, folder: Path) -> bool:
    """Each kind of key, and both at once, with each policy."""
    program = built(asked.tools)
    report = folder / "sslyze.json"
    with listening(folder) as ports:
        targets = [f"127.0.0.1:{port}" for port in ports.values()]
        scan = [str(program), f"--json_out={report}", "--mozilla_config=disable", *ASKED, *targets]
        subprocess.run(scan, capture_output=True, text=True, timeout=LIMIT_S)
    if not report.exists():
        raise ProgramError("sslyze left no report")
    found = {
        each["server_location"]["port"]: each["scan_result"]
        for each in json.loads(report.read_text())["server_scan_results"]
    }
    whole = True
    for offer, port in ports.items():
        cases = judge(offer, found[port]) if found.get(port) else []
        expected = 7 + len(FLAWS) + (len(OF_1_2) if "1.2" in offer.versions else 0)
        whole = full(f"sslyze {offer.title}", cases, expected) and whole
    return whole
