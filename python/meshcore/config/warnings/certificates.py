"""Certificates that clients or endpoints do not believe, or soon will not."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Final

from meshcore._core import (
    tls_facts,
    tls_is_for_host,
    tls_is_late,
    tls_listing,
    tls_lists,
    tls_staple,
    tls_system_roots,
)
from meshcore.config.file import read_pem, read_pem_if_there
from meshcore.errors import ConfigError, Diagnostic

if TYPE_CHECKING:
    from collections.abc import Iterator

    from meshcore._core import TlsFacts, TlsList
    from meshcore.config.client_auth import Trust
    from meshcore.config.listener import Certificate, ClientsCertificate, ListenerTls
    from meshcore.config.model import Config

    _Path = tuple[str | int, ...]

_DAY_S: Final = 86_400
# As long as who renews by hand needs, and as Let's Encrypt's clients renew before the end.
SOON_DAYS: Final = 30
# The last part of a shorter life: those of 90 days are renewed when a third is left.
_LAST_PART: Final = 1 / 3
_PRIVATE_KEY: Final = re.compile(rb"^-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----", re.MULTILINE)
# How many a line shows.
_SHOWN_NAMES: Final = 5


def certificates(config: Config) -> Iterator[Diagnostic]:
    """Those that have expired, or will within 30 days; that are weak, of no name, or not of the
    name that they are given for; responses that are not shown any more. Opens the files; one that
    cannot be read is an error, and no warning."""
    now_s = time.time()
    for name, listener in config.listeners.items():
        tls, path = listener.tls, ("listeners", name, "tls")
        if tls is None:
            continue
        for further, pair in tls.pairs:
            yield from _shown((*path, *further), pair, now_s)
        yield from _other_names(path, tls)
        yield from _other_kinds(path, tls)
        for host, each in tls.sni.items():
            for further, pair in each.pairs:
                yield from _shown((*path, "sni", host, *further), pair, now_s, host)
            yield from _of_clients((*path, "sni", host), each, now_s)
        yield from _of_clients(path, tls, now_s)
    for name, upstream in config.upstreams.items():
        if upstream.tls is not None:
            where: _Path = ("upstreams", name, "tls")
            if (chain := _read(upstream.tls.cert)) is not None:
                yield from _chain((*where, "cert"), chain, now_s)
            yield from _vouching(where, upstream.tls, now_s)
    yield from _no_authorities_to_believe(config)


def _no_authorities_to_believe(config: Config) -> Iterator[Diagnostic]:
    """Upstreams that believe the system's authorities, where it has none."""
    tls = {name: x.tls for name, x in config.upstreams.items() if x.tls is not None}
    by_system = [name for name, x in tls.items() if not (x.ca or x.trust_domains or x.insecure)]
    if by_system and not tls_system_roots():
        message = "this system has no authorities: no endpoint's certificate is believed"
        hint = "write ca: FILE, or set SSL_CERT_FILE or SSL_CERT_DIR"
        for name in by_system:
            yield Diagnostic(("upstreams", name, "tls"), message, hint)


def _read(file: str | None) -> bytes | None:
    try:
        return None if file is None else read_pem(file)
    except OSError:
        return None


def _shown(
    path: _Path, pair: Certificate, now_s: float, host: str | None = None
) -> Iterator[Diagnostic]:
    chain = _read(pair.cert)
    if chain is None:
        return
    cert = (*path, "cert")
    yield from _chain(cert, chain, now_s)
    facts = _facts(chain)
    names = facts[0].names if facts else []
    if facts and not names:
        yield Diagnostic(
            cert, f"{pair.cert} has no subject alternative name: clients believe no other"
        )
    elif facts and host is not None and not tls_is_for_host(chain, host):
        yield Diagnostic(
            cert, f"{pair.cert} is not of {host}, but of {', '.join(names[:_SHOWN_NAMES])}"
        )
    yield from _several_keys((*path, "key"), pair.key)
    if facts and not facts[0].is_for_servers:
        message = f"{pair.cert} is for clients alone: clients do not believe a server that shows it"
        yield Diagnostic(cert, message)
    if pair.ocsp is not None:
        yield from _staple((*path, "ocsp"), pair.ocsp, pair.cert, chain, now_s)
    elif facts and facts[0].wants_staple:
        message = f"{pair.cert} demands that an OCSP response is stapled to it (RFC 7633), and ocsp"
        yield Diagnostic(cert, f"{message} names none: clients that know of that refuse it")


