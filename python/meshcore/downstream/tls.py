"""What TLS is made of towards clients."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from meshcore._core import TlsServer
from meshcore.config.ticket_keys import KEY_BYTES
from meshcore.wire.trust import trust

if TYPE_CHECKING:
    from meshcore._core import KeyLog, TicketRing
    from meshcore.config.snapshot import ListenerSpec


def ticket_key() -> bytes:
    """A new key of tickets."""
    return os.urandom(KEY_BYTES)


def server_context(
    spec: ListenerSpec, tickets: TicketRing, key_log: KeyLog | None = None
) -> TlsServer | None:
    """What a listener ends TLS with, if it does: every certificate, chosen by server name (RFC 6066
    §3), and the protocols that are spoken, the preferred first (RFC 7301). The first certificate is
    for clients that name nothing or an unknown host. Sessions are resumed by ``tickets``; secrets
    go to ``key_log``.

    Takes a millisecond a certificate. Raises `ConfigError` for what cannot be used.
    """
    tls = spec.tls
    if tls is None:
        return None
    return TlsServer(
        spec.name,
        [
            (x.server_name, x.chain_pem, x.key_pem, x.ocsp_der, trust(x.clients))
            for x in tls.certificates
        ],
        [*(["h2"] if spec.h2 else []), *(["http/1.1"] if spec.http1 else [])],
        tls.min_version,
        trust(tls.clients),
        tickets,
        key_log,
    )
