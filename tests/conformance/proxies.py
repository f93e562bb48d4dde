"""The proxies that a suite can be run against: meshcore, and others to try the suite out."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Literal, NamedTuple

import trustme
from benches.load.machine import free_port

from tests.conformance.programs import Program

Speech = Literal["h1", "websocket", "websocket-h2", "h2", "h2-tls"]


class Certificate(NamedTuple):
    """PEM files, good for `localhost` and 127.0.0.1."""

    ca: Path
    chain: Path
    key: Path
    both: Path


class Place(NamedTuple):
    """Where a proxy works: its files, its certificate, what is behind it and how to speak to it.

    `only_h2`: its plain listener refuses HTTP/1.1, in place of telling the two apart.
    """

    folder: Path
    certificate: Certificate
    origin: int
    speech: Speech
    only_h2: bool = False


class Ports(NamedTuple):
    """Where a proxy listens on 127.0.0.1: h2c and HTTP/1.1; the same over TLS."""

    plain: int
    tls: int


def certificate(folder: Path) -> Certificate:
    """A certificate of an authority of its own."""
    made = Certificate(*(folder / f"{name}.pem" for name in ("ca", "chain", "key", "both")))
    authority = trustme.CA()
    pair = authority.issue_cert("localhost", "127.0.0.1")
    authority.cert_pem.write_to_path(made.ca)
    pair.private_key_pem.write_to_path(made.key)
    made.chain.write_bytes(b"".join(blob.bytes() for blob in pair.cert_chain_pems))
    pair.private_key_and_cert_chain_pem.write_to_path(made.both)
    return made


# Suites provoke errors on purpose, so nothing may be cut, refused or ejected because of them.
MESHCORE = """
version: 1
drain: 100ms
listeners:
  plain: {{bind: "127.0.0.1:0"{protocols}}}
  tls: {{bind: "127.0.0.1:0", tls: {{cert: "{c.chain}", key: "{c.key}"}}}}
routes:
  - {{name: all, upstream: origin, timeout: 0, idle_timeout: 0{upgrade}}}
upstreams:
  origin:
    endpoints: ["127.0.0.1:{p.origin}"]
    circuit_breaker: off
    ejection: off
    {speech}
"""
MESHCORE_SPEECH = {
    "h1": "",
    "websocket": "",
    "websocket-h2": "protocol: h2",
    "h2": "protocol: h2",
    "h2-tls": 'protocol: h2\n    tls: {{ca: "{c.ca}", server_name: localhost}}',
}


@contextmanager
def meshcore(place: Place) -> Iterator[Ports]:
    """What `meshcore run` serves; both listeners speak HTTP/2 by default."""
    speech = MESHCORE_SPEECH[place.speech].format(c=place.certificate)
    upgrade = ", upgrade: [websocket]" if place.speech.startswith("websocket") else ""
    protocols = ", protocols: {http1: off}" if place.only_h2 else ""
    text = MESHCORE.format(
        c=place.certificate, p=place, speech=speech, upgrade=upgrade, protocols=protocols
    )
    file = place.folder / "mesh.yaml"
    file.write_text(text)
    command = [sys.executable, "-m", "meshcore", "run", str(file)]
    with Program("meshcore", command, place.folder / "meshcore.log") as program:
        ports = (program.said(rf"127\.0\.0\.1:(\d+) \({name}\)")[1] for name in Ports._fields)
        yield Ports(*map(int, ports))


HAPROXY = """
global
  nbthread 1
defaults
  mode http
  timeout connect 5s
  timeout client 1h
  timeout server 1h
  timeout tunnel 1h
frontend edge
  bind 127.0.0.1:{plain} {protocol}
  bind 127.0.0.1:{tls} ssl crt {c.both} alpn h2,http/1.1
  default_backend origin
backend origin
  server one 127.0.0.1:{p.origin} {speech}
"""
HAPROXY_SPEECH = {
    "h1": "",
    "websocket": "",
    "websocket-h2": "proto h2",
    "h2": "proto h2",
    "h2-tls": "ssl alpn h2 ca-file {c.ca} sni str(localhost)",
}


def haproxy(place: Place) -> AbstractContextManager[Ports]:
    """One thread, no limits."""
    ports = Ports(free_port(), free_port())
    speech = HAPROXY_SPEECH[place.speech].format(c=place.certificate)
    file = place.folder / "haproxy.cfg"
    protocol = "proto h2" if place.only_h2 else ""
    text = HAPROXY.format(
        **ports._asdict(), c=place.certificate, p=place, speech=speech, protocol=protocol
    )
    file.write_text(text)
    return _peer(place, ports, ["haproxy", "-db", "-f", str(file)])


NGHTTPX_SPEECH = {
    "h1": "",
    "websocket": "",
    "websocket-h2": ";;proto=h2",
    "h2": ";;proto=h2",
    "h2-tls": ";;proto=h2;tls;sni=localhost",
}


def nghttpx(place: Place) -> AbstractContextManager[Ports]:
    """One worker; it always tells HTTP/1.1 and h2c apart."""
    ports = Ports(free_port(), free_port())
    command = [
        *("nghttpx", "-n1", "--conf=/dev/null", f"--cacert={place.certificate.ca}"),
        *(f"-f127.0.0.1,{ports.plain};no-tls", f"-f127.0.0.1,{ports.tls}"),
        f"-b127.0.0.1,{place.origin}{NGHTTPX_SPEECH[place.speech]}",
        *("--frontend-http2-read-timeout=1h", "--backend-read-timeout=1h"),
        *(str(place.certificate.key), str(place.certificate.chain)),
    ]
    return _peer(place, ports, command)


@contextmanager
def _peer(place: Place, ports: Ports, command: list[str]) -> Iterator[Ports]:
    name = command[0]
    # Debian puts servers where only root looks.
    path = f"{os.environ['PATH']}:/usr/sbin"
    with Program(name, command, place.folder / f"{name}.log", {"PATH": path}) as program:
        for port in ports:
            program.listens(port)
        yield ports


# By the name that `--proxy` takes.
PROXIES: dict[str, Callable[[Place], AbstractContextManager[Ports]]] = {
    "meshcore": meshcore,
    "haproxy": haproxy,
    "nghttpx": nghttpx,
}
