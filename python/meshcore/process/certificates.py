"""The certificates that a configuration shows, as status, metrics and the log tell of them."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from meshcore._core import tls_facts, tls_is_late, tls_staple
from meshcore.process.history import stamp
from meshcore.process.process_metrics import gauges
from meshcore.process.unlisted import owner_overview

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from meshcore.config.snapshot import CertificateSpec, Snapshot, TrustSpec
    from meshcore.process.process_metrics import Family, Labels
    from meshcore.process.unlisted import RevocationList, UnlistedAuthorities

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
    ocsp_lack: str | None = None
    """As of a `CertificateSpec`."""

    @property
    def labels(self) -> Labels:
        """Of metrics."""
        names = ("listener", "upstream", "server_name", "key")
        values = (self.listener, self.upstream, self.server_name, self.key_kind)
        return tuple(zip(names, values, strict=True))


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
                **owner_overview(x.listener, x.upstream, x.server_name),
                "key": x.key_kind,
                "names": list(x.names),
                "not_after": stamp(x.not_after_s),
                "days_left": int((x.not_after_s - unix_s) // _DAY_S),
                "ocsp": _staple_overview(x, unix_s),
            }
            for x in sorted(self.of(snapshot), key=lambda x: x.not_after_s)
        ]


def _staple_overview(of: Certificate, unix_s: float) -> dict[str, Any] | None:
    staple = of.staple
    if staple is None:
        lacks = dict.fromkeys(("status", "this_update", "next_update"))
        told = {**lacks, "shown": False, "expired": False, "lack": of.ocsp_lack}
        return None if of.ocsp_lack is None else told
    due_s = staple.next_update_s
    is_early, is_late = unix_s < staple.this_update_s, _is_late(staple, unix_s)
    return {
        "status": staple.status,
        "this_update": stamp(staple.this_update_s),
        "next_update": stamp(due_s) if due_s is not None else None,
        "shown": not (is_early or is_late),
        "expired": is_late,
        "lack": None,
    }


class ExpiryWatch:
    """Tells the log once of each response that is not shown any more, and of each revocation list
    that has run out."""

    def __init__(
        self,
        certificates: Certificates,
        authorities: UnlistedAuthorities,
        snapshot: Callable[[], Snapshot],
    ) -> None:
        """``snapshot``: the one in force."""
        self._certificates = certificates
        self._authorities = authorities
        self._snapshot = snapshot
        self._reported: set[Certificate | RevocationList] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._reading: asyncio.Future[tuple[RevocationList, ...]] | None = None

    def begin(self) -> None:
        """Look now and then, until `end`."""
        self.look()
        self._timer = asyncio.get_running_loop().call_later(CHECK_S, self.begin)

    def end(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
        if self._reading is not None:
            self._reading.cancel()

    def look(self) -> None:
        """Whether there is one, also when the configuration has changed. O(certificates); lists are
        read in a thread beside the loop."""
        if self._reading is None or self._reading.done():
            loop, snapshot = asyncio.get_running_loop(), self._snapshot()
            self._reading = loop.run_in_executor(None, self._authorities.lists, snapshot)
            self._reading.add_done_callback(lambda read: self._look(snapshot, read))

    def _look(self, snapshot: Snapshot, read: asyncio.Future[tuple[RevocationList, ...]]) -> None:
        if read.cancelled():
            return
        now_s = time.time()
        # Not asked for again: by now others may be what was read last.
        expired = {x for x in read.result() if x.is_expired(now_s)}
        ended = {x for x in self._certificates.of(snapshot) if _is_late(x.staple, now_s)}
        for each in ended - self._reported:
            _log_staple(each)
        for each_list in expired - self._reported:
            log.warning(
                "%s: the revocation list of %s expired at %s: nobody whom it is about comes in",
                *(each_list.owner, each_list.issuer, stamp(each_list.next_update_s or 0)),
            )
        self._reported = ended | expired
        if not self._authorities.has_read(self._snapshot()):
            self.look()  # another was put in force meanwhile


def _is_late(staple: Staple | None, unix_s: float) -> bool:
    return staple is not None and tls_is_late(staple.next_update_s, int(unix_s))


def _log_staple(each: Certificate) -> None:
    asked = f" for {each.server_name}" if each.server_name else ""
    due_s = each.staple.next_update_s if each.staple is not None else None
    log.warning(
        "listener %s: the OCSP response of the %s certificate%s expired at %s: it is not shown any "
        "more",
        *(each.listener, each.key_kind, asked, stamp(due_s or 0)),
    )


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
            yield found._replace(staple=_staple(pair), ocsp_lack=pair.ocsp_lack)
    for upstream in snapshot.upstreams:
        if upstream.tls is not None and upstream.tls.chain_pem is not None:
            yield _facts(upstream.tls.chain_pem, "", upstream.name, "")


def _staple(pair: CertificateSpec) -> Staple | None:
    if pair.ocsp_der is None:
        return None
    told = tls_staple(pair.chain_pem, pair.ocsp_der)
    return Staple(*told) if told is not None else None


def _facts(chain_pem: bytes, listener: str, upstream: str, server_name: str) -> Certificate:
    chain = tls_facts(chain_pem)
    not_after_s = min(each.not_after_s for each in chain)
    kind, names = chain[0].key_kind, tuple(chain[0].names)
    return Certificate(listener, upstream, server_name, kind, names, not_after_s)
