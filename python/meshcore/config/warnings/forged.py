"""Decisions by fields that a proxy in front should write, where no proxy is known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from meshcore.errors import Diagnostic

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from meshcore.config.layers import LimitKey, ListenerLayer
    from meshcore.config.model import Config

    _Path = tuple[str | int, ...]

_REAL_IP: Final = "x-real-ip"
_LISTS: Final = ("x-forwarded-for", "forwarded")
_BY_ADDRESS: Final = "key: client counts by the address that client_address finds"
_TRUST: Final = "client_address: {trusted: [network, …]} of its listeners says who may write it"
_MISSING: Final = {
    "share": "all requests share one bucket",
    "skip": "no request is counted",
    "reject": "every request is refused",
}


def forged_fields(config: Config) -> Iterator[Diagnostic]:
    """Limiters and matches by what no client is believed, or by what each client chooses."""
    believing = {
        name: bool(listener.client_address.trusted or listener.client_address.trusted_hops)
        for name, listener in config.listeners.items()
    }
    for name, listener in config.listeners.items():
        path: _Path = ("listeners", name, "layers")
        yield from _of_layers(path, listener.layers, [believing[name]])
    for number, route in enumerate(config.routes):
        trust = [believing[name] for name in route.listeners or believing]
        yield from _of_layers(("routes", number, "layers"), route.layers, trust)
        if any(trust):
            continue
        for field, value in route.match.headers.items():
            path = ("routes", number, "match", "headers", field)
            if field == _REAL_IP:
                yield Diagnostic(path, "every client can write this field", _TRUST, of_key=True)
            elif _is_taken_out(field):
                what = "always holds" if value.absent else "never holds"
                message = f"{what}: {field} is taken out where nobody is trusted to write it"
                yield Diagnostic(path, message, _TRUST, of_key=True)


def _of_layers(
    path: _Path, layers: Iterable[ListenerLayer], trust: list[bool]
) -> Iterator[Diagnostic]:
    for place, layer in enumerate(layers):
        key = layer.limit.key if layer.limit is not None else None
        if key is None or key.header is None:
            continue
        message = _of_key(key, key.header, trust)
        if message is not None:
            yield Diagnostic((*path, place, "limit", "key"), message, _BY_ADDRESS)


def _of_key(key: LimitKey, field: str, trust: list[bool]) -> str | None:
    """What is wrong with a bucket for each value of a field."""
    if _is_taken_out(field) and not any(trust):
        follows = _MISSING[key.missing]
        return f"{follows}: {field} is taken out where nobody is trusted to write it"
    if field in _LISTS:
        return f"every client chooses its bucket: {field} begins with what clients write"
    if field == _REAL_IP and not all(trust):
        return f"every client chooses its bucket: it can write {field} where nobody is trusted"
    return None


def _is_taken_out(field: str) -> bool:
    """As the core does with it, if a client wrote it."""
    return field.startswith(("x-forwarded", "x-mesh-")) or field == "forwarded"
