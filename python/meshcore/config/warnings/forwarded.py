"""Forwarded certificates where no client shows one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshcore.errors import Diagnostic

if TYPE_CHECKING:
    from collections.abc import Iterator

    from meshcore.config.model import Config


def unasked_certificates(config: Config) -> Iterator[Diagnostic]:
    """`forwarded_client_cert: append` of listeners that ask no client for one. O(listeners)."""
    for name, listener in config.listeners.items():
        if listener.forwarded_client_cert == "append" and not listener.asks_for_certificates:
            message = "append: no client is asked for a certificate there, so none is told"
            yield Diagnostic(
                ("listeners", name, "forwarded_client_cert"), message, "forward says what is done"
            )