def _several_keys(path: _Path, file: str) -> Iterator[Diagnostic]:
    count = len(_PRIVATE_KEY.findall(_read(file) or b""))
    if count > 1:
        message = f"{file} holds {count} keys: the first is used, and the others are not looked at"
        yield Diagnostic(path, message, "each certificate has a key of its own, in another file")


def _other_kinds(path: _Path, tls: ListenerTls) -> Iterator[Diagnostic]:
    """Names that are also under a wildcard, which has a kind of key that they lack: who can verify
    that alone is refused for the name."""
    kinds = {host: {_kind(pair.cert) for _, pair in each.pairs} for host, each in tls.sni.items()}
    for host, own in kinds.items():
        wildcard = f"*.{host.partition('.')[2]}"
        lacks = sorted(kinds.get(wildcard, set()) - own - {""}) if host != wildcard else []
        if lacks and "" not in own:
            message = f"{host} has no certificate with a key of {' or '.join(lacks)}, as {wildcard}"
            message = f"{message} has: clients that can verify nothing else do not come in"
            hint = "a name has all of its certificates itself: name the other under certificates"
            yield Diagnostic((*path, "sni", host), message, hint)


def _kind(file: str) -> str:
    """Of which its key is; empty where that is not known."""
    facts = _facts(_read(file) or b"")
    return facts[0].key_kind if facts else ""


def _other_names(path: _Path, tls: ClientsCertificate) -> Iterator[Diagnostic]:
    """Certificates of which some clients see one and some the other, and that are of others: what
    is right with one client is wrong with the next."""
    all_names = [(at, pair.cert, _names(pair.cert)) for at, pair in tls.pairs]
    _, first, wanted = all_names[0]
    for at, file, names in all_names[1:]:
        only = sorted(wanted - names) if names and wanted else []
        if only:
            shown = ", ".join(only[:_SHOWN_NAMES])
            yield Diagnostic((*path, *at, "cert"), f"{file} is not of {shown}, as {first} is")


def _names(file: str) -> set[str]:
    facts = _facts(_read(file) or b"")
    return {name.lower() for name in facts[0].names} if facts else set()


def _facts(pem: bytes) -> list[TlsFacts]:
    try:
        return tls_facts(pem)
    except ConfigError:
        return []


def _chain(path: _Path, chain: bytes, now_s: float) -> Iterator[Diagnostic]:
    all_facts = _facts(chain)
    for place, facts in enumerate(all_facts):
        first_s, last_s, weakness = facts.not_before_s, facts.not_after_s, facts.weakness
        which = "the certificate" if place == 0 else f"certificate {place + 1} of the chain"
        if not facts.next_is_issuer:
            message = f"{which} was not signed by the one behind it: others may not believe it"
            yield Diagnostic(path, message, _of_chain(facts, all_facts[place + 1]))
        if last_s < now_s:
            yield Diagnostic(
                path, f"{which} expired {_days(now_s - last_s)} ago, on {_date(last_s)}"
            )
        elif _ends_soon(first_s, last_s, now_s):
            yield Diagnostic(
                path, f"{which} expires in {_days(last_s - now_s)}, on {_date(last_s)}"
            )
        elif first_s > now_s:
            yield Diagnostic(path, f"{which} is not valid before {_date(first_s)}")
        if weakness is not None:
            yield Diagnostic(path, f"{which} {weakness}: many do not believe it")


