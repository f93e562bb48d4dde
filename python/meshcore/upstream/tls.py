"""TLS towards endpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from meshcore._core import TlsClient
from meshcore.wire.trust import trust

if TYPE_CHECKING:
    from meshcore._core import KeyLog
    from meshcore.config.snapshot import UpstreamTlsSpec

# RFC 7301: what is offered, the preferred first.
ALPN: Final = {"http1": ["http/1.1"], "h2": ["h2"], "auto": ["h2", "http/1.1"]}


def client_context(
    spec: UpstreamTlsSpec, protocol: str, key_log: KeyLog | None = None
) -> TlsClient:
    """What verifies endpoints, against the system's authorities where the spec names none, and may
    show a certificate of our own; ``protocol`` (``http1``, ``h2`` or ``auto``) is what is offered.
    Secrets go to ``key_log``.

    Raises `ConfigError` for what cannot be used.
    """
    own = None
    if spec.chain_pem is not None and spec.key_pem is not None:
        own = (spec.chain_pem, spec.key_pem)
    believed = trust(spec.trust, system=True)
    return TlsClient(believed, own, ALPN[protocol], spec.min_version, key_log)
