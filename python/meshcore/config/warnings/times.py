"""Times that can never pass, because another one always passes first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshcore.config.units import format_duration
from meshcore.errors import Diagnostic

if TYPE_CHECKING:
    from collections.abc import Iterator

    from meshcore.config.layers import CircuitBreaker
    from meshcore.config.model import Config
    from meshcore.config.route import Route
    from meshcore.config.upstream import Upstream

    _Path = tuple[str | int, ...]


def idle_times(config: Config) -> Iterator[Diagnostic]:
    """Every time that was written and changes nothing."""
    for name, listener in config.listeners.items():
        if listener.tls is None and "tls_handshake" in listener.timeouts.model_fields_set:
            path: _Path = ("listeners", name, "timeouts", "tls_handshake")
            yield Diagnostic(path, "never takes effect: without tls there is no handshake")
        if listener.tls is None and "handshakes" in listener.limits.model_fields_set:
            path = ("listeners", name, "limits", "handshakes")
            yield Diagnostic(path, "never takes effect: without tls there is no handshake")
    for number, route in enumerate(config.routes):
        yield from _of_route(number, route, config)
    for name, upstream in config.upstreams.items():
        yield from _of_upstream(("upstreams", name), upstream)


def _of_route(number: int, route: Route, config: Config) -> Iterator[Diagnostic]:
    path: _Path = ("routes", number)
    if route.upstream is None:
        for key in ("timeout", "idle_timeout", "retry"):
            if key in route.model_fields_set:
                yield Diagnostic((*path, key), "has no effect: the route asks no upstream")
        return
    bound, word = _bound(route, config.upstreams[route.upstream])
    per_try = route.retry.per_try
    if bound and per_try >= bound:
        message = f"never takes effect: {word} ({format_duration(bound)}) ends the request first"
        yield Diagnostic((*path, "retry", "per_try"), message, "attempts share that time")
    for place, layer in enumerate(route.layers):
        if layer.circuit_breaker is not None:
            yield from _of_breaker((*path, "layers", place), layer.circuit_breaker)


def _bound(route: Route, upstream: Upstream) -> tuple[int, str]:
    """How long any request may wait for its response's head; 0 for no bound. gRPC, which is not
    spoken over HTTP/1.1, has no `timeout`."""
    if upstream.protocol == "http1":
        return route.timeout, "timeout"
    if not route.timeout or not route.idle_timeout:
        return 0, ""
    longest = max(route.timeout, route.idle_timeout)
    return longest, "timeout" if longest == route.timeout else "idle_timeout"


def _of_upstream(path: _Path, upstream: Upstream) -> Iterator[Diagnostic]:
    if upstream.circuit_breaker is not None:
        yield from _of_breaker(path, upstream.circuit_breaker)
    ejection = upstream.ejection
    if ejection is not None and "max_eject_for" in ejection.model_fields_set:
        least, most = ejection.eject_for, ejection.max_eject_for
        if most < least:
            yield _less((*path, "ejection", "max_eject_for"), "eject_for", least)
    if not upstream.h2.ping and "ping_timeout" in upstream.h2.model_fields_set:
        yield Diagnostic((*path, "h2", "ping_timeout"), "never takes effect: ping is off")


def _of_breaker(path: _Path, breaker: CircuitBreaker) -> Iterator[Diagnostic]:
    if "max_open_for" in breaker.model_fields_set and breaker.max_open_for < breaker.open_for:
        where = (*path, "circuit_breaker", "max_open_for")
        yield _less(where, "open_for", breaker.open_for)


def _less(path: _Path, key: str, ns: int) -> Diagnostic:
    return Diagnostic(path, f"never takes effect: {key} ({format_duration(ns)}) is longer")
