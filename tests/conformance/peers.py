"""Go, Java, OpenSSL and curl at our TLS, and we at theirs."""

from __future__ import annotations

import argparse
import http.client
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    load_pem_private_key,
    pkcs12,
)
from cryptography.x509 import load_pem_x509_certificates

from tests.conformance.peer_programs import ASK, Options, Pair, Tools, built, serve
from tests.conformance.programs import Program
from tests.conformance.score import Case, full

EXPECTED = Path(__file__).with_name("peers.txt")
NAME, OTHER = "edge.test", "other.test"
# Connections that resume at one of two workers, each at whichever the kernel gives it.
TIMES = 12


class Row(NamedTuple):
    """A line of `peers.txt`: who asks or serves, what is tried, and what comes of it."""

    role: str
    peer: str
    what: str
    expected: str


def rows(text: str) -> list[Row]:
    """Lines of four columns, told apart by two spaces; those with `#` are comments."""
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [Row(*(part.strip() for part in line.split("  ", 3))) for line in map(_tight, lines)]


def _tight(line: str) -> str:
    return "  ".join(part for part in line.split("  ") if part.strip())


class Pairs:
    """An authority with what it signed, and a stranger of another."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        authority = trustme.CA(key_type=trustme.KeyType.ECDSA)
        self.ca = folder / "ca.pem"
        authority.cert_pem.write_to_path(self.ca)
        ecdsa, rsa = trustme.KeyType.ECDSA, trustme.KeyType.RSA
        self.edge = self._write("edge", authority.issue_cert(NAME, "localhost", key_type=ecdsa))
        self.rsa = self._write("rsa", authority.issue_cert(NAME, key_type=rsa))
        self.other = self._write("other", authority.issue_cert(OTHER, key_type=ecdsa))
        self.client = self._write("client", authority.issue_cert("client.test", key_type=ecdsa))
        stranger = trustme.CA().issue_cert("stranger.test", key_type=ecdsa)
        self.stranger = self._write("stranger", stranger)

    def _write(self, name: str, leaf: trustme.LeafCert) -> Pair:
        pair = Pair(*(self._folder / f"{name}.{end}" for end in ("pem", "key", "p12")))
        chain = b"".join(blob.bytes() for blob in leaf.cert_chain_pems)
        pair.chain.write_bytes(chain)
        key = leaf.private_key_pem.bytes()
        pair.key.write_bytes(key)
        first, *others = load_pem_x509_certificates(chain)
        made = load_pem_private_key(key, None)
        pair.both.write_bytes(
            pkcs12.serialize_key_and_certificates(
                b"pair",
                made,  # type: ignore[arg-type]  # one of the kinds that it takes
                first,
                others,
                BestAvailableEncryption(b"pair"),
            )
        )
        return pair


def shown(pair: Pair) -> dict[str, str]:
    """The options that name a pair."""
    return {"cert": str(pair.chain), "key": str(pair.key), "pair": str(pair.both)}


# --- they ask -------------------------------------------------------------------------------------

# By row: the listener, and what the client is told.
ASKED: dict[str, tuple[str, dict[str, str]]] = {
    "HTTP/1.1": ("edge", {"alpn": "http/1.1"}),
    "HTTP/2": ("edge", {"alpn": "h2"}),
    "TLS 1.2": ("edge", {"max": "1.2"}),
    "RSA key": ("rsa", {}),
    "RSA key, TLS 1.2": ("rsa", {"max": "1.2"}),
    "1.2 at a 1.3 listener": ("new", {"max": "1.2"}),
    "1.1": ("edge", {"max": "1.1"}),
    "no ALPN in common": ("edge", {"alpn": "foo"}),
    "plain HTTP": ("edge", {"plain": "yes"}),
    "name in capitals": ("edge", {"name": OTHER.upper()}),
    "name with a dot": ("edge", {"name": f"{OTHER}."}),
    "no certificate": ("auth", {}),
    "no certificate, TLS 1.2": ("auth", {"max": "1.2"}),
    "certificate": ("auth", {"who": "client"}),
    "certificate, TLS 1.2": ("auth", {"who": "client", "max": "1.2"}),
    "stranger's certificate": ("auth", {"who": "stranger"}),
    "resumption at two workers": ("edge", {"times": str(TIMES)}),
    "resumption, TLS 1.2": ("edge", {"times": str(TIMES), "max": "1.2"}),
    "key update": ("edge", {"update": "yes"}),
}
LISTENERS = ("edge", "rsa", "new", "auth")


def edge_mesh(pairs: Pairs) -> str:
    """What answers by itself, in all the ways that rows ask for."""
    first, rsa, other = (
        f"{{cert: {pair.chain}, key: {pair.key}}}" for pair in (pairs.edge, pairs.rsa, pairs.other)
    )
    pair = first[1:-1]
    return f"""
