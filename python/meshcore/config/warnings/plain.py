"""Endpoints that are spoken to without TLS at the port of HTTPS."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from meshcore.errors import Diagnostic

if TYPE_CHECKING:
    from collections.abc import Iterator

    from meshcore.config.model import Config

# Of `https` (RFC 9110 §4.2.2). A listener of plain HTTP has another.
_HTTPS: Final = 443


def plain_endpoints(config: Config) -> Iterator[Diagnostic]:
    """Every endpoint at port 443 of an upstream without `tls`: it answers 400, or not at all."""
    for name, upstream in config.upstreams.items():
        if upstream.tls is not None:
            continue
        for number, endpoint in enumerate(upstream.endpoints):
            address = endpoint.address
            if address.path is None and address.port == _HTTPS:
                message = f"{address} is the port of HTTPS, and is reached without TLS"
                path = ("upstreams", name, "endpoints", number)
                yield Diagnostic(path, message, "write tls: {} beside endpoints")
