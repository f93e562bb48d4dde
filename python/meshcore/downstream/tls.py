"""The seam where TLS is ended: contexts of the standard `ssl` module, one per certificate."""

from __future__ import annotations

import asyncio
import ssl
from asyncio.sslproto import SSLProtocol
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import uvloop
from uvloop.loop import SSLProtocol as UvloopSSLProtocol  # type: ignore[attr-defined]

from meshcore.wire.pem import load_chain

if TYPE_CHECKING:
    from meshcore.config.snapshot import CertificateSpec, ListenerSpec, TlsSpec

# What the loop itself has to say at a close has so long: an unanswered close_notify ends a TLS
# connection then.
CLOSE_NS: Final = 2_000_000_000


class Handshake(NamedTuple):
    """How TLS is ended on one of a listener's servers."""

    context: ssl.SSLContext
    timeout_s: float | None
    http1: bool
    """ALPN offers it."""

    @classmethod
    def of(cls, spec: ListenerSpec, context: ssl.SSLContext) -> Handshake:
        """As configured."""
        return cls(context, spec.tls_handshake_timeout_ns / 1e9 or None, spec.http1)

    def begin(
        self, transport: asyncio.Transport, protocol: asyncio.BaseProtocol
    ) -> asyncio.Future[None]:
        """End TLS on a transport that was just made; ``protocol`` is told of the one above it when
        the handshake is done. The future is done when the handshake is over, well or not.

        As the loops' servers do it. Those tell nobody of a connection before its handshake is done,
        so that it could not be counted; and `start_tls` reads before it is asked for (uvloop), or
        hands over what was read before the transport (asyncio).
        """
        loop = asyncio.get_running_loop()
        kind: Any = UvloopSSLProtocol if isinstance(loop, uvloop.Loop) else SSLProtocol
        made: asyncio.Future[None] = loop.create_future()
        tls = kind(
            loop,
            protocol,
            self.context,
            made,
            server_side=True,
            ssl_handshake_timeout=self.timeout_s,
            ssl_shutdown_timeout=CLOSE_NS / 1e9,
        )
        transport.set_protocol(tls)
        tls.connection_made(transport)
        return made


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
