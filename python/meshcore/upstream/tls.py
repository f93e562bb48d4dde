"""TLS towards endpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from meshcore._core import TlsClient

if TYPE_CHECKING:
    from meshcore._core import KeyLog
    from meshcore.config.snapshot import UpstreamTlsSpec

# RFC 7301: what is offered, the preferred first.
ALPN: Final = {"http1": ["http/1.1"], "h2": ["h2"], "auto": ["h2", "http/1.1"]}


def client_context(
    spec: UpstreamTlsSpec, protocol: str, key_log: KeyLog | None = None
) -> TlsClient:
    """What verifies endpoints against `ca` (or the system's), and may show a certificate of our
    own; ``protocol`` (``http1``, ``h2`` or ``auto``) is what is offered. Secrets go to
    ``key_log``.

    Raises `ConfigError` for what cannot be used.
    """
    own = None
    if spec.chain_pem is not None and spec.key_pem is not None:
        own = (spec.chain_pem, spec.key_pem)
    ca = spec.ca_pem.encode() if spec.ca_pem is not None else None
    least = spec.min_version
    return TlsClient(ca, own, ALPN[protocol], least, insecure=spec.insecure, key_log=key_log)
