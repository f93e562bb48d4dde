"""Listeners of TLS that scanners look at: each kind of key, and both at once, with each policy."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.conformance.programs import Program

# By kind of key: what `openssl req` is told.
KEYS = {"ECDSA": "ec -pkeyopt ec_paramgen_curve:P-256", "RSA": "rsa:2048"}
POLICIES = {"intermediate": ("1.2", "1.3"), "modern": ("1.3",)}


class Offer(NamedTuple):
    """A listener: of which kinds its keys are, and its policy."""

    kinds: tuple[str, ...]
    policy: str

    @property
    def name(self) -> str:
        """Of the listener."""
        return "-".join((*self.kinds, self.policy)).lower()

    @property
    def title(self) -> str:
        """For people."""
        return f"{' and '.join(self.kinds)} {self.policy}"

    @property
    def versions(self) -> tuple[str, ...]:
        """Of TLS."""
        return POLICIES[self.policy]


OFFERS = [Offer(kinds, x) for kinds in (*((kind,) for kind in KEYS), (*KEYS,)) for x in POLICIES]


def _mesh(folder: Path) -> str:
    listeners = ""
    for key, how in KEYS.items():
        made = ["-keyout", str(folder / f"{key}.key"), "-out", str(folder / f"{key}.pem")]
        new = f"openssl req -x509 -newkey {how} -nodes -days 2 -subj /CN=localhost"
        subprocess.run([*new.split(), *made], check=True, capture_output=True)
    for offer in OFFERS:
        pairs = [f"cert: {folder}/{kind}.pem, key: {folder}/{kind}.key" for kind in offer.kinds]
        further = ", ".join(f"{{{pair}}}" for pair in pairs[1:])
        listeners += f"  {offer.name}:\n    bind: 127.0.0.1:0\n"
        listeners += f"    tls: {{{pairs[0]}, certificates: [{further}], policy: {offer.policy}}}\n"
    route = "{name: all, match: {path: {prefix: /}}, respond: {status: 200}}"
    return f"version: 1\ndrain: 100ms\nlisteners:\n{listeners}routes:\n  - {route}\n"


@contextmanager
def listening(folder: Path) -> Iterator[dict[Offer, int]]:
    """A program with all of them; the port of each."""
    file = folder / "mesh.yaml"
    file.write_text(_mesh(folder))
    command = [sys.executable, "-m", "meshcore", "run", str(file)]
    with Program("meshcore", command, folder / "meshcore.log") as mesh:
        yield {
            offer: int(mesh.said(rf"127\.0\.0\.1:(\d+) \({offer.name}\)")[1]) for offer in OFFERS
        }
