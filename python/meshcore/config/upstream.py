"""Where requests go: `upstreams` of the configuration."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from meshcore._core import is_tls_name
from meshcore.config.client_auth import Files, Names, Trust
from meshcore.config.fields import (
    Authority,
    Duration,
    EndpointAddress,
    FilePath,
    HeadSize,
    Model,
    Off,
    OrText,
    Percent,
    Share,
    Span,
    Switch,
    duration,
    off,
    percent,
    size,
)
from meshcore.config.hints import HintedError, shown
from meshcore.config.http2 import UpstreamHttp2
from meshcore.config.layers import MAX_FAILURES, CircuitBreaker
from meshcore.config.tls_versions import TlsVersions

ProxyVersion = Literal["v1", "v2"]
Lenient = Literal[
    "bare_lf", "fold", "invalid_names", "status_blanks", "repeated_length", "repeated_chunked"
]


def _proxy_version(value: object) -> object:
    value = off(value)
    if value in (None, "v1", "v2"):
        return value
    hint = "write v2, or v1 for endpoints that read no other"
    raise HintedError(f"expected v1, v2 or off, got {shown(value)}", hint)


class Endpoint(OrText):
    """One address of an upstream, or just the address as text."""

    text_schema: ClassVar = {"description": "`host:port`, `[v6]:port` or `unix:/path`."}

    address: EndpointAddress = Field(description="`host:port`, `[v6]:port` or `unix:/path`.")
    weight: int = Field(1, ge=1, le=0xFFFF, description="Its share beside the others' weights.")

    @model_validator(mode="before")
    @classmethod
    def _address_alone(cls, value: object) -> object:
        is_address = isinstance(value, str | int) and not isinstance(value, bool)
        return {"address": value} if is_address else value


class UpstreamLimits(Model):
    """What an upstream is asked to bear, and what is taken of its responses."""

    connections: int = Field(
        1_000,
        ge=1,
        le=1 << 20,
        description="Most connections at one time of a worker, idle ones included.",
    )
    pending: int = Field(
        1_000,
        ge=0,
        le=1 << 20,
        description="Most requests that wait for a connection when no more may be opened; 0: none "
        "waits.",
    )
    requests: int = Field(1_000, ge=1, le=1 << 32, description="Most requests under way.")
    client_share: Share = percent(
        "80%",
        "How much of `requests` a single client may take; the rest is for clients that hold less "
        "than 5 % of it. 100%: all, for an upstream with one client.",
    )
    header_bytes: HeadSize = size(
        "64KiB", "Most bytes of a response's head, and of its trailers; more is answered 502."
    )
    headers: int = Field(
        100, ge=1, le=10_000, description="Most fields of a response's head, and of its trailers."
    )


class UpstreamTls(TlsVersions, Trust):
    """TLS towards endpoints; `{}` verifies them against the system's CAs."""

    ca: Files | None = Field(None, description="CA files to verify against; else the system's.")
    server_name: Authority | None = Field(
        None, description="The name asked for and verified; by default the endpoint's host."
    )
    peer: Names | None = Field(
        None,
        description="Whose certificate it must be, in place of the name that is asked for.",
    )
    insecure: bool = Field(False, description="Accept any certificate. For tests.")
    cert: FilePath | None = Field(None, description="A certificate of our own to show.")
    key: FilePath | None = Field(None, description="Its private key, not encrypted.")

    @model_validator(mode="after")
    def _pair(self) -> UpstreamTls:
        if (self.cert is None) != (self.key is None):
            raise ValueError("cert and key are given together or not at all")
        for key in ("ca", "trust_domains", "crl", "peer") if self.insecure else ():
            if getattr(self, key):
                raise ValueError(f"{key} has no meaning when insecure is true")
        if self.peer is not None and self.peer.spiffe and not (self.ca or self.trust_domains):
            raise HintedError(
                "the system's CAs do not vouch for SPIFFE IDs", "write ca: FILE beside peer"
            )
        if self.trust_domains and not (self.peer and self.peer.spiffe):
            raise HintedError(
                "trust_domains says who vouches, and not whose certificate it must be",
                "write peer: {spiffe: …} beside it",
            )
        self.check_names(self.peer, "peer")
        return self


class Pool(Model):
    """How long connections to endpoints are kept."""

    idle: Duration = duration("60s", "Unused this long it is closed; 0: never kept for reuse.")
    lifetime: Duration = duration("0", "Not lent again after this age; 0: no bound.")


