"""TLS towards endpoints."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from meshcore.wire.pem import load_chain

if TYPE_CHECKING:
    from meshcore.config.snapshot import UpstreamTlsSpec


# RFC 7301: what is offered, the preferred first.
ALPN = {"http1": ["http/1.1"], "h2": ["h2"], "auto": ["h2", "http/1.1"]}


def client_context(spec: UpstreamTlsSpec, protocol: str) -> ssl.SSLContext:
    """A context that verifies endpoints against `ca` (or the system's), and may show a
    certificate of our own; ``protocol`` (``http1``, ``h2`` or ``auto``) is what is offered."""
    context = ssl.create_default_context(cadata=spec.ca_pem)
    if spec.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if spec.chain_pem is not None and spec.key_pem is not None:
        load_chain(context, spec.chain_pem, spec.key_pem)
    context.set_alpn_protocols(ALPN[protocol])
    return context
