"""The certificates that a configuration shows, as status, metrics and the log tell of them."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from meshcore._core import tls_facts, tls_staple, tls_unlisted
from meshcore.process.history import stamp
from meshcore.process.process_metrics import gauges

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from meshcore.config.snapshot import CertificateSpec, Snapshot, TrustSpec
    from meshcore.process.process_metrics import Family, Labels

_DAY_S = 86_400
CHECK_S: Final = 60.0
"""How often it is looked for what is not shown any more."""

log = logging.getLogger("meshcore.tls")


class Staple(NamedTuple):
    """What an authority says of a certificate."""

    status: str
    """``good``, ``revoked`` or ``unknown``."""
    this_update_s: int
    """Since when that is so, in seconds since 1970: before it is not shown."""
    next_update_s: int | None
    """When there is to be a newer response, in seconds since 1970: behind that it is not shown."""


class Certificate(NamedTuple):
    """One, and where it stands."""

    listener: str
    upstream: str
    server_name: str
    """For which name of `sni`; empty for every other, and of an upstream."""
    key_kind: str
    """``RSA``, ``ECDSA``, ``Ed25519`` or ``other``: a name may have one of each."""
    names: tuple[str, ...]
    not_after_s: int
    """The last second, since 1970, in which its whole chain is valid."""
    staple: Staple | None = None

    @property
    def labels(self) -> Labels:
        """Of metrics."""
        names = ("listener", "upstream", "server_name", "key")
        values = (self.listener, self.upstream, self.server_name, self.key_kind)
        return tuple(zip(names, values, strict=True))


class Unlisted(NamedTuple):
    """An authority of whose key there is no revocation list, where there is one of its name."""

    listener: str
    upstream: str
    server_name: str
    authority: str
    is_shut_out: bool
    """No client that it signed comes in; else those that it has revoked do."""


class Certificates:
    """Those of the configuration in force; read once for each."""

    def __init__(self) -> None:
        self._of: Snapshot | None = None
        self._all: tuple[Certificate, ...] = ()
        self._unlisted: tuple[Unlisted, ...] = ()

    def of(self, snapshot: Snapshot) -> tuple[Certificate, ...]:
        """All of a snapshot. O(certificates) for a new one."""
        if snapshot is not self._of:
            self._of, self._all = snapshot, tuple(_read(snapshot))
            self._unlisted = tuple(_unlisted(snapshot, time.time()))
        return self._all

    def families(self, snapshot: Snapshot) -> Iterator[Family]:
        """The metrics that tell when they end, and what is said of them; none without any."""
        ends = {x.labels: x.not_after_s for x in self.of(snapshot)}
        if ends:
            yield gauges(
                "meshcore_certificate_not_after_seconds",
                "When a certificate, or one of its chain, expires, in seconds since 1970.",
                ends,
            )
        staples = {x.labels: x.staple for x in self.of(snapshot)}
        due = {
            labels: staple.next_update_s
            for labels, staple in staples.items()
            if staple is not None and staple.next_update_s is not None
        }
        if due:
            yield gauges(
                "meshcore_ocsp_next_update_seconds",
                "When a certificate's OCSP response is not shown any more, in seconds since 1970.",
                due,
            )

    def overview(self, snapshot: Snapshot, unix_s: float) -> list[dict[str, Any]]:
        """The part of a status that tells of them; what ends first comes first."""
        return [
            {
                "listener": x.listener or None,
                "upstream": x.upstream or None,
                "server_name": x.server_name or None,
                "key": x.key_kind,
                "names": list(x.names),
                "not_after": stamp(x.not_after_s),
                "days_left": int((x.not_after_s - unix_s) // _DAY_S),
                "ocsp": _staple_overview(x.staple, unix_s),
            }
            for x in sorted(self.of(snapshot), key=lambda x: x.not_after_s)
        ]

    def unlisted(self, snapshot: Snapshot) -> list[dict[str, Any]]:
        """The part of a status that tells of authorities without a revocation list."""
        self.of(snapshot)
        return [
            {
                "listener": x.listener or None,
                "upstream": x.upstream or None,
                "server_name": x.server_name or None,
                "authority": x.authority,
                "comes_in": "nobody" if x.is_shut_out else "revoked",
            }
            for x in self._unlisted
        ]


def _staple_overview(staple: Staple | None, unix_s: float) -> dict[str, Any] | None:
    if staple is None:
        return None
    due_s = staple.next_update_s
    is_early, is_late = unix_s < staple.this_update_s, due_s is not None and due_s < unix_s
    return {
        "status": staple.status,
        "this_update": stamp(staple.this_update_s),
        "next_update": stamp(due_s) if due_s is not None else None,
        "shown": not (is_early or is_late),
        "expired": is_late,
    }


class StapleWatch:
    """Tells the log of each response that is not shown any more, once."""

    def __init__(self, certificates: Certificates, snapshot: Callable[[], Snapshot]) -> None:
        """``snapshot``: the one in force."""
        self._certificates = certificates
        self._snapshot = snapshot
        self._reported: set[Certificate] = set()
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """Look now and then, until `end`."""
        self.look()
        self._timer = asyncio.get_running_loop().call_later(CHECK_S, self.begin)

    def end(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()

    def look(self) -> None:
        """Whether there is one. O(certificates)."""
        now_s = time.time()
        ended: set[Certificate] = set()
        for each in self._certificates.of(self._snapshot()):
            due_s = each.staple.next_update_s if each.staple is not None else None
            if due_s is not None and due_s < now_s:
                ended.add(each)
        for each in ended - self._reported:
            asked = f" for {each.server_name}" if each.server_name else ""
            due_s = each.staple.next_update_s if each.staple is not None else None
            log.warning(
                "listener %s: the OCSP response of the %s certificate%s expired at %s: it is not "
                "shown any more",
                *(each.listener, each.key_kind, asked, stamp(due_s or 0)),
            )
        self._reported = ended


def listeners_overview(snapshot: Snapshot) -> dict[str, dict[str, Any]]:
    """How each listener that ends TLS does it, for a status."""
    found: dict[str, dict[str, Any]] = {}
    for listener in snapshot.listeners:
        if (tls := listener.tls) is not None:
            by_name = {x.server_name: x.clients for x in tls.certificates if x.clients is not None}
            found[listener.name] = {
                "min_version": tls.min_version,
                "client_auth": _mode(tls.clients),
                "client_auth_by_name": {x: _mode(clients) for x, clients in by_name.items()},
                "ocsp": any(x.ocsp_der is not None for x in tls.certificates),
            }
    return found


def _mode(clients: TrustSpec | None) -> str | None:
    return None if clients is None else "require" if clients.required else "request"


def _read(snapshot: Snapshot) -> Iterator[Certificate]:
    for listener in snapshot.listeners:
        for pair in listener.tls.certificates if listener.tls is not None else ():
            found = _facts(pair.chain_pem, listener.name, "", pair.server_name or "")
            yield found._replace(staple=_staple(pair))
    for upstream in snapshot.upstreams:
        if upstream.tls is not None and upstream.tls.chain_pem is not None:
            yield _facts(upstream.tls.chain_pem, "", upstream.name, "")


def _unlisted(snapshot: Snapshot, unix_s: float) -> Iterator[Unlisted]:
    for at, trust in _trusts(snapshot):
        pems = [trust.ca_pem or "", *(pem for _, pem in trust.domains)]
        known = "\n".join(pems).encode()
        if trust.crl_pem and known:
            for _, authority, is_shut_out in tls_unlisted(known, trust.crl_pem, int(unix_s)):
                yield Unlisted(*at, authority, is_shut_out)


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


def _staple(pair: CertificateSpec) -> Staple | None:
    if pair.ocsp_der is None:
        return None
    return Staple(*tls_staple(pair.chain_pem, pair.ocsp_der))


def _facts(chain_pem: bytes, listener: str, upstream: str, server_name: str) -> Certificate:
    chain = tls_facts(chain_pem)
    not_after_s = min(each.not_after_s for each in chain)
    kind, names = chain[0].key_kind, tuple(chain[0].names)
    return Certificate(listener, upstream, server_name, kind, names, not_after_s)
