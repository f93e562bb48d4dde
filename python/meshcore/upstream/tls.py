"""TLS towards endpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from meshcore._core import SecureTransport, TlsClient
from meshcore.errors import TlsError
from meshcore.upstream.socket_state import detail_of
from meshcore.wire.trust import trust

if TYPE_CHECKING:
    import asyncio

    from meshcore._core import KeyLog
    from meshcore.config.snapshot import UpstreamTlsSpec

# Of a connection that its endpoint ended as soon as it was there.
UNLENT: Final = "closed before it was lent"
# RFC 7301: what is offered, the preferred first.
ALPN: Final = {"http1": ["http/1.1"], "h2": ["h2"], "auto": ["h2", "http/1.1"]}

# What an endpoint says of our certificate, or of there being none (RFC 8446 §6.2).
_OF_CERTIFICATE: Final = frozenset(
    {
        "access_denied",
        "bad_certificate",
        "certificate_expired",
        "certificate_required",
        "certificate_revoked",
        "certificate_unknown",
        "decrypt_error",
        "handshake_failure",
        "unknown_ca",
        "unsupported_certificate",
    }
)


def end_of_tls(transport: asyncio.Transport, error: Exception | None) -> Exception | None:
    """Why a connection is lost: what the other side said of it, where that was read behind the
    system's error."""
    said = transport.failure if isinstance(transport, SecureTransport) else None
    return said or error


def describe_end(
    transport: asyncio.Transport,
    error: Exception | None,
    *,
    answers: bool,
    detail: str | None = None,
) -> str:
    """The same in few words, for the log. An endpoint that ends without a word of TLS before it
    ever ``answers`` may have wanted a certificate."""
    detail = detail or detail_of(error)
    asked = isinstance(transport, SecureTransport) and transport.lacks_certificate
    if answers or not asked or isinstance(error, TlsError):
        return detail
    return f"{detail}: it asked for a certificate, and none is given"


def loss_of(transport: asyncio.Transport, error: Exception | None) -> OSError:
    """Why a connection was not lent that ended as soon as it was there."""
    detail = None if isinstance(error, OSError) else UNLENT
    described = describe_end(transport, error, answers=False, detail=detail)
    if isinstance(error, OSError) and described == detail_of(error):
        return error
    return ConnectionResetError(described)


def refuses_us(error: Exception | None) -> bool:
    """Whether the endpoint refuses who we are. With TLS 1.3 it says so when our side of the
    handshake is over, and a request is on its way: it has not read that."""
    return isinstance(error, TlsError) and error.by_peer and error.alert in _OF_CERTIFICATE


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
