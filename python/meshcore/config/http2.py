"""HTTP/2 on a connection: `protocols.h2` of a listener, `h2` of an upstream."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from meshcore.config.fields import (
    ConnectionWindow,
    Duration,
    Model,
    RateText,
    Span,
    StreamWindow,
    duration,
    rate,
    size,
)
from meshcore.config.units import format_size

# RFC 9113 §6.5.2 recommends no fewer.
DEFAULT_STREAMS = 100
# Each may hold a head of 64 KiB: 640 MB for one connection.
MAX_STREAMS = 10_000


class Http2Connection(Model):
    """What holds for a connection whichever side opened it."""

    engine: Literal["native", "python"] = Field(
        "native", description="`python`: the reference engine, slow; for comparing."
    )
    streams: int = Field(
        DEFAULT_STREAMS,
        ge=1,
        le=MAX_STREAMS,
        description="Most streams of a connection at one time.",
    )
    stream_window: StreamWindow = size(
        "256KiB", "Bytes of a stream that may be on their way to us."
    )
    connection_window: ConnectionWindow = size("1MiB", "The same for all streams of a connection.")
    ping: Duration = duration(
        "60s",
        "With open streams and nothing from the peer for that long it is asked for a sign of life; "
        "0: never.",
    )
    ping_timeout: Span = duration("20s", "How long the sign of life may take.")

    @model_validator(mode="after")
    def _a_stream_fits(self) -> Self:
        if self.connection_window < self.stream_window:
            raise ValueError(
                f"connection_window ({format_size(self.connection_window)}) must be at least "
                f"stream_window ({format_size(self.stream_window)})"
            )
        return self


class Http2(Http2Connection):
    """HTTP/2 with clients. Beyond a rate the connection ends with ENHANCE_YOUR_CALM."""

    resets: RateText = rate("100/s", "How often the peer may reset streams; twice that at once.")
    control_frames: RateText = rate(
        "100/s", "How often it may send frames that carry nothing of a message; 1000 at once."
    )


class UpstreamHttp2(Http2Connection):
    """HTTP/2 with endpoints."""

    streams: int = Field(
        DEFAULT_STREAMS,
        ge=1,
        le=MAX_STREAMS,
        description="Most streams that we open on a connection; the endpoint may allow fewer.",
    )
    # gRPC servers end a connection that pings more often than every 5 minutes (gRFC A8).
    ping: Duration = duration(
        "6m",
        "With open streams and nothing from the endpoint for that long it is asked for a sign of "
        "life; 0: never.",
    )
