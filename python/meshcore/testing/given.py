"""What tests give for fields and bodies; it needs nothing of a configuration."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from meshcore.config.hints import shown

Headers = Mapping[str, str] | Iterable[tuple[str, str]]


def pairs_of(headers: Headers) -> list[tuple[str, str]]:
    """Header fields as pairs. Raises `TypeError` for what is none."""
    given: Any = headers.items() if isinstance(headers, Mapping) else headers
    try:
        pairs = [(name, value) for name, value in given]
    except (TypeError, ValueError):
        raise TypeError(
            f"headers: expected a mapping, or pairs of texts, got {shown(headers)}"
        ) from None
    for name, value in pairs:
        if not (isinstance(name, str) and isinstance(value, str)):
            raise TypeError(f"headers: expected texts, got {name!r}: {value!r}")
    return pairs


def octets(body: object) -> bytes:
    """A body. Raises `TypeError` for what is none."""
    if not isinstance(body, bytes | bytearray | memoryview):
        hint = ": write text.encode()" if isinstance(body, str) else ""
        raise TypeError(f"body: expected bytes, got {shown(body)}{hint}")
    return bytes(body)