def _of_chain(facts: TlsFacts, behind: TlsFacts) -> str:
    """What may have been meant by a certificate behind one that it did not sign."""
    if behind.is_authority or facts.key_kind == behind.key_kind:
        return "each is followed by the one that signed it"
    kind = behind.key_kind
    return f"one with another kind of key, {kind}, has a file of its own, named under certificates"


def _of_clients(path: _Path, pair: ClientsCertificate, now_s: float) -> Iterator[Diagnostic]:
    trust = pair.client_auth
    if trust is not None:
        yield from _vouching((*path, "client_auth"), trust, now_s)
        for domain, files in ((("ca",), trust.ca or ()), *_by_domain(trust)):
            for file in files:
                yield from _no_authorities((*path, "client_auth", *domain), file)
    elif pair.client_ca is not None:
        yield from _authorities((*path, "client_ca"), pair.client_ca, now_s)
        yield from _no_authorities((*path, "client_ca"), pair.client_ca)


def _by_domain(trust: Trust) -> list[tuple[tuple[str, ...], list[str]]]:
    return [(("trust_domains", name), files) for name, files in trust.trust_domains.items()]


def _no_authorities(path: _Path, file: str) -> Iterator[Diagnostic]:
    """Clients' own certificates where those of their authorities are meant. One that signed itself
    is meant as it is."""
    facts = _facts(_read(file) or b"")
    for place, each in enumerate(facts):
        if not (each.is_authority or each.is_own_issuer):
            which = file if len(facts) == 1 else f"certificate {place + 1} of {file}"
            message = f"{which} is no authority: it lets in itself and nobody else"
            yield Diagnostic(
                path, message, "the certificate that signed it lets in all that it signed"
            )


def _vouching(path: _Path, trust: Trust, now_s: float) -> Iterator[Diagnostic]:
    placed = [
        (where, file, _read(file) or b"")
        for where, files in ((("ca",), trust.ca or ()), *_by_domain(trust))
        for file in files
    ]
    for where, file, _ in placed:
        yield from _authorities((*path, *where), file, now_s)
    known = b"\n".join(pem for *_, pem in placed)
    for file in trust.crl or ():
        lists = _lists(file, known)
        yield from _ends((*path, "crl"), file, lists, now_s, trust.crl_expired)
        yield from _of_whom((*path, "crl"), file, lists, known)
    yield from _unlisted(path, placed, known, trust, now_s)


def _unlisted(
    path: _Path,
    placed: list[tuple[tuple[str, ...], str, bytes]],
    known: bytes,
    trust: Trust,
    now_s: float,
) -> Iterator[Diagnostic]:
    """Authorities of whose key there is no list, where there is one of their name."""
    crl = b"\n".join(_read(file) or b"" for file in trust.crl or ())
    try:
        found = tls_listing(crl, known)[1] if crl and known else []
    except ConfigError:
        return
    # Of lists that run out it is told by the files that they are in.
    found = [x for x in found if x.list_ends_s is None and x.since_s <= int(now_s) <= x.until_s]
    places = [(where, file) for where, file, pem in placed for _ in _facts(pem)]
    for each in found:
        where, file = places[each.place]
        if each.is_forged:
            message = f"a list says that {each.whose} in {file} has signed it, and its signature is"
            hint = "it was changed, or made with another key: ask its authority for it again"
            message = f"{message} wrong: nobody whom that signed comes in"
            yield Diagnostic((*path, "crl"), message, hint)
            continue
        gets = "nobody whom it signed" if each.is_shut_out else "whom it has revoked"
        message = f"no list is of the key of {each.whose} in {file}, though one is of its name"
        message = f"{message}: {gets} comes in"
        hint = "an authority that has a new key gives a list for each: name both under crl"
        yield Diagnostic((*path, *where), message, hint)


