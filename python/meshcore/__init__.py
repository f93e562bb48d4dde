"""meshcore: a layer-7 proxy and library in which Python carries bytes and time, Rust decides."""

from meshcore._core import __version__, now_ns

__all__ = ["__version__", "now_ns"]
