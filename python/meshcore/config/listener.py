"""Where clients come in: `listeners` of the configuration."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from meshcore.config.client_address import ClientAddress, ProxyProtocolSwitch
from meshcore.config.client_auth import ClientAuth
from meshcore.config.fields import (
    BindAddress,
    BodyRate,
    Duration,
    FileMode,
    FilePath,
    HeadSize,
    Model,
    Off,
    ServerName,
    Size,
    Switch,
    duration,
    off,
    size,
)
from meshcore.config.hints import HintedError
from meshcore.config.http2 import Http2
from meshcore.config.layers import ListenerLayer, distinct
from meshcore.config.paths import ListenerPaths
from meshcore.config.tls_versions import TlsVersions


class Certificate(Model):
    """A certificate chain and its key, in PEM."""

    cert: FilePath = Field(description="File with the certificate and its chain.")
    key: FilePath = Field(description="File with its private key, not encrypted.")
    ocsp: FilePath | None = Field(
        None,
        description="File with what its authority says of it, an OCSP response in DER; clients are "
        "shown it until it expires.",
    )


class ClientsCertificate(Certificate):
    """The certificate that clients see, and which of them come in by their own."""

    certificates: list[Certificate] = Field(
        default_factory=list,
        max_length=8,
        description="Further ones for the same names whose keys are of other kinds, RSA beside "
        "ECDSA: a client is shown the first that it can verify of ECDSA, Ed25519 and RSA.",
    )
    client_ca: FilePath | None = Field(
        None,
        description="Clients must show a certificate that this CA file vouches for: short for "
        "`client_auth: {ca: FILE}`.",
    )
    client_auth: ClientAuth | None = Field(
        None, description="Which clients come in by a certificate."
    )

    @model_validator(mode="after")
    def _one_way(self) -> ClientsCertificate:
        if self.client_ca is not None and self.client_auth is not None:
            raise HintedError(
                "client_ca and client_auth are two ways to say it",
                f"write client_auth: {{ca: {self.client_ca}, …}} alone",
            )
        return self

    @property
    def pairs(self) -> list[tuple[tuple[str | int, ...], Certificate]]:
        """All of the same names, and where each stands below this one."""
        further = enumerate(self.certificates)
        return [((), self), *((("certificates", place), pair) for place, pair in further)]

    @property
    def clients(self) -> ClientAuth | None:
        """Which clients come in, whichever way it was said."""
        return self.client_auth or (ClientAuth(ca=[self.client_ca]) if self.client_ca else None)


def _distinct_names(sni: object) -> object:
    """Of two spellings of a name one would be left out, with who may ask for it."""
    seen: dict[str, str] = {}
    for name in sni if isinstance(sni, dict) else ():
        if isinstance(name, str) and (first := seen.setdefault(_plain(name), name)) != name:
            raise ValueError(f"{first} and {name} are one name")
    return sni


def _plain(name: str) -> str:
    return name.lower().removesuffix(".")


class ListenerTls(TlsVersions, ClientsCertificate):
    """TLS towards clients. `cert` and `key` serve every name that `sni` does not."""

    sni: Annotated[dict[ServerName, ClientsCertificate], BeforeValidator(_distinct_names)] = Field(
        default_factory=dict,
        description="Further certificates by server name: `api.example.com` or `*.example.com`; "
        "who asks for one that has clients of its own comes in by that alone.",
    )


class ListenerProtocols(Model):
    """What clients may speak: by ALPN over TLS, else told by a connection's first bytes."""

    http1: Switch = Field(True, description="HTTP/1.1; `off` to refuse it.")
    h2: Annotated[
        Http2 | None,
        BeforeValidator(off, json_schema_input_type=Http2 | Off | None),
    ] = Field(
        Http2(), description="HTTP/2, without TLS as h2c with prior knowledge; `off` to refuse it."
    )

    @model_validator(mode="after")
    def _something_is_spoken(self) -> ListenerProtocols:
        if not self.http1 and self.h2 is None:
            raise ValueError("http1 and h2 are both off: at least one must be on")
        return self


class ListenerTimeouts(Model):
    """How long a client may take; 0 for no bound."""

    header: Duration = duration("10s", "From the first byte of a head to its last.")
    idle: Duration = duration("75s", "Between requests on a connection that is kept open.")
    tls_handshake: Duration = duration("5s", "For the TLS handshake.")


