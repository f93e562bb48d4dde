"""The other ends of TLS: programs on Go's and Java's own libraries, OpenSSL and curl.

Each asks, and says in a few words what became of it: what was agreed and answered, or the alert
that it met; those that can serve are started with what they are to insist on.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.conformance.programs import Program, ProgramError

SOURCES = Path(__file__).with_name("peer_sources")
LIMIT_S = 60
# What alerts are called, in all their spellings: with spaces in lower case.
ALERTS = (
    "certificate required",
    "protocol version",
    "no application protocol",
    "handshake failure",
    "unknown ca",
)

Options = Mapping[str, str]


class Pair(NamedTuple):
    """A certificate with its key: PEM, and PKCS#12 with the password `pair`."""

    chain: Path
    key: Path
    both: Path


class Tools(NamedTuple):
    """What was built."""

    go: Path
    java: Path


def built(folder: Path) -> Tools:
    """Both programs, anew: that takes seconds. Raises `ProgramError` for what is missing."""
    for command, package in (
        ("go", "golang"),
        ("javac", "default-jdk-headless"),
        ("openssl", "openssl"),
        ("curl", "curl"),
    ):
        if shutil.which(command) is None:
            raise ProgramError(f"missing: {command} (Debian: apt-get install {package})")
    folder.mkdir(parents=True, exist_ok=True)
    made = Tools(folder / "tls-peer", folder)
    with tempfile.TemporaryDirectory(dir=folder) as module:
        shutil.copy(SOURCES / "peer.go", module)
        _done(["go", "mod", "init", "peer"], module)
        _done(["go", "build", "-o", str(made.go), "."], module)
    _done(["javac", "-d", str(made.java), str(SOURCES / "Peer.java")], folder)
    return made


def _done(command: list[str], folder: Path | str) -> None:
    env = {**os.environ, "GOWORK": "off"}
    ended = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
    if ended.returncode:
        raise ProgramError(f"{' '.join(command)}\n{ended.stderr}")


def alert_in(text: str) -> str:
    """The alert that a message tells of; the message where it tells of none."""
    plain = text.lower().replace("_", " ")
    found = next((alert for alert in ALERTS if alert in plain), None)
    return f"refused: {found}" if found else text.strip()


def _flags(options: Options, dash: str = "-") -> list[str]:
    return [part for key, value in options.items() for part in (f"{dash}{key}", value)]


def _run(command: list[str], said: str = "") -> tuple[str, str]:
    ended = subprocess.run(
        command, input=said, capture_output=True, text=True, timeout=LIMIT_S, errors="replace"
    )
    return ended.stdout, ended.stderr


def ask_go(tools: Tools, options: Options) -> str:
    """`1.3 h2 HTTP/2.0 200`, or over HTTP/1.1 `1.3 http/1.1 200 NAME resumed 0`."""
    plain = ["-plain"] if "plain" in options else []
    others = {key: value for key, value in options.items() if key not in ("plain", "pair")}
    return _told(_run([str(tools.go), "client", *plain, *_flags(others)]))


def ask_java(tools: Tools, options: Options) -> str:
    """As `ask_go`."""
    others = {key: value for key, value in options.items() if key not in ("cert", "key")}
    return _told(_run(["java", "-cp", str(tools.java), "Peer", "client", *_flags(others)]))


def _told(ended: tuple[str, str]) -> str:
    out = ended[0].strip()
    return alert_in(out) if out.startswith("failed") or not out else out


def ask_openssl(_: Tools, options: Options) -> str:
    """`1.3 http/1.1 200`; `updated` behind it when that was asked for."""
    command = ["openssl", "s_client", "-connect", options["at"], "-CAfile", options["ca"]]
    command += ["-servername", options["name"], "-verify_return_error", "-ign_eof"]
    command += ["-verify_hostname", options["name"].lower().rstrip(".")]
    if "alpn" in options:
        command += ["-alpn", options["alpn"]]
    if "cert" in options:
        command += ["-cert", options["cert"], "-key", options["key"]]
    if options.get("max") in ("1.1", "1.2"):
        command += [f"-tls{options['max'].replace('.', '_')}", "-cipher", "DEFAULT:@SECLEVEL=0"]
    for way in ("sess_out", "sess_in"):
        if way in options:
            command += [f"-{way}", options[way]]
    request = f"GET / HTTP/1.1\r\nhost: {options['name']}\r\nconnection: close\r\n\r\n"
    if "update" in options:
        return _openssl_updates([word for word in command if word != "-ign_eof"], request)
    if options.get("alpn") == "h2":
        request = ""  # it speaks no HTTP/2: what was agreed is all
        command.remove("-ign_eof")
    return _openssl_met(*_run(command, request))


