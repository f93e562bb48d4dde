"""The certificates that a configuration shows, as status and metrics tell of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from meshcore._core import tls_facts
from meshcore.process.history import stamp
from meshcore.process.vitals import Family

if TYPE_CHECKING:
    from collections.abc import Iterator

    from meshcore.config.snapshot import Snapshot

_DAY_S = 86_400


class Certificate(NamedTuple):
    """One, and where it stands."""

    listener: str
    upstream: str
    server_name: str
    """For which name of `sni`; empty for every other, and of an upstream."""
    names: tuple[str, ...]
    not_after_s: int
    """The last second, since 1970, in which its whole chain is valid."""


class Certificates:
    """Those of the configuration in force; read once for each."""

    def __init__(self) -> None:
        self._of: Snapshot | None = None
        self._all: tuple[Certificate, ...] = ()

    def of(self, snapshot: Snapshot) -> tuple[Certificate, ...]:
        """All of a snapshot. O(certificates) for a new one."""
        if snapshot is not self._of:
            self._of, self._all = snapshot, tuple(_read(snapshot))
        return self._all

    def family(self, snapshot: Snapshot) -> Family:
        """The metric that tells when they end."""
        return Family(
            "meshcore_certificate_not_after_seconds",
            "gauge",
            "When a certificate, or one of its chain, expires, in seconds since 1970.",
            {
                f'listener="{x.listener}",upstream="{x.upstream}",server_name="{x.server_name}"': (
                    x.not_after_s
                )
                for x in self.of(snapshot)
            },
        )

    def overview(self, snapshot: Snapshot, unix_s: float) -> list[dict[str, Any]]:
        """The part of a status that tells of them; what ends first comes first."""
        return [
            {
                "listener": x.listener or None,
                "upstream": x.upstream or None,
                "server_name": x.server_name or None,
                "names": list(x.names),
                "not_after": stamp(x.not_after_s),
                "days_left": int((x.not_after_s - unix_s) // _DAY_S),
            }
            for x in sorted(self.of(snapshot), key=lambda x: x.not_after_s)
        ]


def _read(snapshot: Snapshot) -> Iterator[Certificate]:
    for listener in snapshot.listeners:
        for pair in listener.tls.certificates if listener.tls is not None else ():
            yield _facts(pair.chain_pem, listener.name, "", pair.server_name or "")
    for upstream in snapshot.upstreams:
        if upstream.tls is not None and upstream.tls.chain_pem is not None:
            yield _facts(upstream.tls.chain_pem, "", upstream.name, "")


def _facts(chain_pem: bytes, listener: str, upstream: str, server_name: str) -> Certificate:
    chain = tls_facts(chain_pem)
    not_after_s = min(last for _, _, last, _ in chain)
    return Certificate(listener, upstream, server_name, tuple(chain[0][0]), not_after_s)
