"""From the model to the plain snapshot; nothing is decided here, only said in the core's words."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final

from meshcore._core import tls_staple
from meshcore.config import gc_pause
from meshcore.config.access_log import STDOUT
from meshcore.config.admin import read_bounded, token_in
from meshcore.config.core_route import layer, routes_by_host, rules
from meshcore.config.file import NO_FILE, read_pem, read_pem_if_there
from meshcore.config.hints import shown
from meshcore.config.http2 import Http2
from meshcore.config.paths import refused
from meshcore.config.process import MAX_WORKERS
from meshcore.config.snapshot import (
    AccessLogSpec,
    AdminSpec,
    CertificateSpec,
    Http2Spec,
    ListenerSpec,
    Snapshot,
    TlsSpec,
    TrustSpec,
    UpstreamSpec,
    UpstreamTlsSpec,
)
from meshcore.config.ticket_keys import keys_in, read_keys
from meshcore.config.tracing import for_core as tracing_for_core
from meshcore.config.units import MAX_DURATION, SECOND, Rate
from meshcore.errors import ConfigError, Diagnostic
from meshcore.telemetry.counts import for_core

if TYPE_CHECKING:
    from collections.abc import Iterable

    from meshcore.config.access_log import AccessLog
    from meshcore.config.admin import Admin
    from meshcore.config.client_auth import ClientAuth, Names, Trust
    from meshcore.config.http2 import Http2Connection
    from meshcore.config.listener import Certificate, Listener, ListenerTls
    from meshcore.config.model import Config
    from meshcore.config.route import Route
    from meshcore.config.upstream import Upstream, UpstreamTls
    from meshcore.config.via import Via

__all__ = ["Snapshot", "compile"]

# What an endpoint may send us is no matter of configuration: as much as a client by default.
DEFAULT_HTTP2: Final = Http2()
PROXY_VERSIONS = {None: 0, "v1": 1, "v2": 2}
# A peer may well update the window of each of its streams, or their priorities, in one go.
CONTROL_FRAMES_BURST: Final = 1_000


@gc_pause.paused()
def compile(config: Config, version: int = 1, *, cores: int = 1) -> Snapshot:
    """The snapshot of a configuration; `version` grows with each, `cores` is what an automatic
    number of workers comes to. O(configuration). Raises `OSError` when a certificate's file cannot
    be read, `ConfigError` when the token's has none.

    It is read as it is: `load_file` has checked it, a configuration made in Python goes through
    `meshcore.config.check.check` first.
    """
    _check_given(config)
    files = _Files()
    cased = any(x.preserve_case for x in config.upstreams.values())
    listeners = (_listener(name, x, files, cased) for name, x in config.listeners.items())
    return Snapshot(
        listeners=tuple(listeners),
        upstreams=tuple(_upstream(name, x, files) for name, x in config.upstreams.items()),
        admin=_admin(config.admin, files) if config.admin else None,
        drain_ns=config.drain.timeout,
        drain_delay_ns=config.drain.delay,
        access_log=_access_log(config.access_log) if config.access_log else None,
        workers=min(cores, MAX_WORKERS) if config.workers == "auto" else config.workers,
        watchdog_ns=config.watchdog,
        segment_max_bytes=config.segment_max,
        buffer_total_bytes=config.buffer_total,
        ticket_keys=files.ticket_keys(config.ticket_keys) if config.ticket_keys else None,
        watch=config.watch,
        files=files.digests,
        resources={"config_version": version, **_core(config)},
    )


def _core(config: Config) -> dict[str, Any]:
    timeouts = _longest_timeouts(config.routes)
    listeners, upstreams = config.listeners.items(), config.upstreams.items()
    return {
        "listeners": {name: _core_listener(x, config.via) for name, x in listeners},
        "hosts": routes_by_host(config.routes),
        "upstreams": {name: core_upstream(x, timeouts.get(name, 0)) for name, x in upstreams},
        "buffer_total": config.buffer_total,
        "tracing": tracing_for_core(config.tracing),
        "counts": for_core(),
    }


def _check_given(config: object) -> None:
    if not hasattr(config, "listeners"):
        told = "expected a Config, as meshcore.load_file gives it"
        raise TypeError(f"config: {told}, got {shown(config)}")


def _listener(name: str, model: Listener, files: _Files, keep_case: bool) -> ListenerSpec:
    h2 = model.protocols.h2
    return ListenerSpec(
        name=name,
        host=model.bind.host,
        port=model.bind.port,
        unix_path=model.bind.path,
        unix_mode=model.mode,
        tls=_tls(model.tls, files) if model.tls else None,
        proxy_protocol=model.proxy_protocol is not None,
        serves_half_closed=model.half_close == "serve",
        http1=model.protocols.http1,
        h2=_http2(h2, h2) if h2 else None,
        header_timeout_ns=model.timeouts.header or MAX_DURATION,
        idle_timeout_ns=model.timeouts.idle or MAX_DURATION,
        tls_handshake_timeout_ns=model.timeouts.tls_handshake or MAX_DURATION,
        max_connections=model.limits.connections,
        max_handshakes=model.limits.handshakes,
        header_bytes=model.limits.header_bytes,
        headers=model.limits.headers,
        target_bytes=model.limits.target_bytes,
        body_bytes=model.limits.body_bytes,
        refused=tuple(refused(model.paths)),
        keep_slashes=model.paths.repeated_slashes == "keep",
        keep_case=keep_case,
    )


class _Files:
    """Reads what a configuration names, and remembers what that was."""

    def __init__(self) -> None:
        self.digests: dict[str, bytes] = {}

    def pem(self, path: str) -> bytes:
        """What is in a file."""
        content = read_pem(path)
        self.digests[path] = hashlib.sha256(content).digest()
        return content

    def pem_if_there(self, path: str) -> bytes | None:
        """The same; ``None`` where there is none, and it is looked for."""
        content = read_pem_if_there(path)
        self.digests[path] = NO_FILE if content is None else hashlib.sha256(content).digest()
        return content

    def token(self, path: str) -> bytes:
        """The token in a file. Raises `ConfigError` when there is none in it."""
        content = read_bounded(path)
        self.digests[path] = hashlib.sha256(content).digest()
        try:
            return token_in(content)
        except ValueError as error:
            raise ConfigError([Diagnostic(("admin", "token_file"), f"{path} {error}")]) from None

    def ticket_keys(self, path: str) -> tuple[bytes, ...]:
        """The keys in a file. Raises `ConfigError` when they cannot be used."""
        content = read_keys(path)
        self.digests[path] = hashlib.sha256(content).digest()
        try:
            return keys_in(content)
        except ValueError as error:
            raise ConfigError([Diagnostic(("ticket_keys",), f"{path} {error}")]) from None

    def authorities(self, paths: Iterable[str]) -> str:
        """Certificates alone: bundles carry names between them, in any encoding."""
        return "\n".join(self.pem(path).decode("ascii", "ignore") for path in paths)


def _access_log(model: AccessLog) -> AccessLogSpec:
    return AccessLogSpec(format=model.format, path=None if model.to == STDOUT else model.to)


def _admin(model: Admin, files: _Files) -> AdminSpec:
    return AdminSpec(
        host=model.bind.host,
        port=model.bind.port,
        unix_path=model.bind.path,
        mode=model.mode,
        token_file=model.token_file,
        token=files.token(model.token_file) if model.token_file else None,
        read_only=model.read_only,
        hosts=tuple(model.hosts),
    )


def _trust(model: Trust, names: Names | None, files: _Files, *, required: bool = True) -> TrustSpec:
    domains = model.trust_domains.items()
    return TrustSpec(
        ca_pem=files.authorities(model.ca) if model.ca else None,
        domains=tuple((name, files.authorities(paths)) for name, paths in domains),
        crl_pem=b"\n".join(files.pem(path) for path in model.crl or ()),
        use_expired_crl=model.crl_expired == "use",
        names=tuple(names.all) if names else (),
        required=required,
    )


def _tls(model: ListenerTls, files: _Files) -> TlsSpec:
    named = (
        _certificate(name, pair, each.clients, files)
        for name, each in model.sni.items()
        for _, pair in each.pairs
    )
    return TlsSpec(
        certificates=(*(_certificate(None, pair, None, files) for _, pair in model.pairs), *named),
        min_version=model.oldest,
        clients=_clients(model.clients, files),
    )


def _clients(model: ClientAuth | None, files: _Files) -> TrustSpec | None:
    if model is None:
        return None
    return _trust(model, model.match, files, required=model.mode == "require")


def _certificate(
    name: str | None, model: Certificate, clients: ClientAuth | None, files: _Files
) -> CertificateSpec:
    chain_pem = files.pem(model.cert)
    ocsp_der, ocsp_lack = _staple(chain_pem, files, model.ocsp) if model.ocsp else (None, None)
    return CertificateSpec(
        server_name=name,
        chain_pem=chain_pem,
        key_pem=files.pem(model.key),
        ocsp_der=ocsp_der,
        ocsp_lack=ocsp_lack,
        clients=_clients(clients, files),
    )


def _staple(chain_pem: bytes, files: _Files, path: str) -> tuple[bytes | None, str | None]:
    """What is stapled, or why nothing is: a certificate is renewed before its authority can be
    asked about the new one."""
    response = files.pem_if_there(path)
    if response is None:
        return None, "missing"
    try:
        is_other = tls_staple(chain_pem, response) is None
    except ConfigError:
        is_other = False  # who uses it says what is wrong
    return (None, "other") if is_other else (response, None)


def _upstream_tls(model: UpstreamTls, files: _Files) -> UpstreamTlsSpec:
    return UpstreamTlsSpec(
        trust=None if model.insecure else _trust(model, model.peer, files),
        chain_pem=files.pem(model.cert) if model.cert else None,
        key_pem=files.pem(model.key) if model.key else None,
        min_version=model.oldest,
    )


def _http2(model: Http2Connection, rates: Http2) -> Http2Spec:
    resets = _per_second(rates.resets)
    return Http2Spec(
        engine=model.engine,
        streams=model.streams,
        stream_window_bytes=model.stream_window,
        connection_window_bytes=model.connection_window,
        ping_ns=model.ping,
        ping_timeout_ns=model.ping_timeout,
        resets=(resets, 2 * resets),
        control_frames=(_per_second(rates.control_frames), CONTROL_FRAMES_BURST),
    )


def _per_second(rate: Rate) -> int:
    """Rounded up, so that a rate that lets something pass never becomes none."""
    return -(-rate.tokens * SECOND // rate.period_ns)


def _core_listener(model: Listener, via: Via) -> dict[str, Any]:
    return {
        "trusted_hops": model.client_address.trusted_hops,
        "trusted": model.client_address.for_core(),
        "proxy_protocol": model.announcers,
        "forwarded_client_cert": model.forwarded_client_cert,
        "layers": [layer(x) for x in model.layers],
        "via": via.name,
        "max_visits": via.max_visits,
        "match_first": model.match_order == "first",
        "body_bytes_per_second": model.limits.body_bytes_per_second,
        "tls": model.tls is not None,
    }


def _upstream(name: str, model: Upstream, files: _Files) -> UpstreamSpec:
    tls = model.tls
    return UpstreamSpec(
        name=name,
        tls=_upstream_tls(tls, files) if tls else None,
        server_name=tls.server_name if tls else None,
        protocol=model.protocol,
        h2=_http2(model.h2, DEFAULT_HTTP2),
        connect_timeout_ns=model.connect_timeout,
        max_connections=model.limits.connections,
        max_pending=model.limits.pending,
        header_bytes=model.limits.header_bytes,
        headers=model.limits.headers,
        proxy_protocol=PROXY_VERSIONS[model.proxy_protocol],
        mesh=model.mesh,
        preserve_case=model.preserve_case,
        lenient=tuple(model.lenient),
        pool_idle_ns=model.pool.idle,
        pool_lifetime_ns=model.pool.lifetime,
    )


def _longest_timeouts(routes: Iterable[Route]) -> dict[str | None, int]:
    """For each upstream the longest timeout of the routes to it. O(routes)."""
    longest: dict[str | None, int] = {}
    for route in routes:
        longest[route.upstream] = max(longest.get(route.upstream, 0), route.timeout)
    return longest


def core_upstream(model: Upstream, timeout: int = 0) -> dict[str, Any]:
    """An upstream in the core's words. `timeout`: the longest of its routes."""
    ejection = model.ejection and {
        "failures": model.ejection.failures,
        "eject_for_ns": model.ejection.eject_for,
        "max_eject_for_ns": model.ejection.max_eject_for,
        "max_percent": model.ejection.max_percent,
    }
    return {
        "balance": model.balance,
        "endpoints": [{"address": str(x.address), "weight": x.weight} for x in model.endpoints],
        "breaker": model.circuit_breaker and rules(model.circuit_breaker, timeout),
        "ejection": ejection,
        "max_requests": model.limits.requests,
        "client_share_percent": model.limits.client_share,
        "retry_budget_percent": model.retry_budget.percent,
        "retry_budget_floor": model.retry_budget.floor,
        "tls": model.tls is not None,
    }