class Ejection(Model):
    """When a single endpoint is left out."""

    failures: int = Field(
        5, ge=1, le=MAX_FAILURES, description="Failed connects, resets or timeouts in a row."
    )
    eject_for: Span = duration("30s", "The first time out.")
    max_eject_for: Span = duration("5m", "The longest time out; it grows with each repetition.")
    max_percent: Percent = percent("50%", "Most of the endpoints that may be out.")


class RetryBudget(Model):
    """A bound on retries, so that they cannot double the load of a service in trouble."""

    percent: Percent = percent("20%", "Of the requests under way.")
    floor: int = Field(
        3, ge=0, le=1 << 20, description="Retries that may always be under way at one time."
    )


class Upstream(Model):
    """A service: endpoints that can stand in for each other."""

    balance: Literal["least_request", "round_robin", "random"] = Field(
        "least_request", description="How an endpoint is picked."
    )
    endpoints: list[Endpoint] = Field(
        min_length=1, max_length=100_000, description="Its addresses."
    )
    connect_timeout: Duration = duration("5s", "For connecting, TLS included; 0: no bound.")
    limits: UpstreamLimits = Field(UpstreamLimits(), description="What it is asked to bear.")
    tls: UpstreamTls | None = Field(None, description="Present: endpoints speak TLS.")
    protocol: Literal["http1", "h2", "auto"] = Field(
        "http1",
        description="What endpoints are spoken to; `auto`: what ALPN gives. `h2` without TLS is "
        "h2c with prior knowledge.",
    )
    proxy_protocol: Annotated[
        ProxyVersion | None,
        BeforeValidator(_proxy_version, json_schema_input_type=ProxyVersion | Off | None),
    ] = Field(
        None,
        description="`v1` or `v2`: each connection begins with a header of the PROXY protocol, "
        "which names the client that it was opened for, and carries the requests of no other.",
    )
    mesh: Switch = Field(
        False,
        description="`on`: endpoints are meshcore too, and their `x-mesh-` fields reach clients.",
    )
    preserve_case: Switch = Field(
        False,
        description="`on`: over HTTP/1.1 fields of a request that came over HTTP/1.1 are called "
        "as the client wrote them, instead of in lower case; `Host`, `Content-Length` and the like "
        "always so.",
    )
    lenient: list[Lenient] = Field(
        default_factory=list,
        max_length=16,
        description="What is mended in heads of responses over HTTP/1.1 instead of refused; a "
        "connection on which it was carries no other request.",
    )
    h2: UpstreamHttp2 = Field(UpstreamHttp2(), description="How HTTP/2 is spoken, where it is.")
    pool: Pool = Field(Pool(), description="How long connections are kept.")
    circuit_breaker: Annotated[
        CircuitBreaker | None,
        BeforeValidator(off, json_schema_input_type=CircuitBreaker | Off | None),
    ] = Field(CircuitBreaker(), description="The breaker of the whole upstream; `off` for none.")
    ejection: Annotated[
        Ejection | None,
        BeforeValidator(off, json_schema_input_type=Ejection | Off | None),
    ] = Field(Ejection(), description="When a single endpoint is left out; `off` for never.")
    retry_budget: RetryBudget = Field(
        RetryBudget(), description="How much of the load may be retries."
    )

    @model_validator(mode="after")
    def _auto_is_by_alpn(self) -> Upstream:
        if self.protocol == "auto" and self.tls is None:
            raise ValueError("protocol: auto needs tls, whose ALPN decides")
        return self

    @model_validator(mode="after")
    def _named_for_tls(self) -> Upstream:
        """A certificate is verified to be of a name, and a socket's path is none."""
        if self.tls is None:
            return self
        name = self.tls.server_name
        for address in [] if name else [str(each.address) for each in self.endpoints]:
            if address.startswith("unix:"):
                raise HintedError(
                    f"{address} has no name that TLS can verify", "write tls: {server_name: …}"
                )
            host = address.rpartition(":")[0].strip("[]")
            if not is_tls_name(host):
                raise HintedError(
                    f"{host} is no name that TLS can verify", "write tls: {server_name: …}"
                )
        if name and not is_tls_name(name):
            raise ValueError(f"tls.server_name: {name} is no name that TLS can verify")
        return self

    @model_validator(mode="after")
    def _of_http1(self) -> Upstream:
        if self.preserve_case and self.protocol == "h2":
            raise ValueError(
                "preserve_case has no meaning with protocol: h2, whose names are in lower case"
            )
        if self.lenient and self.protocol == "h2":
            raise ValueError("lenient has no meaning with protocol: h2, whose heads have no lines")
        return self
