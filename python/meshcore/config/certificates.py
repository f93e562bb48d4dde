"""Whether the certificates, keys and CAs of a configuration can be used, before anything starts."""

from __future__ import annotations

import os
import ssl
from typing import TYPE_CHECKING, Any, TypeAlias

from meshcore.config.fault import Fault

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_Path: TypeAlias = tuple[str | int, ...]


class _KeyIsEncryptedError(Exception):
    """OpenSSL asked for a password."""


def check_certificates(
    listeners: dict[str, Any], upstreams: dict[str, Any], folder: Path | None
) -> Iterator[Fault]:
    """Every file of every `tls` that cannot be used. Reads the files."""
    for kind, owners in (("listeners", listeners), ("upstreams", upstreams)):
        for name, owner in owners.items():
            tls = owner.get("tls") if isinstance(owner, dict) else None
            if not isinstance(tls, dict):
                continue
            path: _Path = (kind, name, "tls")
            yield from _pair(path, tls, folder)
            for key in ("ca", "client_ca"):
                yield from _authorities((*path, key), tls.get(key), folder)
            yield from _by_name((*path, "sni"), tls.get("sni"), folder)


def _by_name(path: _Path, sni: object, folder: Path | None) -> Iterator[Fault]:
    if isinstance(sni, dict):
        for server_name, pair in sni.items():
            if isinstance(pair, dict):
                yield from _pair((*path, server_name), pair, folder)


def _file(value: object, folder: Path | None) -> str | None:
    if not isinstance(value, str) or not value:
        return None
    return value if folder is None else os.path.join(folder, value)


def _unreadable(path: _Path, file: str) -> Fault | None:
    try:
        with open(file, "rb") as opened:
            opened.read(1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        return Fault(path, f"cannot read {file}: {reason}")
    return None


def _pair(path: _Path, tls: dict[str, Any], folder: Path | None) -> Iterator[Fault]:
    cert, key = _file(tls.get("cert"), folder), _file(tls.get("key"), folder)
    readable = True
    for part, file in (("cert", cert), ("key", key)):
        fault = file and _unreadable((*path, part), file)
        if fault:
            readable = False
            yield fault
    if cert is None or key is None or not readable:
        return
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(cert, key, password=_no_password)
    except _KeyIsEncryptedError:
        yield Fault((*path, "key"), f"the key in {key} is encrypted", "store it without password")
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            yield Fault((*path, "key"), f"{key} is not the key of {cert}")
        else:
            yield Fault((*path, "cert"), f"cannot use {cert} with {key}: {_reason(error)}")


def _no_password() -> str:
    raise _KeyIsEncryptedError


def _authorities(path: _Path, value: object, folder: Path | None) -> Iterator[Fault]:
    file = _file(value, folder)
    if file is None:
        return
    fault = _unreadable(path, file)
    if fault:
        yield fault
        return
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(file)
    except ssl.SSLError as error:
        yield Fault(path, f"no CA certificate in {file}: {_reason(error)}")


def _reason(error: ssl.SSLError) -> str:
    if error.reason is None:
        return "not PEM"
    return error.reason.lower().replace("_", " ")
