"""Bytes that belong to one request and to no other, and that differ at every place."""

from __future__ import annotations

import hashlib

REQUEST = "request"
ANSWER = "answer"
BUSY = "busy"
"""Of the 503 that asks to come again."""
LAYER = "layer"
"""Of an answer that a Python layer gives; with the proxy's name behind it."""

LAYER_BYTES = 3000


def stream(what: str, name: str, size: int) -> bytes:
    """The first bytes of a stream without end."""
    return hashlib.shake_256(f"{what} {name}".encode()).digest(size)


def framed(message: bytes) -> bytes:
    """As gRPC sends it."""
    return b"\0" + len(message).to_bytes(4, "big") + message


def digest(data: bytes) -> str:
    """Tells bodies apart."""
    return hashlib.blake2b(data, digest_size=8).hexdigest()


def pad(name: str, size: int) -> str:
    """The value of a field that only this request has."""
    return stream("pad", name, size // 2).hex()
