"""The origins and every proxy, each started on its core."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from benches.load import configs
from benches.load.h2_client import FRAMED
from benches.load.machine import LOAD_CORE, PROXY_CORE, Process, free_port
from benches.load.scenarios import LARGE_BYTES, PROXIES

Started = list[tuple[Process, configs.Ports]]

# They tell HTTP/2 from HTTP/1.1 by how a connection begins; the others have a port for each.
BY_PREFACE = ("meshcore", "envoy")


KEYS = {"ecdsa": "ec -pkeyopt ec_paramgen_curve:P-256", "rsa": "rsa:2048"}


def prepare(folder: Path, key: str = "ecdsa") -> None:
    """Files of the origins, and a certificate with a key of the given kind of `KEYS`."""
    files = folder / "files"
    for name in ("h2", "grpc"):
        (files / name).mkdir(parents=True)
    (files / "16k").write_bytes(b"x" * 16384)
    (files / "1m").write_bytes(b"x" * (1 << 20))
    (files / "100m").touch()
    os.truncate(files / "100m", LARGE_BYTES)
    (files / "h2" / "100m").hardlink_to(files / "100m")
    (files / "h2" / "small").write_text(configs.SMALL)
    (files / "grpc" / "say.grpc").write_bytes(FRAMED)
    (folder / "mime.types").write_text("application/grpc grpc\n")
    new = f"openssl req -x509 -newkey {KEYS[key]} -nodes -days 2 -subj"
    made = ["/CN=localhost", "-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    subprocess.run([*new.split(), *made], check=True, capture_output=True)
    both = (folder / "cert.pem").read_text() + (folder / "key.pem").read_text()
    (folder / "both.pem").write_text(both)


def commands(folder: Path, ports: configs.Ports, name: str) -> list[str]:
    """Write a proxy's configuration; gives how it is started."""
    text = {
        "meshcore": configs.meshcore,
        "haproxy": configs.haproxy,
        "nginx": configs.nginx,
        "envoy": configs.envoy,
    }[name](ports)
    file = folder / f"{name}.yaml"
    file.write_text(text)
    return {
        "meshcore": [sys.executable, "-m", "meshcore", "run", str(file), "--workers", "1"],
        "haproxy": ["haproxy", "-db", "-f", str(file)],
        "nginx": ["nginx", "-c", str(file)],
        "envoy": [
            *(str(Path(sys.executable).with_name("envoy")), "-c", str(file)),
            *("--concurrency", "1", "--log-level", "critical"),
        ],
    }[name]


def present(without: list[str]) -> list[str]:
    """The proxies that can be started here; says which cannot."""
    names = []
    for name in (name for name in PROXIES if name not in without):
        here = name == "meshcore" or Path(sys.executable).with_name(name).exists()
        if here or shutil.which(name):
            names.append(name)
        else:
            print(f"missing: {name}; its column is left out")
    return names


def origins(folder: Path, stack: contextlib.ExitStack) -> configs.Origins:
    """nginx for HTTP/1.1, and nghttpd for HTTP/2, once more with the trailer of gRPC."""
    made = configs.Origins(free_port(), free_port(), free_port())
    file = folder / "origin.conf"
    file.write_text(configs.origin(made.h1, str(folder)))
    stack.enter_context(Process("origin", ["nginx", "-c", str(file)], made.h1, LOAD_CORE))
    files = ["-d", str(folder / "files"), f"--mime-types-file={folder / 'mime.types'}"]
    # Windows of 16 MiB and 1,000 streams: what is measured is the proxy.
    nghttpd = ["nghttpd", "--no-tls", "-a127.0.0.1", "-w24", "-W24", "-m1000", *files]
    trailer = ["--trailer", "grpc-status: 0"]
    for port, more in ((made.h2, []), (made.grpc, trailer)):
        stack.enter_context(Process("origin", [*nghttpd, *more, str(port)], port, LOAD_CORE))
    return made


@contextlib.contextmanager
def proxies(folder: Path, routes: int, without: list[str]) -> Iterator[Started]:
    """The origins on one core, and every proxy on the other."""
    with contextlib.ExitStack() as stack:
        ends = origins(folder, stack)
        started = []
        for name in present(without):
            plain = free_port()
            h2 = plain if name in BY_PREFACE else free_port()
            ports = configs.Ports(plain, free_port(), free_port(), h2, ends, str(folder), routes)
            command = commands(folder, ports, name)
            process = stack.enter_context(Process(name, command, plain, PROXY_CORE))
            started.append((process, ports))
        yield started
