"""The seam where TLS is ended: contexts of the standard `ssl` module, one per certificate."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from meshcore.wire.pem import load_chain

if TYPE_CHECKING:
    from meshcore.config.snapshot import CertificateSpec, TlsSpec


def server_context(spec: TlsSpec, alpn: list[str]) -> ssl.SSLContext:
    """A context that serves every certificate of a listener, chosen by server name (RFC 6066 §3).

    The first certificate answers clients that name nothing or an unknown host; ``alpn`` are the
    protocols that are spoken, the preferred first (RFC 7301).
    """
    contexts = {pair.server_name: _context(spec, pair, alpn) for pair in spec.certificates}
    default = next(iter(contexts.values()))
    if len(contexts) > 1:

        def choose(connection: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
            found = contexts.get(name) or contexts.get(wildcard(name))
            if found is not None:
                connection.context = found

        default.sni_callback = choose
    return default


def wildcard(name: str | None) -> str | None:
    """`*.example.com` for `a.example.com`: one label, as certificates match (RFC 9525 §6.3)."""
    if name is None or "." not in name:
        return None
    return f"*.{name.partition('.')[2]}"


def _context(spec: TlsSpec, pair: CertificateSpec, alpn: list[str]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = (
        ssl.TLSVersion.TLSv1_3 if spec.min_version == "1.3" else ssl.TLSVersion.TLSv1_2
    )
    load_chain(context, pair.chain_pem, pair.key_pem)
    context.set_alpn_protocols(alpn)
    if spec.client_ca_pem is not None:
        context.load_verify_locations(cadata=spec.client_ca_pem)
        context.verify_mode = ssl.CERT_REQUIRED
    return context
