"""The plain snapshot: what Python's own parts need, as frozen records, and the core's JSON.

Units are in the names. Certificates are here with what was in their files: a process that gets a
snapshot opens none of them, and a changed certificate is a changed snapshot.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from meshcore._core import CodecLimits

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "AccessLogSpec",
    "AdminSpec",
    "CertificateSpec",
    "Http2Spec",
    "ListenerSpec",
    "Snapshot",
    "TlsSpec",
    "TrustSpec",
    "UpstreamSpec",
    "UpstreamTlsSpec",
    "core_json",
]


@dataclass(frozen=True, slots=True)
class CertificateSpec:
    """One certificate of a listener."""

    server_name: str | None
    """The SNI name or ``*.suffix`` that it serves; ``None`` for every other."""
    chain_pem: bytes
    key_pem: bytes
    ocsp_der: bytes | None = None
    """What is stapled to it."""
    ocsp_lack: str | None = None
    """Why nothing is, though a file is named: it is ``missing``, or of ``other`` certificates."""
    clients: TrustSpec | None = None
    """Who comes in of those that ask for this name; ``None``: as for the listener."""


@dataclass(frozen=True, slots=True)
class TrustSpec:
    """Whom to believe, and of them who comes in."""

    ca_pem: str | None
    domains: tuple[tuple[str, str], ...] = ()
    """SPIFFE trust domains, and who vouches for each."""
    crl_pem: bytes = b""
    use_expired_crl: bool = False
    names: tuple[str, ...] = ()
    """Of which a certificate must have one, as the core's rules are written; without any all will
    do."""
    required: bool = True
    """Whether a certificate is required."""


@dataclass(frozen=True, slots=True)
class TlsSpec:
    """TLS towards clients."""

    certificates: tuple[CertificateSpec, ...]
    """The first one's name is the default; those of one name follow one another."""
    min_version: str
    """``1.2`` or ``1.3``."""
    clients: TrustSpec | None
    """Who comes in; ``None``: clients are not asked for a certificate."""


@dataclass(frozen=True, slots=True)
class Http2Spec:
    """How HTTP/2 is spoken on a connection."""

    engine: str
    """``native`` or ``python``."""
    streams: int
    """The most at one time: that the peer may open, or that we open."""
    stream_window_bytes: int
    connection_window_bytes: int
    ping_ns: int
    """0: never."""
    ping_timeout_ns: int
    resets: tuple[int, int]
    """Per second and at once: streams that the peer may reset."""
    control_frames: tuple[int, int]
    """Per second and at once: frames from the peer that carry nothing of a message."""


# Only the owner may connect, as with any umask but 0: others have to be let in by name of a mode.
OWNER_ALONE: Final = 0o600


@dataclass(frozen=True, slots=True)
class ListenerSpec:
    """One address to listen on.

    A timeout is always a length of time: none is a year, so that a deadline can always be armed.
    """

    name: str
    host: str
    """Empty for a unix socket."""
    port: int
    unix_path: str | None
    unix_mode: int | None
    """Of the socket's file; ``None``: as `OWNER_ALONE`, and what is given to us stays as it is."""
    tls: TlsSpec | None
    proxy_protocol: bool
    """Whether each connection is announced first."""
    serves_half_closed: bool
    """Whether a client over HTTP/1.1 that says no more gets what it asked for."""
    http1: bool
    """Whether HTTP/1.1 is spoken."""
    h2: Http2Spec | None
    """``None``: HTTP/2 is refused."""
    header_timeout_ns: int
    idle_timeout_ns: int
    tls_handshake_timeout_ns: int
    max_connections: int
    max_handshakes: int
    """Of each worker."""
    header_bytes: int
    headers: int
    target_bytes: int
    body_bytes: int | None
    """``None``: any."""
    refused: tuple[str, ...]
    """What may not be in a target: the keys of ``paths`` that refuse something."""
    keep_slashes: bool
    """Repeated slashes are not merged."""
    keep_case: bool
    """Some upstream wants names of fields as they were written."""

    def codec_limits(self) -> CodecLimits:
        """The limits of a message, as the core's codec takes them."""
        limits = CodecLimits(
            header_bytes=self.header_bytes,
            headers=self.headers,
            target=self.target_bytes,
            body=self.body_bytes,
        )
        limits = limits.with_paths(self.refused, self.keep_slashes)
        return limits.with_case() if self.keep_case else limits


