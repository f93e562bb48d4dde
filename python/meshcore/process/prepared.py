"""A configuration made ready beside the one in force: all that may fail has been tried."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from meshcore.codec.engines import client_engine, server_engine
from meshcore.downstream.tls import server_context
from meshcore.upstream.tls import client_context

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshcore._core import Engine, KeyLog, TicketRing, TlsClient, TlsServer
    from meshcore._core import Prepared as CorePrepared
    from meshcore.codec import ClientCodec
    from meshcore.config.change import Change


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a worker puts in force in one step. Dropping it changes nothing."""

    change: Change
    core: CorePrepared
    listener_tls: dict[str, TlsServer | None]
    upstream_tls: dict[str, TlsClient | None]
    upstream_codecs: dict[str, Callable[[bool, int], ClientCodec]]


def prepare(
    engine: Engine, change: Change, tickets: TicketRing, key_log: KeyLog | None = None
) -> Prepared:
    """Compile a change. Takes as long as the change is large: for a thread beside the loop.

    Raises `ConfigError` for what the core refuses, a certificate among it.
    """
    for spec in change.listeners:
        if spec.h2 is not None:
            server_engine(spec.h2)  # so that it is imported, and has no fault, when it is needed
    return Prepared(
        change,
        engine.prepare(change.core),
        {spec.name: server_context(spec, tickets, key_log) for spec in change.listeners},
        {
            spec.name: client_context(spec.tls, spec.protocol, key_log) if spec.tls else None
            for spec in change.upstreams
        },
        {spec.name: client_engine(spec.h2, spec.codec_limits()) for spec in change.upstreams},
    )
