"""Certificates that clients or endpoints do not believe, or soon will not."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from meshcore._core import tls_facts, tls_is_for_host, tls_staple
from meshcore.config.fault import Fault
from meshcore.config.file import read_pem
from meshcore.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from meshcore.config.client_auth import Trust
    from meshcore.config.listener import Certificate, ClientsCertificate
    from meshcore.config.model import Config

    _Path = tuple[str | int, ...]

_DAY_S: Final = 86_400
# As long as who renews by hand needs, and as Let's Encrypt's clients renew before the end.
SOON_DAYS: Final = 30


def certificates(config: Config) -> Iterator[Fault]:
    """Those that have expired, or will within 30 days; that are weak, of nobody, or not of the name
    that they are given for; responses that are not shown any more. Opens the files; one that cannot
    be read is a fault, and no warning."""
    now_s = time.time()
    for name, listener in config.listeners.items():
        tls, path = listener.tls, ("listeners", name, "tls")
        if tls is None:
            continue
        yield from _shown(path, tls, now_s)
        for host, pair in tls.sni.items():
            yield from _shown((*path, "sni", host), pair, now_s, host)
            yield from _of_clients((*path, "sni", host), pair, now_s)
        yield from _of_clients(path, tls, now_s)
    for name, upstream in config.upstreams.items():
        if upstream.tls is not None:
            where: _Path = ("upstreams", name, "tls")
            if (chain := _read(upstream.tls.cert)) is not None:
                yield from _chain((*where, "cert"), chain, now_s)
            yield from _vouching(where, upstream.tls, now_s)


def _read(file: str | None) -> bytes | None:
    try:
        return None if file is None else read_pem(file)
    except OSError:
        return None


def _shown(
    path: _Path, pair: Certificate, now_s: float, host: str | None = None
) -> Iterator[Fault]:
    chain = _read(pair.cert)
    if chain is None:
        return
    cert = (*path, "cert")
    yield from _chain(cert, chain, now_s)
    facts = _facts(chain)
    names = facts[0][0] if facts else []
    if facts and not names:
        yield Fault(cert, f"{pair.cert} has no subject alternative name: clients believe no other")
    elif facts and host is not None and not tls_is_for_host(chain, host):
        yield Fault(cert, f"{pair.cert} is not of {host}, but of {', '.join(names[:5])}")
    if (response := _read(pair.ocsp)) is not None:
        yield from _staple((*path, "ocsp"), chain, response, now_s)


def _facts(pem: bytes) -> list[tuple[list[str], int, int, str | None]]:
    try:
        return tls_facts(pem)
    except ConfigError:
        return []


def _chain(path: _Path, chain: bytes, now_s: float) -> Iterator[Fault]:
    for place, (_, first_s, last_s, weakness) in enumerate(_facts(chain)):
        which = "the certificate" if place == 0 else f"certificate {place + 1} of the chain"
        if last_s < now_s:
            yield Fault(path, f"{which} expired {_days(now_s - last_s)} ago, on {_date(last_s)}")
        elif last_s < now_s + SOON_DAYS * _DAY_S:
            yield Fault(path, f"{which} expires in {_days(last_s - now_s)}, on {_date(last_s)}")
        elif first_s > now_s:
            yield Fault(path, f"{which} is not valid before {_date(first_s)}")
        if weakness is not None:
            yield Fault(path, f"{which} {weakness}: many do not believe it")


def _of_clients(path: _Path, pair: ClientsCertificate, now_s: float) -> Iterator[Fault]:
    yield from _authorities((*path, "client_ca"), pair.client_ca, now_s)
    if pair.client_auth is not None:
        yield from _vouching((*path, "client_auth"), pair.client_auth, now_s)


def _vouching(path: _Path, trust: Trust, now_s: float) -> Iterator[Fault]:
    for file in trust.ca or ():
        yield from _authorities((*path, "ca"), file, now_s)
    for domain, files in trust.trust_domains.items():
        for file in files:
            yield from _authorities((*path, "trust_domains", domain), file, now_s)


def _authorities(path: _Path, file: str | None, now_s: float) -> Iterator[Fault]:
    """Bundles keep those that have expired; nobody means one that has no other."""
    pem = _read(file)
    facts = _facts(pem) if pem is not None else []
    if not facts:
        return
    last_s = max(last for _, _, last, _ in facts)
    if last_s < now_s:
        yield Fault(path, f"all of its certificates have expired, the last on {_date(last_s)}")
    elif last_s < now_s + SOON_DAYS * _DAY_S:
        yield Fault(path, f"its last certificate expires in {_days(last_s - now_s)}")


def _staple(path: _Path, chain: bytes, response: bytes, now_s: float) -> Iterator[Fault]:
    try:
        status, _, until_s = tls_staple(chain, response)
    except ConfigError:
        return
    if status != "good":
        yield Fault(path, f"it says that the certificate is {status}: clients refuse it")
    if until_s is not None and until_s < now_s:
        yield Fault(path, f"it expired on {_date(until_s)}: it is not shown any more")


def _days(seconds: float) -> str:
    days = int(seconds // _DAY_S)
    return "less than a day" if days == 0 else "1 day" if days == 1 else f"{days} days"


def _date(unix_s: int) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(unix_s))
