"""From the model to the plain snapshot; nothing is decided here, only said in the core's words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from meshcore.config import collector
from meshcore.config.core_route import layer, routes_by_host, rules
from meshcore.config.snapshot import (
    AdminSpec,
    CertificateSpec,
    ListenerSpec,
    Snapshot,
    TlsSpec,
    UpstreamSpec,
    UpstreamTlsSpec,
)
from meshcore.config.units import MAX_DURATION

if TYPE_CHECKING:
    from meshcore.config.listener import Listener, ListenerTls
    from meshcore.config.model import Config
    from meshcore.config.upstream import Upstream

__all__ = ["Snapshot", "compile"]


@collector.paused()
def compile(config: Config, version: int = 1) -> Snapshot:
    """The snapshot of a configuration; `version` grows with each. O(configuration).

    It is read as it is: `load_file` has checked it, a configuration made in Python goes through
    `meshcore.config.check.check` first.
    """
    admin = config.admin.bind if config.admin else None
    return Snapshot(
        listeners=tuple(_listener(name, x) for name, x in config.listeners.items()),
        upstreams=tuple(_upstream(name, x) for name, x in config.upstreams.items()),
        admin=AdminSpec(admin.host, admin.port) if admin else None,
        drain_ns=config.drain,
        access_log=config.access_log,
        delta={
            "config_version": version,
            "listeners": {name: _core_listener(x) for name, x in config.listeners.items()},
            "hosts": routes_by_host(config.routes),
            "upstreams": {name: core_upstream(x) for name, x in config.upstreams.items()},
        },
    )


def _listener(name: str, model: Listener) -> ListenerSpec:
    return ListenerSpec(
        name=name,
        host=model.bind.host,
        port=model.bind.port,
        unix_path=model.bind.path,
        tls=_tls(model.tls) if model.tls else None,
        header_timeout_ns=model.timeouts.header or MAX_DURATION,
        idle_timeout_ns=model.timeouts.idle or MAX_DURATION,
        tls_handshake_timeout_ns=model.timeouts.tls_handshake or MAX_DURATION,
        max_connections=model.limits.connections,
        header_bytes=model.limits.header_bytes,
        headers=model.limits.headers,
        target_bytes=model.limits.target_bytes,
        body_bytes=model.limits.body_bytes,
    )


def _tls(model: ListenerTls) -> TlsSpec:
    named = (CertificateSpec(name, x.cert, x.key) for name, x in model.sni.items())
    return TlsSpec(
        certificates=(CertificateSpec(None, model.cert, model.key), *named),
        min_version=model.min_version,
        client_ca=model.client_ca,
    )


def _core_listener(model: Listener) -> dict[str, Any]:
    return {
        "trusted_hops": model.client_address.trusted_hops,
        "layers": [layer(x) for x in model.layers],
        "match_first": model.match_order == "first",
    }


def _upstream(name: str, model: Upstream) -> UpstreamSpec:
    tls = model.tls
    return UpstreamSpec(
        name=name,
        tls=UpstreamTlsSpec(tls.ca, tls.insecure, tls.cert, tls.key) if tls else None,
        server_name=tls.server_name if tls else None,
        connect_timeout_ns=model.connect_timeout,
        max_connections=model.limits.connections,
        max_pending=model.limits.pending,
        pool_idle_ns=model.pool.idle,
        pool_lifetime_ns=model.pool.lifetime,
    )


def core_upstream(model: Upstream) -> dict[str, Any]:
    """An upstream in the core's words."""
    ejection = model.ejection and {
        "failures": model.ejection.failures,
        "eject_for_ns": model.ejection.eject_for,
        "max_eject_for_ns": model.ejection.max_eject_for,
        "max_percent": model.ejection.max_percent,
    }
    return {
        "balance": model.balance,
        "endpoints": [{"address": str(x.address), "weight": x.weight} for x in model.endpoints],
        "breaker": model.circuit_breaker and rules(model.circuit_breaker),
        "ejection": ejection,
        "max_requests": model.limits.requests,
        "retry_budget_percent": model.retry_budget.percent,
        "retry_budget_floor": model.retry_budget.floor,
    }
