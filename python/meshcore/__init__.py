"""meshcore: a layer-7 proxy and library in which Python carries bytes and time, Rust decides."""

from meshcore._core import Answer, Attempt, Request, Response, __version__, now_ns
from meshcore.config.load import load_file, load_text
from meshcore.config.model import Config
from meshcore.errors import (
    BreakerOpen,
    ConfigError,
    LayerError,
    MeshcoreError,
    NoHealthyEndpoint,
    Problem,
    RateLimited,
)
from meshcore.exchange.layers import Layer
from meshcore.library.balancer import Balancer
from meshcore.library.breaker import CircuitBreaker
from meshcore.library.limiters import ClientLimiter, TokenBucket
from meshcore.library.routes import RouteMap
from meshcore.library.shared import SharedState
from meshcore.process.proxy import Proxy

__all__ = [
    "Answer",
    "Attempt",
    "Balancer",
    "BreakerOpen",
    "CircuitBreaker",
    "ClientLimiter",
    "Config",
    "ConfigError",
    "Layer",
    "LayerError",
    "MeshcoreError",
    "NoHealthyEndpoint",
    "Problem",
    "Proxy",
    "RateLimited",
    "Request",
    "Response",
    "RouteMap",
    "SharedState",
    "TokenBucket",
    "__version__",
    "load_file",
    "load_text",
    "now_ns",
]