def _openssl_met(out: str, error: str) -> str:
    version = re.search(r"^(New|Reused), TLSv([\d.]+)", out, re.MULTILINE)
    if version is None or "alert" in error:
        return alert_in(error)
    chosen = re.search(r"^ALPN protocol: (\S+)", out, re.MULTILINE)
    status = re.search(r"HTTP/1\.1 (\d+)", out)
    torn = "unexpected eof" in error
    words = [version[2], chosen[1] if chosen else "-", status[1] if status else "-"]
    words += ["resumed"] if version[1] == "Reused" else []
    return " ".join([*words, *(["torn"] if torn else [])])


def _openssl_updates(command: list[str], request: str) -> str:
    """Its keys change before the request: a line that begins with K asks for that."""
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdin.write("K\n")
        child.stdin.flush()
        heard = ""
        while (line := child.stderr.readline()) and "KEYUPDATE" not in line:
            heard += line
        if not line:
            return alert_in(heard)
        child.stdin.write(request)
        child.stdin.flush()
        return f"{_openssl_met(child.stdout.read(), '')} updated"


def ask_curl(_: Tools, options: Options) -> str:
    """`1.3 2 200`: the second is the version of HTTP."""
    host, port = options["at"].split(":")
    name = options["name"]
    form = "%{http_version} %{http_code}\\n"
    command = ["curl", "-sS", "-v", "-o", "/dev/null", "-w", form, "--max-time", "30"]
    command += ["--connect-to", f"{name}:{port}:{host}:{port}"]
    if "plain" in options:
        return _run([*command, f"http://{name}:{port}/"])[0].strip()
    command += ["--cacert", options["ca"]]
    command += ["--http2" if options.get("alpn") == "h2" else "--http1.1"]
    if "cert" in options:
        command += ["--cert", options["cert"], "--key", options["key"]]
    if options.get("max") in ("1.1", "1.2"):
        command += ["--tls-max", options["max"], f"--tlsv{options['max']}"]
        command += ["--ciphers", "DEFAULT:@SECLEVEL=0"]
    out, error = _run([*command, f"https://{name}:{port}/"])
    version = re.search(r"SSL connection using TLSv([\d.]+)", error)
    if version is None or "000" in out:
        return alert_in(error.splitlines()[-1] if error else out)
    return f"{version[1]} {out.strip()}"


ASK = {"go": ask_go, "java": ask_java, "openssl": ask_openssl, "curl": ask_curl}


@contextmanager
def serve(peer: str, tools: Tools, options: Options, log: Path) -> Iterator[int]:
    """The port of a server."""
    if peer == "go":
        others = {key: value for key, value in options.items() if key not in ("pair", "update")}
        command = [str(tools.go), "server", *_flags(others)]
        pattern = r"listening 127\.0\.0\.1:(\d+)"
    elif peer == "java":
        others = {key: value for key, value in options.items() if key not in ("cert", "key")}
        command = ["java", "-cp", str(tools.java), "Peer", "server", *_flags(others)]
        pattern = r"listening 127\.0\.0\.1:(\d+)"
    else:
        command = ["openssl", "s_server", "-accept", "127.0.0.1:0", "-www"]
        command += [
            "-cert_chain",
            options["cert"],
            "-cert",
            options["cert"],
            "-key",
            options["key"],
        ]
        if options.get("max") in ("1.1", "1.2"):
            command += [f"-tls{options['max'].replace('.', '_')}", "-cipher", "DEFAULT:@SECLEVEL=0"]
        if options.get("client") == "require":
            command += ["-Verify", "2", "-verify_return_error", "-CAfile", options["ca"]]
        pattern = r"ACCEPT 127\.0\.0\.1:(\d+)"
    with Program(f"{peer} server", command, log) as program:
        yield int(program.said(pattern)[1])
