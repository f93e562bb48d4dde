"""TLS towards endpoints."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from meshcore.config.snapshot import UpstreamTlsSpec


# RFC 7301: what is offered, the preferred first.
ALPN = {"http1": ["http/1.1"], "h2": ["h2"], "auto": ["h2", "http/1.1"]}


def client_context(spec: UpstreamTlsSpec, protocol: str) -> ssl.SSLContext:
    """A context that verifies endpoints against `ca` (or the system's), and may show a
    certificate of our own; ``protocol`` (``http1``, ``h2`` or ``auto``) is what is offered."""
    context = ssl.create_default_context(cafile=spec.ca)
    if spec.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if spec.cert is not None:
        context.load_cert_chain(spec.cert, spec.key)
    context.set_alpn_protocols(ALPN[protocol])
    return context
