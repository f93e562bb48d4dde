"""What is asked of every proxy, and the bars."""

from __future__ import annotations

from typing import NamedTuple

PROXIES = ("meshcore", "haproxy", "nginx", "envoy")
# nginx speaks HTTP/2 to no upstream, and puts large bodies into files.
STREAMING = ("meshcore", "haproxy", "envoy")
LARGE_BYTES = 100 << 20
# Streams of a large body are counted, not timed: one that was cut off costs CPU and is no figure.
LARGE_STREAMS = 10


class Streams(NamedTuple):
    """How h2load asks: connections, and streams at a time on each, for some seconds or requests."""

    connections: int
    each: int
    requests: int = 0
    # A file below the folder; the requests are POST then.
    body: str = ""
    grpc: bool = False
    # What every answer carries, where that is checked.
    data_bytes: int = 0


class Scenario(NamedTuple):
    """What is asked, of which proxies, and how much of another's CPU meshcore may take.

    With `h2` the client speaks HTTP/2. Below `/h2` and `/grpc` the origin does too.
    """

    path: str
    bars: dict[str, float]
    tls: bool = False
    # A connection for each request; over TLS its handshake is resumed but with `full`.
    closes: bool = False
    full: bool = False
    upload_bytes: int = 0
    routes: int = 1
    layered: bool = False
    h2: Streams | None = None
    proxies: tuple[str, ...] = PROXIES


H2_BARS = {"haproxy": 1.08, "envoy": 0.5}
_DOWN = Streams(1, 1, LARGE_STREAMS, data_bytes=LARGE_BYTES)
_UP = Streams(1, 1, LARGE_STREAMS, body="files/100m")
_GRPC = Streams(8, 16, body="files/grpc/say.grpc", grpc=True)
_GRPC_PATH = "/grpc/say.grpc"

SCENARIOS = {
    "plain": Scenario("/", {"haproxy": 1.0, "envoy": 0.5}),
    "layer": Scenario("/", {}, layered=True, proxies=("meshcore",)),
    "tls": Scenario("/", {"haproxy": 1.05, "envoy": 0.5}, tls=True),
    "tls 1m": Scenario("/1m", {}, tls=True),
    "tls 1m up": Scenario("/", {}, tls=True, upload_bytes=1 << 20),
    "handshake": Scenario("/", {"haproxy": 0.6}, tls=True, closes=True, full=True),
    "resumption": Scenario("/", {}, tls=True, closes=True),
    "16k": Scenario("/16k", {"haproxy": 0.95}),
    "1m": Scenario("/1m", {"haproxy": 0.45}),
    "1m up": Scenario("/", {"haproxy": 0.35}, upload_bytes=1 << 20),
    "routes": Scenario("/route/0777/orders", {}, routes=1000),
    "h2 1x1": Scenario("/", {}, h2=Streams(1, 1)),
    "h2 8x16": Scenario("/", H2_BARS, h2=Streams(8, 16)),
    "h2 32x32": Scenario("/", H2_BARS, h2=Streams(32, 32)),
    "h2 h2": Scenario(
        "/h2/small", {"haproxy": 1.1, "envoy": 0.4}, h2=Streams(8, 16), proxies=STREAMING
    ),
    "grpc": Scenario(_GRPC_PATH, {"haproxy": 0.75, "envoy": 0.4}, h2=_GRPC, proxies=STREAMING),
    "100m down": Scenario("/h2/100m", {"envoy": 1.0}, h2=_DOWN, proxies=STREAMING),
    "100m up": Scenario("/h2/small", {"envoy": 1.0}, h2=_UP, proxies=STREAMING),
    "100m h1": Scenario("/100m", {"envoy": 1.0}, h2=_DOWN, proxies=STREAMING),
}
# What a layer in Python may add to a request, in microseconds.
LAYER_BAR_US = 0.9
# What the 99th percentile at a fixed rate may be of another's.
P99_PEER, P99_BAR = "haproxy", 1.2
