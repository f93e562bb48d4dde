"""Authorities without a revocation list in force, as status and the log tell of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from meshcore._core import tls_unlisted
from meshcore.process.history import stamp

if TYPE_CHECKING:
    from collections.abc import Iterator

    from meshcore.config.snapshot import Snapshot, TrustSpec


class Unlisted(NamedTuple):
    """One that has none for a time: none is of its key, where one is of its name, or its list runs
    out."""

    listener: str
    upstream: str
    server_name: str
    """For which name of `sni`; empty for every other, and of an upstream."""
    authority: str
    is_shut_out: bool
    """No client comes in that it signed, as far as its list is about them; else those do that it
    has revoked."""
    since_s: int
    """Since when, in seconds since 1970."""
    until_s: int
    """The last second: behind that it signs for nobody."""
    list_ends_s: int | None
    """When its list runs out; ``None`` of one without."""

    @property
    def owner(self) -> str:
        """Who goes by it, for people."""
        owner = f"listener {self.listener}" if self.listener else f"upstream {self.upstream}"
        return owner + (f" for {self.server_name}" if self.server_name else "")


class UnlistedAuthorities:
    """Those of the configuration in force; its lists are read once."""

    def __init__(self) -> None:
        self._read: tuple[Snapshot, tuple[Unlisted, ...]] | None = None

    def of(self, snapshot: Snapshot) -> tuple[Unlisted, ...]:
        """All that are, were or will be, as long as it is in force. For a thread where clients are
        served: O(bytes of lists) for a new one."""
        read = self._read
        if read is None or read[0] is not snapshot:
            self._read = read = (snapshot, tuple(_unlisted(snapshot)))
        return read[1]

    def now(self, snapshot: Snapshot, unix_s: float) -> list[Unlisted]:
        """Those at a time; else as `of`."""
        return [x for x in self.of(snapshot) if x.since_s <= unix_s <= x.until_s]

    def overview(self, snapshot: Snapshot, unix_s: float) -> list[dict[str, Any]]:
        """The part of a status that tells of them; else as `of`."""
        return [
            {
                "listener": x.listener or None,
                "upstream": x.upstream or None,
                "server_name": x.server_name or None,
                "authority": x.authority,
                "comes_in": "nobody" if x.is_shut_out else "revoked",
                "list_expired": stamp(x.list_ends_s) if x.list_ends_s is not None else None,
            }
            for x in self.now(snapshot, unix_s)
        ]


def _unlisted(snapshot: Snapshot) -> Iterator[Unlisted]:
    for at, trust in _trusts(snapshot):
        pems = [trust.ca_pem or "", *(pem for _, pem in trust.domains)]
        known = "\n".join(pems).encode()
        for x in tls_unlisted(known, trust.crl_pem) if trust.crl_pem and known else ():
            if x.list_ends_s is None or not trust.use_expired_crl:
                times = (x.since_s, x.until_s, x.list_ends_s)
                yield Unlisted(*at, x.whose, x.is_shut_out, *times)


def _trusts(snapshot: Snapshot) -> Iterator[tuple[tuple[str, str, str], TrustSpec]]:
    """Whom clients and endpoints are believed by, and where: listener, upstream, server name."""
    for listener in snapshot.listeners:
        if (tls := listener.tls) is None:
            continue
        by_name = {pair.server_name or "": pair.clients for pair in tls.certificates}
        for server_name, clients in (by_name | {"": tls.clients}).items():
            if clients is not None:
                yield (listener.name, "", server_name), clients
    for upstream in snapshot.upstreams:
        if upstream.tls is not None and upstream.tls.trust is not None:
            yield ("", upstream.name, ""), upstream.tls.trust
