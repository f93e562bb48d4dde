"""The native half of meshcore: every decision, no input or output."""

from typing import Final

__all__ = ["__version__", "now_ns"]

__version__: Final[str]

def now_ns() -> int:
    """Nanoseconds of ``CLOCK_MONOTONIC``: the clock that every ``now_ns`` argument is read from."""
