"""Authorities without a revocation list in force, as status and the log tell of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from meshcore._core import tls_is_late, tls_listing
from meshcore.process.history import stamp
from meshcore.process.process_metrics import gauges

if TYPE_CHECKING:
    from collections.abc import Iterator

    from meshcore.config.snapshot import Snapshot, TrustSpec
    from meshcore.process.process_metrics import Family, Labels


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
    is_forged: bool
    """A list says that it is of its key, which has not signed it."""
    since_s: int
    """The first second in which it has none, since 1970."""
    until_s: int
    """The last second: behind that it signs for nobody."""
    list_ends_s: int | None
    """When its list runs out; ``None`` of one without."""


class RevocationList(NamedTuple):
    """One, and where it stands."""

    listener: str
    upstream: str
    server_name: str
    """As of an `Unlisted`."""
    issuer: str
    next_update_s: int | None
    """When there is to be a newer one, in seconds since 1970."""
    is_used_later: bool
    """What it says counts behind that too."""

    @property
    def owner(self) -> str:
        """Who goes by it, for people."""
        owner = f"listener {self.listener}" if self.listener else f"upstream {self.upstream}"
        return owner + (f" for {self.server_name}" if self.server_name else "")

    def is_late(self, unix_s: float) -> bool:
        """Whether another was due."""
        return tls_is_late(self.next_update_s, int(unix_s))

    def is_expired(self, unix_s: float) -> bool:
        """Whether it counts no more, and so nobody comes in whom it is about."""
        return self.is_late(unix_s) and not self.is_used_later


_Read: TypeAlias = "tuple[Snapshot, tuple[Unlisted, ...], tuple[RevocationList, ...]]"


class UnlistedAuthorities:
    """Those of the configuration in force, and its lists, which are read once."""

    def __init__(self) -> None:
        self._read: _Read | None = None

    def of(self, snapshot: Snapshot) -> tuple[Unlisted, ...]:
        """All that are, were or will be, as long as it is in force. O(bytes of lists) for a
        new one: not for a loop that serves clients."""
        return self._all(snapshot)[1]

    def lists(self, snapshot: Snapshot) -> tuple[RevocationList, ...]:
        """Every list; else as `of`."""
        return self._all(snapshot)[2]

    def _all(self, snapshot: Snapshot) -> _Read:
        read = self._read
        if read is None or read[0] is not snapshot:
            self._read = read = _read(snapshot)
        return read

    def has_read(self, snapshot: Snapshot) -> bool:
        """Whether its lists have been read."""
        return self._read is not None and self._read[0] is snapshot

    def families(self, snapshot: Snapshot) -> Iterator[Family]:
        """The metric that tells when lists run out; none without any. Else as `of`."""
        ends: dict[Labels, int] = {}
        for x in self.lists(snapshot):
            if x.next_update_s is not None:
                names = ("listener", "upstream", "server_name", "issuer")
                values = (x.listener, x.upstream, x.server_name, x.issuer)
                labels = tuple(zip(names, values, strict=True))
                ends[labels] = min(ends.get(labels, x.next_update_s), x.next_update_s)
        if ends:
            yield gauges(
                "meshcore_crl_next_update_seconds",
                "When a revocation list is due to be followed by another, in seconds since 1970.",
                ends,
            )

    def lists_overview(self, snapshot: Snapshot, unix_s: float) -> list[dict[str, Any]]:
        """The part of a status that tells of lists; what ends first comes first. Else as `of`."""
        last_s = float("inf")
        return [
            {
                **owner_overview(x.listener, x.upstream, x.server_name),
                "issuer": x.issuer,
                "next_update": None if (due_s := x.next_update_s) is None else stamp(due_s),
                "expired": x.is_late(unix_s),
                "used_when_expired": x.is_used_later,
            }
            for x in sorted(self.lists(snapshot), key=lambda x: x.next_update_s or last_s)
        ]

    def now(self, snapshot: Snapshot, unix_s: float) -> list[Unlisted]:
        """Those at a time; else as `of`."""
        return [x for x in self.of(snapshot) if x.since_s <= int(unix_s) <= x.until_s]

    def overview(self, snapshot: Snapshot, unix_s: float) -> list[dict[str, Any]]:
        """The part of a status that tells of them; else as `of`."""
        return [
            {
                **owner_overview(x.listener, x.upstream, x.server_name),
                "authority": x.authority,
                "comes_in": "nobody" if x.is_shut_out else "revoked",
                "list_expired": stamp(x.list_ends_s) if x.list_ends_s is not None else None,
                "list_forged": x.is_forged,
            }
            for x in self.now(snapshot, unix_s)
        ]


def owner_overview(listener: str, upstream: str, server_name: str) -> dict[str, str | None]:
    """Who goes by a part of TLS, as a status has it."""
    return {
        "listener": listener or None,
        "upstream": upstream or None,
        "server_name": server_name or None,
    }


def _read(snapshot: Snapshot) -> _Read:
    unlisted: list[Unlisted] = []
    lists: list[RevocationList] = []
    for at, trust in _trusts(snapshot):
        if not trust.crl_pem:
            continue
        found, lacking = tls_listing(trust.crl_pem, _known(trust))
        lists += [
            RevocationList(*at, x.issuer, x.next_update_s, trust.use_expired_crl) for x in found
        ]
        unlisted += [
            Unlisted(*at, x.whose, x.is_shut_out, x.is_forged, x.since_s, x.until_s, x.list_ends_s)
            for x in lacking
            if x.list_ends_s is None or not trust.use_expired_crl
        ]
    return snapshot, tuple(unlisted), tuple(lists)


def _known(trust: TrustSpec) -> bytes:
    return "\n".join([trust.ca_pem or "", *(pem for _, pem in trust.domains)]).encode()


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