@dataclass(frozen=True, slots=True)
class UpstreamTlsSpec:
    """TLS towards endpoints."""

    trust: TrustSpec | None
    """``None``: any server. Without authorities the system's are believed."""
    chain_pem: bytes | None
    key_pem: bytes | None
    min_version: str = "1.2"


@dataclass(frozen=True, slots=True)
class UpstreamSpec:
    """How connections to an upstream are made and kept; its endpoints are the core's."""

    name: str
    tls: UpstreamTlsSpec | None
    server_name: str | None
    protocol: str
    """``http1``, ``h2`` or ``auto``: ALPN decides."""
    h2: Http2Spec
    connect_timeout_ns: int
    """0: no bound."""
    max_connections: int
    max_pending: int
    pool_idle_ns: int
    """0: nothing is kept."""
    pool_lifetime_ns: int
    """0: no bound."""
    header_bytes: int
    headers: int
    proxy_protocol: int
    """The version of the PROXY protocol in which a connection announces its client; 0: none."""
    mesh: bool
    """Endpoints may set fields that begin with ``x-mesh-``."""
    preserve_case: bool
    """Names of fields go out as clients wrote them, between two sides of HTTP/1.1."""
    lenient: tuple[str, ...]
    """What is mended in heads of responses over HTTP/1.1."""

    def codec_limits(self) -> CodecLimits:
        """The limits of a response, as the core's codec takes them: of its head, and so of its
        trailers, which gRPC puts into the head when there is no body."""
        limits = CodecLimits(
            header_bytes=self.header_bytes,
            headers=self.headers,
            trailer_bytes=self.header_bytes,
            trailers=self.headers,
            mesh=self.mesh,
        )
        if self.lenient:
            limits = limits.with_lenient(self.lenient)
        return limits.with_case() if self.preserve_case else limits


@dataclass(frozen=True, slots=True)
class AdminSpec:
    """The admin port, and who may ask what there."""

    host: str
    """Empty for a unix socket."""
    port: int
    unix_path: str | None = None
    mode: int = 0o600
    """Who may connect to the unix socket."""
    token_file: str | None = None
    token: bytes | None = field(default=None, repr=False)
    """What is in that file."""
    read_only: bool = False
    hosts: tuple[str, ...] = ()
    """Names that it may be asked by: exact, or with ``*`` for their first or last labels."""

    @property
    def address(self) -> str:
        """``host:port`` or ``unix:/path``."""
        return f"{self.host}:{self.port}" if self.unix_path is None else f"unix:{self.unix_path}"


@dataclass(frozen=True, slots=True)
class AccessLogSpec:
    """What is written of requests, and where to."""

    format: str
    """``text`` or ``json``."""
    path: str | None
    """The file that lines are appended to; ``None``: standard output."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A whole configuration, compiled."""

    listeners: tuple[ListenerSpec, ...]
    upstreams: tuple[UpstreamSpec, ...]
    admin: AdminSpec | None
    drain_ns: int
    drain_delay_ns: int
    access_log: AccessLogSpec | None
    """``None``: none is written."""
    workers: int
    watchdog_ns: int
    """0: none."""
    segment_max_bytes: int | None
    """``None``: as much as it needs."""
    buffer_total_bytes: int
    """The most that a worker keeps of small request bodies that it awaits."""
    ticket_keys: tuple[bytes, ...] | None = field(repr=False)
    """Those that were given, the first seals; ``None``: the program makes its own."""
    watch: bool
    files: Mapping[str, bytes]
    """Certificates, keys, authorities, the token: where they were read, and the SHA-256 of each."""
    resources: Mapping[str, Any]
    """All that the core has of it, as plain data: listeners, hosts with their routes, upstreams and
    counts by name, as a `Delta` of ``rust/meshcore-core/src/snapshot`` from nothing has them."""

    @property
    def version(self) -> int:
        """The number of this configuration."""
        version: int = self.resources["config_version"]
        return version

    def core_json(self) -> bytes:
        """`resources` as the core reads them. O(configuration)."""
        return core_json(self.resources)


def core_json(delta: Mapping[str, Any]) -> bytes:
    """A delta as the core reads it."""
    return json.dumps(delta, ensure_ascii=False, separators=(",", ":")).encode()