version: 1
drain: 100ms
listeners:
  edge: {{bind: "127.0.0.1:0", tls: {{{pair}, sni: {{{OTHER}: {other}}}}}}}
  rsa: {{bind: "127.0.0.1:0", tls: {{{rsa[1:-1]}}}}}
  new: {{bind: "127.0.0.1:0", tls: {{{pair}, min_version: "1.3"}}}}
  auth: {{bind: "127.0.0.1:0", tls: {{{pair}, client_auth: {{ca: {pairs.ca}}}}}}}
routes:
  - {{name: all, match: {{path: {{prefix: /}}}}, respond: {{status: 200, body: hello}}}}
"""


def asked_of(row: Row, ports: dict[str, int], pairs: Pairs, tools: Tools, folder: Path) -> str:
    """What a client of theirs met."""
    listener, told = ASKED[row.what]
    who = {"client": pairs.client, "stranger": pairs.stranger}.get(told.get("who", ""))
    options = {"at": f"127.0.0.1:{ports[listener]}", "name": NAME, "ca": str(pairs.ca)}
    options |= {key: value for key, value in told.items() if key != "who"}
    options |= shown(who) if who else {}
    if row.peer == "java" and told.get("alpn") == "h2":
        options["name"] = "localhost"  # which alone it resolves
    if row.peer == "openssl" and "times" in told:
        return _openssl_resumes(tools, options, folder)
    return ASK[row.peer](tools, options)


def _openssl_resumes(tools: Tools, options: Options, folder: Path) -> str:
    session = str(folder / "session.pem")
    met = [ASK["openssl"](tools, {**options, "sess_out": session})]
    for _ in range(TIMES - 1):
        more = {**options, "sess_in": session, "sess_out": session}
        met.append(ASK["openssl"](tools, more))
    resumed = sum("resumed" in each for each in met)
    return f"{met[-1].removesuffix(' resumed')} resumed {resumed}"


# --- they serve -----------------------------------------------------------------------------------

# By row: what their server is told, what our upstream is, the path, and how often it is asked.
SERVED: dict[str, tuple[dict[str, str], str, str, int]] = {
    "HTTP/1.1": ({"alpn": "http/1.1"}, "", "/", 1),
    "HTTP/2": ({"alpn": "h2,http/1.1"}, "h2", "/", 1),
    "TLS 1.2": ({"max": "1.2"}, "", "/", 1),
    "1.1": ({"max": "1.1"}, "", "/", 1),
    "RSA key": ({"key": "rsa"}, "", "/", 1),
    "no ALPN in common": ({"alpn": "foo"}, "", "/", 1),
    "no HTTP/2": ({"alpn": "http/1.1"}, "h2", "/", 1),
    "another name": ({"key": "other"}, "", "/", 1),
    "no certificate": ({"client": "require"}, "", "/", 1),
    "certificate": ({"client": "require"}, "cert", "/", 1),
    "end with close_notify": ({}, "", "/closed", 1),
    "end without it": ({}, "", "/torn", 1),
    "resumption": ({}, "", "/once", 2),
    "key update": ({"update": "yes"}, "", "/long", 1),
}


def upstream_mesh(row: Row, port: int, pairs: Pairs) -> str:
    """One upstream, which is their server."""
    kind = SERVED[row.what][1]
    own = f", cert: {pairs.client.chain}, key: {pairs.client.key}" if kind == "cert" else ""
    speech = "protocol: h2" if kind == "h2" else ""
    return f"""
