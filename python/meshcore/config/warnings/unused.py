"""What nothing leads to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshcore.errors import Diagnostic

if TYPE_CHECKING:
    from collections.abc import Iterator

    from meshcore.config.model import Config


def unused_upstreams(config: Config) -> Iterator[Diagnostic]:
    """Upstreams that no route names."""
    used = {route.upstream for route in config.routes}
    for name in config.upstreams:
        if name not in used:
            yield Diagnostic(
                ("upstreams", name), "no route sends anything to this upstream", of_key=True
            )


def listeners_without_routes(config: Config) -> Iterator[Diagnostic]:
    """Listeners at which every request is 404, unless a layer in Python answers it."""
    if any(not route.listeners for route in config.routes):
        return
    served = {name for route in config.routes for name in route.listeners}
    for name, listener in config.listeners.items():
        if name in served or any(layer.python is not None for layer in listener.layers):
            continue
        message = "no route serves this listener: every request is answered 404"
        yield Diagnostic(("listeners", name), message, of_key=True)
