"""Which engine speaks HTTP/2 on a connection.

The reference engine is imported when it is asked for: else its package need not be in memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshcore._core import CodecLimits, H2ClientCodec, H2Config, H2ServerCodec

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshcore.codec import ClientCodec, ServerCodec
    from meshcore.config.snapshot import Http2Spec


def _config(spec: Http2Spec) -> H2Config:
    return H2Config(
        streams=spec.streams,
        stream_window=spec.stream_window_bytes,
        connection_window=spec.connection_window_bytes,
        resets=spec.resets,
        control_frames=spec.control_frames,
    )


def server_engine(spec: Http2Spec) -> Callable[[CodecLimits, bool, int], ServerCodec]:
    """Makes the codec of a client's connection: of limits, whether it came over TLS, and now."""
    if spec.engine == "python":
        from meshcore.codec.reference_server import ReferenceServer

        return lambda limits, secure, now_ns: ReferenceServer(limits, secure, spec, now_ns)
    config = _config(spec)
    return lambda limits, secure, now_ns: H2ServerCodec(limits, secure, config, now_ns)


def client_engine(
    spec: Http2Spec, limits: CodecLimits | None = None
) -> Callable[[bool, int], ClientCodec]:
    """Makes the codec of a connection to an endpoint: of whether it is over TLS, and now.

    ``limits``: of its responses.
    """
    allowed = limits if limits is not None else CodecLimits()
    if spec.engine == "python":
        from meshcore.codec.reference_client import ReferenceClient

        return lambda secure, now_ns: ReferenceClient(allowed, secure, spec, now_ns)
    config = _config(spec)
    return lambda secure, now_ns: H2ClientCodec(allowed, secure, config, now_ns)
