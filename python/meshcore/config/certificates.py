"""Whether the certificates, keys and CAs of a configuration can be used, before anything starts."""

from __future__ import annotations

import base64
import binascii
import os
import re
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

from meshcore._core import (
    tls_facts,
    tls_lists,
    tls_lists_fault,
    tls_pair_fault,
    tls_roots_fault,
    tls_staple,
)
from meshcore.config.file import read_pem, read_pem_if_there, why_not_read
from meshcore.errors import ConfigError, Diagnostic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

# RFC 7468.
_LABEL: Final = re.compile(rb"^-----BEGIN ([A-Z0-9 ]{1,64})-----", re.MULTILINE)
_CERTIFICATE: Final = re.compile(rb"-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----")
# RFC 7292 §4: a sequence that begins with its version.
_PKCS_12: Final = re.compile(
    rb"0(?:[\x00-\x7f]|\x80|\x81.|\x82..|\x83...)\x02\x01\x03[0]", re.DOTALL
)
# How many certificates a key is tried with that is another's.
_MOST_TRIED: Final = 20
_CERTIFICATES: Final = {"CERTIFICATE", "X509 CERTIFICATE", "TRUSTED CERTIFICATE"}
_WITH_ARTICLE: Final = {"RSA": "an RSA", "ECDSA": "an ECDSA", "Ed25519": "an Ed25519"}
_Path: TypeAlias = tuple[str | int, ...]
_Content = TypeVar("_Content", bound=bytes | None)


def check_certificates(
    listeners: dict[str, Any], upstreams: dict[str, Any], folder: Path | None
) -> Iterator[Diagnostic]:
    """Every file of every `tls` that cannot be used. Reads the files."""
    for kind, owners in (("listeners", listeners), ("upstreams", upstreams)):
        for name, owner in owners.items():
            tls = owner.get("tls") if isinstance(owner, dict) else None
            if not isinstance(tls, dict):
                continue
            path: _Path = (kind, name, "tls")
            others = list(_certified(tls))
            yield from _shown(path, tls, folder, others)
            yield from _trust(path, tls, folder)
            yield from _clients(path, tls, folder)
            yield from _by_name((*path, "sni"), tls.get("sni"), folder, others)


def _trust(path: _Path, trust: object, folder: Path | None) -> Iterator[Diagnostic]:
    """Authorities, those of trust domains, and lists of what they have taken back."""
    if not isinstance(trust, dict):
        return
    for at, file in _each((*path, "ca"), trust.get("ca")):
        yield from _authorities(at, file, folder)
    domains = trust.get("trust_domains")
    for name, files in domains.items() if isinstance(domains, dict) else ():
        for at, file in _each((*path, "trust_domains", name), files):
            yield from _authorities(at, file, folder)
    yield from _all_lists((*path, "crl"), trust, folder)


def _clients(path: _Path, tls: dict[str, Any], folder: Path | None) -> Iterator[Diagnostic]:
    yield from _authorities((*path, "client_ca"), tls.get("client_ca"), folder)
    yield from _trust((*path, "client_auth"), tls.get("client_auth"), folder)


def _all_lists(path: _Path, trust: dict[str, Any], folder: Path | None) -> Iterator[Diagnostic]:
    each = _each(path, trust.get("crl"))
    domains = trust.get("trust_domains")
    files = [trust.get("ca"), *(domains.values() if isinstance(domains, dict) else ())]
    authorities = [file for listed in files for _, file in _each((), listed)]
    known = _joined(x for x in _contents(authorities, folder) if tls_roots_fault(x) is None)
    problems = [problem for at, file in each for problem in _lists(at, file, folder, known)]
    yield from problems
    if problems or len(each) < 2:
        return
    contents = list(_contents([file for _, file in each], folder))
    found = tls_lists_fault(_joined(contents), known)
    if found is not None:
        yield Diagnostic(path, found[1], _where_twice([file for _, file in each], contents, known))


def _where_twice(files: list[object], contents: list[bytes], known: bytes) -> str | None:
    """In which files lists of one name are."""
    of_name: dict[str, list[str]] = {}
    for file, content in zip(files, contents, strict=True):
        for issuer in {each.issuer for each in tls_lists(content, known)}:
            of_name.setdefault(issuer, []).append(str(file))
    all_twice = [" and ".join(where) for where in of_name.values() if len(where) > 1]
    return f"lists of one name are in {'; '.join(all_twice)}" if all_twice else None


def _contents(files: list[object], folder: Path | None) -> Iterator[bytes]:
    """What is in those that can be read."""
    for file in files:
        name = _file(file, folder)
        content = _read((), name) if name is not None else None
        if isinstance(content, bytes):
            yield content


def _joined(contents: Iterable[bytes]) -> bytes:
    return b"\n".join(contents)


def _each(path: _Path, files: object) -> list[tuple[_Path, object]]:
    """One file, or several, and where each is written."""
    if isinstance(files, list):
        return [((*path, place), file) for place, file in enumerate(files)]
    return [(path, files)]


