"""meshcore: a layer-7 proxy and library in which Python carries bytes and time, Rust decides."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshcore._core import Answer, Attempt, Outcome, Permit, Request, Response, __version__, now_ns
from meshcore.lazy import found_in

if TYPE_CHECKING:
    from meshcore.config.load import load_file, load_text
    from meshcore.config.model import Config
    from meshcore.errors import (
        BreakerOpen,
        ConfigError,
        DeadlineExceeded,
        DeadlinePassed,
        Diagnostic,
        LayerError,
        MeshcoreError,
        NoHealthyEndpoint,
        RateLimited,
        Refused,
        SegmentLayoutError,
    )
    from meshcore.exchange.layers import Layer
    from meshcore.library.balancer import Balancer, EndpointStatus
    from meshcore.library.breaker import CircuitBreaker
    from meshcore.library.breaker_events import BreakerSnapshot, CallEnded, StateChanged
    from meshcore.library.breaker_rules import BreakerRules
    from meshcore.library.deadline import Deadline
    from meshcore.library.limited import (
        BucketSnapshot,
        ClientLimiterSnapshot,
        LimitState,
        Turn,
    )
    from meshcore.library.limiters import ClientLimiter, TokenBucket
    from meshcore.library.retry import CallRetried, GaveUp, Retry, RetryBudget, RetrySnapshot
    from meshcore.library.routes import RouteEntry, RouteFound, RouteMap
    from meshcore.library.shared import SharedState
    from meshcore.process.proxy import Proxy

__all__ = [
    "Answer",
    "Attempt",
    "Balancer",
    "BreakerOpen",
    "BreakerRules",
    "BreakerSnapshot",
    "BucketSnapshot",
    "CallEnded",
    "CallRetried",
    "CircuitBreaker",
    "ClientLimiter",
    "ClientLimiterSnapshot",
    "Config",
    "ConfigError",
    "Deadline",
    "DeadlineExceeded",
    "DeadlinePassed",
    "Diagnostic",
    "EndpointStatus",
    "GaveUp",
    "Layer",
    "LayerError",
    "LimitState",
    "MeshcoreError",
    "NoHealthyEndpoint",
    "Outcome",
    "Permit",
    "Proxy",
    "RateLimited",
    "Refused",
    "Request",
    "Response",
    "Retry",
    "RetryBudget",
    "RetrySnapshot",
    "RouteEntry",
    "RouteFound",
    "RouteMap",
    "SegmentLayoutError",
    "SharedState",
    "StateChanged",
    "TokenBucket",
    "Turn",
    "__version__",
    "load_file",
    "load_text",
    "now_ns",
]

# Where the rest is found when it is asked for: a worker process needs neither the configuration's
# models nor what parses them, which would be a third of its memory.
_HOMES = {
    "Balancer": "meshcore.library.balancer",
    "BreakerOpen": "meshcore.errors",
    "BreakerRules": "meshcore.library.breaker_rules",
    "BreakerSnapshot": "meshcore.library.breaker_events",
    "BucketSnapshot": "meshcore.library.limited",
    "CallEnded": "meshcore.library.breaker_events",
    "CallRetried": "meshcore.library.retry",
    "CircuitBreaker": "meshcore.library.breaker",
    "ClientLimiter": "meshcore.library.limiters",
    "ClientLimiterSnapshot": "meshcore.library.limited",
    "Config": "meshcore.config.model",
    "ConfigError": "meshcore.errors",
    "Deadline": "meshcore.library.deadline",
    "DeadlineExceeded": "meshcore.errors",
    "DeadlinePassed": "meshcore.errors",
    "EndpointStatus": "meshcore.library.balancer",
    "GaveUp": "meshcore.library.retry",
    "Layer": "meshcore.exchange.layers",
    "LayerError": "meshcore.errors",
    "LimitState": "meshcore.library.limited",
    "MeshcoreError": "meshcore.errors",
    "NoHealthyEndpoint": "meshcore.errors",
    "Diagnostic": "meshcore.errors",
    "Proxy": "meshcore.process.proxy",
    "RateLimited": "meshcore.errors",
    "Retry": "meshcore.library.retry",
    "RetryBudget": "meshcore.library.retry",
    "RetrySnapshot": "meshcore.library.retry",
    "Refused": "meshcore.errors",
    "RouteEntry": "meshcore.library.routes",
    "RouteFound": "meshcore.library.routes",
    "RouteMap": "meshcore.library.routes",
    "SegmentLayoutError": "meshcore.errors",
    "SharedState": "meshcore.library.shared",
    "StateChanged": "meshcore.library.breaker_events",
    "TokenBucket": "meshcore.library.limiters",
    "Turn": "meshcore.library.limited",
    "load_file": "meshcore.config.load",
    "load_text": "meshcore.config.load",
}


# Type checkers know the names above, and no others.
if not TYPE_CHECKING:
    __getattr__ = found_in(__name__, _HOMES)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