class ListenerLimits(Model):
    """What a listener takes on."""

    connections: int = Field(10_000, ge=1, le=1 << 20, description="Most connections at one time.")
    handshakes: int = Field(
        1_000,
        ge=1,
        le=1 << 20,
        description="Most connections of a worker whose TLS is not agreed yet, beside "
        "`connections`; one more ends one of the client that has most, a slow one first.",
    )
    header_bytes: HeadSize = size("64KiB", "Most bytes of a request's head; more is answered 431.")
    headers: int = Field(100, ge=1, le=10_000, description="Most fields of a head.")
    target_bytes: HeadSize = size("8KiB", "Most bytes of the request target; more is answered 414.")
    body_bytes: Size | None = Field(
        None, description="Most bytes of a request's body; more is answered 413. Any if absent."
    )
    # `mod_reqtimeout` of Apache httpd has the same default: body=20,MinRate=500.
    body_bytes_per_second: BodyRate = Field(
        500, description="Least rate of a request's body after its first 20 s; 0: any rate."
    )


class Listener(Model):
    """An address that clients connect to."""

    bind: BindAddress = Field(description="`host:port`, `[v6]:port` or `unix:/path`.")
    mode: FileMode | None = Field(
        None, description="Who may connect to a unix socket, as for chmod; `0600` by default."
    )
    tls: ListenerTls | None = Field(None, description="Present: clients speak TLS.")
    protocols: ListenerProtocols = Field(ListenerProtocols(), description="What clients may speak.")
    client_address: ClientAddress = Field(
        ClientAddress(), description="How the client's address is found."
    )
    forwarded_client_cert: Literal["sanitize", "forward", "append", "set"] = Field(
        "sanitize",
        description="`x-forwarded-client-cert` to endpoints: `sanitize` none, `forward` what "
        "trusted proxies say, `append` that and this connection's certificate, `set` that of this "
        "connection alone.",
    )
    proxy_protocol: ProxyProtocolSwitch = Field(
        None,
        description="`on`: every connection begins with a header of the PROXY protocol, version 1 "
        "or 2, and comes from a balancer that is trusted.",
    )
    timeouts: ListenerTimeouts = Field(
        ListenerTimeouts(), description="How long a client may take."
    )
    limits: ListenerLimits = Field(ListenerLimits(), description="What the listener takes on.")
    paths: ListenerPaths = Field(
        ListenerPaths(), description="What passes of targets that services read differently."
    )
    half_close: Literal["serve", "drop"] = Field(
        "drop",
        description="What a client over HTTP/1.1 has asked for that then shuts its sending side: "
        "`serve` answers whole requests, `drop` takes it for one that left.",
    )
    match_order: Literal["specific", "first"] = Field(
        "specific",
        description="`specific`: of the routes that match the most specific wins; "
        "`first`: the first of the file.",
    )
    layers: Annotated[list[ListenerLayer], AfterValidator(distinct)] = Field(
        default_factory=list, max_length=64, description="What a request passes before routing."
    )

    @model_validator(mode="after")
    def _mode_of_a_file(self) -> Listener:
        if self.mode is not None and self.bind.path is None:
            raise ValueError("mode is for a unix socket")
        return self

    @model_validator(mode="after")
    def _certified(self) -> Listener:
        if self.forwarded_client_cert == "set" and not self.asks_for_certificates:
            raise HintedError(
                "forwarded_client_cert: set needs clients with certificates",
                "write tls: {client_ca: FILE, …}",
            )
        return self

    @model_validator(mode="after")
    def _announced(self) -> Listener:
        if self.proxy_protocol is None:
            return self
        if not self.announcers:
            raise HintedError(
                "proxy_protocol takes headers from trusted balancers alone",
                "write proxy_protocol: {trusted: [network, …]}",
            )
        return self

    @property
    def asks_for_certificates(self) -> bool:
        """Whether clients are asked for one, if only for some names."""
        tls = self.tls
        pairs = [tls, *tls.sni.values()] if tls is not None else []
        return any(pair.clients is not None for pair in pairs)

    @property
    def announcers(self) -> list[str]:
        """From whom headers of the PROXY protocol are taken."""
        if self.proxy_protocol is None:
            return []
        return self.proxy_protocol.trusted or self.client_address.trusted or []