def _lists(file: str, known: bytes) -> list[TlsList]:
    """``known``: the certificates of authorities."""
    pem = _read(file)
    try:
        return [] if pem is None else tls_lists(pem, known)
    except ConfigError:
        return []


def _ends(
    path: _Path, file: str, lists: list[TlsList], now_s: float, expired: str
) -> Iterator[Diagnostic]:
    """Lists whose next one is due, or will be before their issuer is asked again."""
    ends = [(each.next_update_s, each) for each in lists if each.next_update_s is not None]
    if not ends:
        return
    last_s, first = min(ends, key=lambda end: end[0])
    what = "it goes on being used" if expired == "use" else "nobody of its issuer comes in"
    if tls_is_late(last_s, int(now_s)):
        yield Diagnostic(path, f"{file} expired on {_date(last_s)}: {what}")
    elif _ends_soon(first.this_update_s, last_s, now_s, _DAY_S):
        yield Diagnostic(path, f"{file} expires within a day, and then {what}")


def _of_whom(path: _Path, file: str, lists: list[TlsList], known: bytes) -> Iterator[Diagnostic]:
    """Lists of issuers that are not known here. Authorities of the system are not read."""
    for each in lists:
        whose = f"the list of {each.issuer} in {file}"
        if each.is_of_authorities:
            message = f"{whose} is of authorities alone: nobody else is looked up in it"
            yield Diagnostic(path, message, "a list without onlyContainsCACerts is of all")
        if known and not each.is_of(known):
            message = f"{whose} is of none of the authorities: it counts only where one of that"
            yield Diagnostic(path, f"{message} name stands between them and a client")


def _ends_soon(first_s: int, last_s: int, now_s: float, soon_s: float = SOON_DAYS * _DAY_S) -> bool:
    """Whether little is left, as measured by its whole life: one of an hour is not old at once."""
    return last_s < now_s + min(soon_s, (last_s - first_s) * _LAST_PART)


def _authorities(path: _Path, file: str | None, now_s: float) -> Iterator[Diagnostic]:
    """Bundles keep those that have expired; one that has no other is a mistake."""
    pem = _read(file)
    facts = _facts(pem) if pem is not None else []
    if not facts:
        return
    last = max(facts, key=lambda each: each.not_after_s)
    last_s = last.not_after_s
    if last_s < now_s:
        yield Diagnostic(path, f"all of its certificates have expired, the last on {_date(last_s)}")
    elif _ends_soon(last.not_before_s, last_s, now_s):
        yield Diagnostic(path, f"its last certificate expires in {_days(last_s - now_s)}")


def _staple(path: _Path, file: str, cert: str, chain: bytes, now_s: float) -> Iterator[Diagnostic]:
    try:
        response = read_pem_if_there(file)
    except OSError:
        return
    if response is None:
        yield Diagnostic(path, f"there is no {file} yet: nothing is stapled to {cert} meanwhile")
        return
    try:
        told = tls_staple(chain, response)
    except ConfigError:
        return
    if told is None:
        message = f"{file} says nothing of {cert}: it is not shown"
        hint = "the authority is asked for another when a certificate is renewed"
        yield Diagnostic(path, message, hint)
        return
    status, since_s, until_s = told
    if status != "good":
        yield Diagnostic(path, f"it says that the certificate is {status}: clients refuse it")
    if since_s > now_s:
        yield Diagnostic(
            path, f"it is of {_date(since_s)}, which is to come: it is not shown before"
        )
    if until_s is not None and tls_is_late(until_s, int(now_s)):
        yield Diagnostic(path, f"it expired on {_date(until_s)}: it is not shown any more")


def _days(seconds: float) -> str:
    days = int(seconds // _DAY_S)
    return "less than a day" if days == 0 else "1 day" if days == 1 else f"{days} days"


def _date(unix_s: int) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(unix_s))