def _certified(tls: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """All that has a certificate, for whichever name."""
    sni = tls.get("sni")
    for each in (tls, *(sni.values() if isinstance(sni, dict) else ())):
        if isinstance(each, dict):
            yield from (pair for _, pair in _pairs((), each))


def _pairs(path: _Path, tls: dict[str, Any]) -> Iterator[tuple[_Path, dict[str, Any]]]:
    """Those of one name, and where they stand."""
    yield path, tls
    further = tls.get("certificates")
    for place, pair in enumerate(further if isinstance(further, list) else ()):
        if isinstance(pair, dict):
            yield (*path, "certificates", place), pair


def _by_name(
    path: _Path, sni: object, folder: Path | None, others: list[dict[str, Any]]
) -> Iterator[Diagnostic]:
    if isinstance(sni, dict):
        for server_name, pair in sni.items():
            if isinstance(pair, dict):
                yield from _shown((*path, server_name), pair, folder, others)
                yield from _clients((*path, server_name), pair, folder)


def _shown(
    path: _Path, tls: dict[str, Any], folder: Path | None, others: list[dict[str, Any]]
) -> Iterator[Diagnostic]:
    """The certificates of one name, of which each kind of key has one."""
    first: dict[str, str] = {}
    for at, pair in _pairs(path, tls):
        problems = list(_pair(at, pair, folder, others))
        yield from problems
        if not problems:
            yield from _staple(at, pair, folder)
        cert = _file(pair.get("cert"), folder)
        if problems or cert is None or (kind := _kind(cert)) is None:
            continue
        if kind in first:
            which = f"{cert} has {_WITH_ARTICLE.get(kind, 'another')} key, as {first[kind]} has"
            message = which if cert != first[kind] else f"{cert} stands there already"
            hint = "certificates of one name have keys of different kinds; other names stand in sni"
            yield Diagnostic((*at, "cert"), message, hint)
        first.setdefault(kind, cert)


def _kind(cert: str) -> str | None:
    """Of which kind its key is."""
    try:
        return tls_facts(read_pem(cert))[0].key_kind
    except (OSError, ConfigError):
        return None  # a problem of its own


def _file(value: object, folder: Path | None) -> str | None:
    if not isinstance(value, str) or not value:
        return None
    return value if folder is None else os.path.join(folder, value)


def _read(path: _Path, file: str, written: object = None) -> bytes | Diagnostic:
    """What is in a file, or why it cannot be used whatever it should hold; ``written`` is its name
    in the configuration."""
    return _read_by(read_pem, path, file, written)


def _read_by(
    read: Callable[[str], _Content], path: _Path, file: str, written: object
) -> _Content | Diagnostic:
    try:
        content = read(file)
    except OSError as error:
        return Diagnostic(
            path, *why_not_read(written if isinstance(written, str) else file, file, error)
        )
    except ValueError as error:
        return Diagnostic(path, f"cannot read {file}: {error}")
    is_empty = content is not None and not content.strip()
    return Diagnostic(path, f"{file} is empty") if is_empty else content


def _pair(
    path: _Path, tls: dict[str, Any], folder: Path | None, others: list[dict[str, Any]]
) -> Iterator[Diagnostic]:
    """What is wrong with a certificate and its key; ``others``: all that the listener has."""
    cert, key = _file(tls.get("cert"), folder), _file(tls.get("key"), folder)
    found = {
        part: _read((*path, part), file, tls[part])
        for part, file in (("cert", cert), ("key", key))
        if file is not None
    }
    problems = [content for content in found.values() if isinstance(content, Diagnostic)]
    labels = {p: _labels(content) for p, content in found.items() if isinstance(content, bytes)}
    if cert is not None and key is not None and not problems:
        if _is_key(labels["cert"]) and labels["key"] & _CERTIFICATES and not _is_key(labels["key"]):
            message = f"cert and key are swapped: {cert} is a key, {key} a certificate"
            hint = f"write cert: {tls['key']}, key: {tls['cert']}"
            yield Diagnostic((*path, "cert"), message, hint)
            return
        problems += _of_another_kind(path, {"cert": cert, "key": key}, found, labels)
        if not problems:
            files = [file for other in others if (file := _file(other.get("cert"), folder))]
            problems += _loaded(path, (cert, found["cert"]), (key, found["key"]), files)
    yield from problems


def _labels(content: bytes) -> set[str]:
    return {label.decode() for label in _LABEL.findall(content)}


def _is_key(labels: set[str]) -> bool:
    return any(label.endswith("PRIVATE KEY") for label in labels)


def _of_another_kind(
    path: _Path, files: dict[str, str], found: dict[str, Any], labels: dict[str, set[str]]
) -> Iterator[Diagnostic]:
    """Files that hold no certificate, or no key."""
    if not labels["cert"] & _CERTIFICATES:
        yield Diagnostic((*path, "cert"), *_instead(files["cert"], "certificate", found["cert"]))
    if not _is_key(labels["key"]):
        yield Diagnostic((*path, "key"), *_instead(files["key"], "private key", found["key"]))


def _instead(file: str, wanted: str, content: bytes) -> tuple[str, str | None]:
    labels = sorted(_labels(content))
    if labels:
        return f"no {wanted} in {file}: it holds a {labels[0].lower()}", None
    tool = "x509" if wanted == "certificate" else "pkey"
    if _PKCS_12.match(content):
        what = "-nokeys" if wanted == "certificate" else "-nocerts -noenc"
        return f"no {wanted} in {file}: it is PKCS #12", (
            f"openssl pkcs12 -in FILE {what} -out NEW writes PEM"
        )
    hint = f"openssl {tool} -inform der -in FILE makes PEM of it" if content[:1] == b"0" else None
    return f"no {wanted} in {file}: not PEM", hint


def _loaded(
    path: _Path, cert: tuple[str, Any], key: tuple[str, Any], others: list[str]
) -> Iterator[Diagnostic]:
    """What those say of the two together that use them: their files, and what is in them."""
    found = tls_pair_fault(cert[1], key[1])
    if found is None:
        return
    what, message = found
    if b"ENCRYPTED" in key[1]:
        yield Diagnostic(
            (*path, "key"),
            f"the key in {key[0]} is encrypted",
            "openssl pkey -in FILE -out NEW writes it without password",
        )
    elif what == "key_mismatch":
        hint = _whose(cert, key[1], others)
        yield Diagnostic((*path, "key"), f"{key[0]} is not the key of {cert[0]}", hint)
    else:
        yield Diagnostic((*path, "cert"), f"cannot use {cert[0]} with {key[0]}: {message}")


def _whose(cert: tuple[str, bytes], key: bytes, others: list[str]) -> str:
    """What may have been meant by a key that is not the certificate's."""
    for place, each in enumerate(_CERTIFICATE.findall(cert[1])[1:_MOST_TRIED], 2):
        if tls_pair_fault(each, key) is None:
            return (
                f"but that of certificate {place} in it, which must be the first: behind each "
                "stands the one that signed it"
            )
    for file in dict.fromkeys(others[:_MOST_TRIED]):
        content = _read((), file)
        if isinstance(content, bytes) and tls_pair_fault(content, key) is None:
            return f"but that of {file}"
    return f"the first certificate of {cert[0]} must be the key's own, its issuers follow"


def _staple(path: _Path, pair: dict[str, Any], folder: Path | None) -> Iterator[Diagnostic]:
    """An OCSP response that is none."""
    cert, file = _file(pair.get("cert"), folder), _file(pair.get("ocsp"), folder)
    if file is None:
        return
    response = _read_by(read_pem_if_there, (*path, "ocsp"), file, pair["ocsp"])
    if response is None:
        return  # it comes later, as `check` warns: nobody need wait for it
    if isinstance(response, Diagnostic):
        yield response
        return
    chain = _read((*path, "cert"), cert) if cert is not None else None
    if not isinstance(chain, bytes) or not _labels(chain) & _CERTIFICATES:
        return  # the certificate's own problem
    try:
        tls_staple(chain, response)
    except ConfigError as error:
        hint = None
        if response.lstrip().startswith(b"-----BEGIN"):
            hint = "it is PEM: openssl ocsp -respout FILE writes DER"
        elif _is_packed_der(response):
            hint = "it is Base64: base64 -d FILE makes DER of it"
        reason = error.problems[0].message
        yield Diagnostic((*path, "ocsp"), f"cannot staple {file} to {cert}: {reason}", hint)


def _is_packed_der(content: bytes) -> bool:
    try:
        return base64.b64decode(b"".join(content.split()), validate=True)[:1] == b"0"
    except binascii.Error:
        return False


def _authorities(path: _Path, value: object, folder: Path | None) -> Iterator[Diagnostic]:
    file = _file(value, folder)
    if file is None:
        return
    content = _read(path, file)
    if isinstance(content, Diagnostic):
        yield content
        return
    found = tls_roots_fault(content)
    if found is not None:
        yield Diagnostic(path, f"no CA certificate in {file}: {found[1]}")


def _lists(path: _Path, value: object, folder: Path | None, known: bytes) -> Iterator[Diagnostic]:
    """``known``: the certificates of authorities."""
    file = _file(value, folder)
    if file is None:
        return
    content = _read(path, file)
    if isinstance(content, Diagnostic):
        yield content
        return
    found = tls_lists_fault(content, known)
    if found is None:
        return
    what, message = found
    if what != "no_list":
        yield Diagnostic(path, f"cannot use {file}: {message}")
        return
    labels = sorted(_labels(content))
    hint = "openssl crl -inform der -in FILE makes PEM of it" if content[:1] == b"0" else None
    held = f"it holds a {labels[0].lower()}" if labels else "not PEM"
    yield Diagnostic(path, f"no revocation list in {file}: {held}", hint)
