"""Autobahn's WebSocket test suite with the Python 2.7 that it needs, made once in a folder.

Debian had Python 2.7 up to bullseye: its packages come from the mirror that apt uses here, and are
unpacked, not installed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.conformance.programs import ProgramError

NAME = "autobahn-25.10.1"
DEBIAN = (
    *("python2.7-minimal", "libpython2.7-minimal", "libpython2.7-stdlib", "libpython2.7-dev"),
    *("libffi7", "libssl1.1"),
)
REQUIREMENTS = Path(__file__).with_name("autobahn.txt")
# The last that run on Python 2.
PIP, BUILD = "pip==20.3.4", ("setuptools==44.1.1", "wheel==0.37.1")
ECHO = "websockets==17.4"

SOURCES = "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] {mirror} bullseye main\n"
# Lists and cache of its own: the machine's apt neither sees nor keeps anything of it.
APT = """
Dir::Etc::sourcelist "{apt}/sources.list";
Dir::Etc::sourceparts "-";
Dir::State::lists "{apt}/lists";
Dir::Cache "{apt}/cache";
APT::Sandbox::User "";
Acquire::Languages "none";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
"""


class Autobahn(NamedTuple):
    """The folder that has it."""

    folder: Path

    @property
    def python(self) -> str:
        """The interpreter."""
        return str(self.folder / "root/usr/bin/python2.7")

    @property
    def environment(self) -> dict[str, str]:
        """What the interpreter must be told."""
        root = self.folder / "root/usr"
        libraries = sorted(map(str, root.glob("lib/*-linux-gnu*")))
        headers = [root / "include", root / "include/python2.7"]
        return {
            "PYTHONHOME": str(root),
            "PYTHONPATH": str(self.folder / "site"),
            "LD_LIBRARY_PATH": ":".join(libraries),
            "CFLAGS": " ".join(f"-I{folder}" for folder in headers),
            "PIP_CONSTRAINT": "",  # of this project, whose packages are others
        }

    @property
    def echo_path(self) -> str:
        """Where the echo server finds what it imports."""
        return str(self.folder / "echo")


def made(folder: Path) -> Autobahn:
    """The suite, made if it is not there."""
    whole = Autobahn(folder / NAME)
    if not whole.folder.exists():
        _need()
        print(f"building {NAME}", flush=True)
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as work:
            part = Autobahn(Path(work) / NAME)
            part.folder.mkdir()
            _unpack(part, Path(work) / "apt")
            _install(part, Path(work))
            # At once: what is cut leaves nothing that looks whole.
            part.folder.replace(whole.folder)
    return whole


def _need() -> None:
    for command, package in (("apt-get", "apt"), ("dpkg", "dpkg"), ("cc", "gcc")):
        if shutil.which(command) is None:
            raise ProgramError(f"missing: {command} (Debian: apt-get install {package})")


def _unpack(into: Autobahn, apt: Path) -> None:
    for name in ("lists/partial", "cache/archives/partial"):
        (apt / name).mkdir(parents=True)
    listed = _run(["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"])
    mirrors = [uri for uri in listed.split() if uri.rstrip("/").endswith("/debian")]
    if not mirrors:
        raise ProgramError("missing: a mirror of Debian among apt's sources")
    (apt / "sources.list").write_text(SOURCES.format(mirror=mirrors[0]))
    (apt / "apt.conf").write_text(APT.format(apt=apt))
    environment = {"APT_CONFIG": str(apt / "apt.conf")}
    _run(["apt-get", "update"], environment)
    _run(["apt-get", "download", *DEBIAN], environment, cwd=apt)
    for package in apt.glob("*.deb"):
        _run(["dpkg", "-x", str(package), str(into.folder / "root")])


def _install(into: Autobahn, work: Path) -> None:
    ours = [sys.executable, "-m", "pip"]
    plain = {"PIP_CONSTRAINT": "", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    echo = ["--no-deps", "--target", into.echo_path, ECHO]
    _run([*ours, "install", "--quiet", *echo], plain)
    _run([*ours, "download", "--quiet", "--no-deps", "--dest", str(work), PIP], plain)
    (pip,) = work.glob("pip-*.whl")
    site = into.folder / "site"
    install = [into.python, f"{pip}/pip", "install", "--no-deps", "--target", str(site)]
    _run([*install, *BUILD], into.environment)
    _run([*install, "--requirement", str(REQUIREMENTS)], into.environment)
    # A name space of setuptools', which is found only in folders that `site` reads.
    (site / "zope/__init__.py").touch()


def _run(
    command: Sequence[str], env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> str:
    ended = subprocess.run(
        command, cwd=cwd, env={**os.environ, **(env or {})}, capture_output=True, text=True
    )
    if ended.returncode:
        raise ProgramError(f"{' '.join(command)}\n{ended.stdout}{ended.stderr}")
    return ended.stdout
