"""meshcore: a layer-7 proxy and library in which Python carries bytes and time, Rust decides."""

from meshcore._core import Answer, Request, Response, __version__, now_ns
from meshcore.exchange.layers import Layer
from meshcore.process.proxy import Proxy

__all__ = ["Answer", "Layer", "Proxy", "Request", "Response", "__version__", "now_ns"]