version: 1
drain: 100ms
listeners:
  plain: {{bind: "127.0.0.1:0"}}
routes:
  - {{name: all, match: {{path: {{prefix: /}}}}, upstream: theirs}}
upstreams:
  theirs:
    endpoints: ["127.0.0.1:{port}"]
    circuit_breaker: off
    ejection: off
    {speech}
    tls: {{ca: {pairs.ca}, server_name: {NAME}{own}}}
"""


@contextmanager
def mesh(text: str, names: Sequence[str], workers: int, folder: Path) -> Iterator[dict[str, int]]:
    """The ports of `meshcore run`, by listener."""
    file = folder / "mesh.yaml"
    file.write_text(text)
    command = [sys.executable, "-m", "meshcore", "run", str(file), "--workers", str(workers)]
    with Program("meshcore", command, folder / "meshcore.log") as program:
        yield {name: int(program.said(rf"127\.0\.0\.1:(\d+) \({name}\)")[1]) for name in names}


def served_by(row: Row, pairs: Pairs, tools: Tools, folder: Path) -> str:
    """What we met at a server of theirs."""
    told, _, path, times = SERVED[row.what]
    pair = {"rsa": pairs.rsa, "other": pairs.other}.get(told.get("key", ""), pairs.edge)
    options = {**shown(pair), "ca": str(pairs.ca)}
    options |= {key: value for key, value in told.items() if key != "key"}
    with ExitStack() as stack:
        theirs = stack.enter_context(serve(row.peer, tools, options, folder / "server.log"))
        text = upstream_mesh(row, theirs, pairs)
        ports = stack.enter_context(mesh(text, ["plain"], 1, folder))
        return [_get(ports["plain"], path) for _ in range(times)][-1]


def _get(port: int, path: str) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", path)
    answer = connection.getresponse()
    try:
        body = answer.read().decode("latin-1")
    except (http.client.IncompleteRead, ConnectionError):
        return f"{answer.status} torn"
    finally:
        connection.close()
    reason = answer.getheader("x-mesh-reason")
    if reason:
        return f"{answer.status} {reason}"
    if "<HTML>" in body:  # what OpenSSL's server tells is a page
        version = re.search(r"New, TLSv([\d.]+)", body)
        return f"{answer.status} {version[1] if version else body}"
    return f"{answer.status} {body.strip() if len(body) < 200 else len(body)}"


# --- the suite ------------------------------------------------------------------------------------


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What can be asked of this suite alone."""
    parser.add_argument("--only", metavar="PEER", choices=list(ASK), help="of one peer")


def judged(row: Row, met: Callable[[], str]) -> Case:
    """Whether what was met is what is expected."""
    found = met()
    right = found == row.expected
    detail = "" if right else f"{found!r} in place of {row.expected!r}"
    return Case(f"{row.role} {row.peer}: {row.what}", "passed" if right else "failed", detail)


def run(asked: argparse.Namespace, folder: Path) -> bool:
    """Every row of `peers.txt`."""
    tools = built(asked.tools / "tls-peers")
    pairs = Pairs(folder)
    chosen = [row for row in rows(EXPECTED.read_text()) if asked.only in (None, row.peer)]
    theirs = [row for row in chosen if row.role == "client"]
    with mesh(edge_mesh(pairs), LISTENERS, 2, folder) as ports:
        cases = [
            judged(row, lambda row=row: asked_of(row, ports, pairs, tools, folder))  # type: ignore[misc]
            for row in theirs
        ]
    whole = full("peers as clients", cases, len(theirs))
    ours = [row for row in chosen if row.role == "server"]
    if not ours:
        return whole
    cases = [judged(row, lambda row=row: served_by(row, pairs, tools, folder)) for row in ours]  # type: ignore[misc]
    return full("peers as servers", cases, len(ours)) and whole
