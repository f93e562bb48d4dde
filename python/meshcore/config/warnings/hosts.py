"""Names that the resolver does not know: asked in parallel, for a few seconds at most."""

from __future__ import annotations

import ipaddress
import queue
import socket
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from meshcore.errors import Diagnostic

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from meshcore.config.address import Address
    from meshcore.config.model import Config

# As long as people wait for a check; a resolver that has lost a packet asks again after 5 s.
WITHIN_S: Final = 3.0
# Threads that wait, and names that are asked for: of more only the first are.
MAX_THREADS: Final = 32
MAX_NAMES: Final = 1_000

_Path = tuple[str | int, ...]

Resolve = Callable[..., object]
"""What asks the resolver, as `socket.getaddrinfo` is called; raises `OSError`."""


def unresolved_hosts(
    config: Config, within_s: float = WITHIN_S, resolve: Resolve = socket.getaddrinfo
) -> list[Diagnostic]:
    """A warning for each name that does not resolve, at the first place where it stands."""
    places: dict[str, _Path] = {}
    for path, address in _addresses(config):
        if len(places) < MAX_NAMES and _is_name(address):
            places.setdefault(address.host, path)
    reasons = _ask(places, within_s, resolve)
    return [
        Diagnostic(path, f"{host} does not resolve: {reasons[host]}")
        for host, path in places.items()
        if host in reasons
    ]


def _addresses(config: Config) -> Iterator[tuple[_Path, Address]]:
    for name, listener in config.listeners.items():
        yield ("listeners", name, "bind"), listener.bind
    if config.admin is not None:
        yield ("admin", "bind"), config.admin.bind
    for name, upstream in config.upstreams.items():
        for number, endpoint in enumerate(upstream.endpoints):
            yield ("upstreams", name, "endpoints", number), endpoint.address


def _is_name(address: Address) -> bool:
    if address.path is not None:
        return False
    try:
        ipaddress.ip_address(address.host)
    except ValueError:
        return True
    return False


def _ask(names: Iterable[str], within_s: float, resolve: Resolve) -> dict[str, str]:
    """Why each of these names has no address. The threads end by themselves: a resolver cannot be
    told to stop, and is not waited for."""
    waiting: queue.SimpleQueue[str] = queue.SimpleQueue()
    answers: queue.SimpleQueue[tuple[str, str | None]] = queue.SimpleQueue()
    asked: set[str] = set()
    for name in names:
        waiting.put(name)
    number, until_s = waiting.qsize(), time.monotonic() + within_s

    def work() -> None:
        while time.monotonic() < until_s:
            try:
                name = waiting.get_nowait()
            except queue.Empty:
                return
            asked.add(name)
            answers.put((name, _reason(name, resolve)))

    for _ in range(min(number, MAX_THREADS)):
        threading.Thread(target=work, name="resolve", daemon=True).start()
    return _collect(answers, asked, number, until_s)


def _collect(
    answers: queue.SimpleQueue[tuple[str, str | None]], asked: set[str], number: int, until_s: float
) -> dict[str, str]:
    found: dict[str, str | None] = {}
    while len(found) < number:
        try:
            name, reason = answers.get(timeout=max(0, until_s - time.monotonic()))
        except queue.Empty:
            # Of one that was not asked yet nothing is known.
            found |= {name: "no answer in time" for name in asked.copy() - found.keys()}
            break
        found[name] = reason
    return {name: reason for name, reason in found.items() if reason is not None}


def _reason(name: str, resolve: Resolve) -> str | None:
    try:
        resolve(name, None, type=socket.SOCK_STREAM)
    except OSError as error:
        return error.strerror or str(error)
    except UnicodeError:
        return "not a name"
    return None
