"""Addresses and host names: what is taken for one, and what is said of what is none."""

from __future__ import annotations

import ipaddress
import re
from typing import Final, NamedTuple

from meshcore.config.hints import HintedError, shown

_LABEL: Final = re.compile(r"[A-Za-z0-9_-]{1,63}")
_PORT: Final = re.compile(r"\d{1,5}", re.ASCII)
_URL: Final = re.compile(r"([a-z][a-z0-9+.-]*)://([^/?#]*)(.*)", re.IGNORECASE)
_WANTED: Final = "expected host:port, [v6]:port or unix:/path"
# What people copy from a text processor.
_TYPOGRAPHIC: Final = frozenset("\u201c\u201d\u201e\u2018\u2019\u201a\u00ab\u00bb")


class Address(NamedTuple):
    """``host:port``, or a unix socket's path."""

    host: str
    """Without brackets; empty for a unix socket."""
    port: int
    """0 for a unix socket."""
    path: str | None = None
    """The unix socket."""

    def __str__(self) -> str:
        if self.path is not None:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(value: object) -> Address:
    """``host:port``, ``[v6]:port`` or ``unix:/path``. Raises `ValueError`."""
    if isinstance(value, Address):
        return value
    if not isinstance(value, str):
        raise ValueError(f"{_WANTED}, got {shown(value)}")
    if value.startswith("unix:"):
        return _unix(value.removeprefix("unix:"))
    if value.startswith("/"):
        raise HintedError(f"{_WANTED}, got {shown(value)}", f"write unix:{value}")
    if "/" in value:
        bare = value.partition("/")[0]
        raise HintedError("an address has no path", f"write {bare}; rewrite.path is for paths")
    host, colon, port = value.rpartition(":")
    if not colon:
        raise HintedError(f"{shown(value)} has no port", f"write {value}:80")
    if not _PORT.fullmatch(port) or int(port) > 0xFFFF:
        raise ValueError(f"{port!r} is not a port: 0 to 65535")
    if host.startswith("[") and host.endswith("]"):
        return Address(str(ipaddress.IPv6Address(host[1:-1])), int(port))
    if host.count(":") > 1:
        raise ValueError(f'write an IPv6 address in brackets and quotes: "[{host}]:{port}"')
    if ":" in host:
        raise ValueError(f"{_WANTED}, got {shown(value)}")
    return Address(host_name(host), int(port))


def bind_address(value: object) -> Address:
    """An address to listen at. Raises `ValueError`."""
    url = _URL.fullmatch(value) if isinstance(value, str) else None
    if url is not None and url[1].lower() != "unix":
        tls = ", and tls: {cert: …, key: …} beside it" if url[1].lower() == "https" else ""
        raise HintedError("an address has no scheme", f"write {url[2]}{tls}")
    port = _port_alone(value)
    if port is not None:
        hint = f'write 0.0.0.0:{port} for every IPv4 address, "[::]:{port}" for IPv6'
        raise HintedError(f"{shown(value)} names no host", hint)
    if isinstance(value, list):
        raise HintedError("a listener has one address", "write a listener for each")
    return parse_address(value)


def endpoint_address(value: object) -> Address:
    """An address to connect to. Raises `ValueError`."""
    url = _URL.fullmatch(value) if isinstance(value, str) else None
    if url is not None and url[1].lower() != "unix":
        raise HintedError("an address has no scheme", _without_scheme(url))
    port = _port_alone(value)
    if port is not None:
        raise HintedError(f"{shown(value)} names no host", f"write 127.0.0.1:{port} for this host")
    address = parse_address(value)
    if address.path is None and address.port == 0:
        raise ValueError("nothing can connect to port 0")
    return address


def _without_scheme(url: re.Match[str]) -> str:
    scheme, authority, path = url[1].lower(), url[2], url[3].strip("/")
    is_tls = scheme in ("https", "grpcs", "wss", "h2")
    bare = authority if re.search(r":\d+$", authority) else f"{authority}:{443 if is_tls else 80}"
    said = [f"write {bare}"]
    beside = ["tls: {}"] if is_tls else []
    beside += ["protocol: h2"] if scheme in ("grpc", "grpcs", "h2", "h2c") else []
    if beside:
        said.append(f"{' and '.join(beside)} beside endpoints")
    if path:
        said.append(f"rewrite: {{path: /{path}}} in the route")
    return ", and ".join(said)


def _port_alone(value: object) -> str | None:
    """The port of ``8080``, ``:8080`` and ``*:8080``."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    text = str(value).removeprefix("*").removeprefix(":")
    return text if _PORT.fullmatch(text) else None


def _unix(path: str) -> Address:
    # sockaddr_un of Linux and macOS holds 107 and 103 bytes.
    if not path.startswith("/") or "\0" in path or len(path.encode()) > 103:
        raise ValueError("a unix socket is an absolute path of at most 103 bytes")
    return Address("", 0, path)


def host_name(host: str) -> str:
    """A name or IPv4 address, in lower case. Raises `ValueError`."""
    if re.fullmatch(r"[0-9.]+", host):
        return str(ipaddress.IPv4Address(host))
    check_labels(host.removesuffix("."))
    return host.lower()


def check_labels(name: str) -> None:
    """Raise `ValueError` unless this is a host name."""
    if len(name) > 253:
        raise ValueError("a host name has at most 253 characters")
    for label in name.split("."):
        if _TYPOGRAPHIC & set(label):
            bare = "".join(char for char in name if char not in _TYPOGRAPHIC)
            raise HintedError("typographic quotes are not YAML quotes", f'write "{bare}"')
        if not label.isascii():
            raise ValueError(f"write {label!r} in punycode: {_punycode(label)}")
        if not _LABEL.fullmatch(label):
            raise ValueError(f"{name!r} is not a host name")


def _punycode(label: str) -> str:
    return label.encode("idna").decode()
