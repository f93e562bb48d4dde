"""Files of secrets that every user may read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshcore.config.file import open_to_all
from meshcore.errors import Diagnostic

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from meshcore.config.model import Config

    _Named = tuple[tuple[str | int, ...], str | None]


def open_ticket_keys(config: Config) -> Iterator[Diagnostic]:
    """The file of the keys of tickets, which hosts share: who reads it reads sessions of others."""
    yield from _open([(("ticket_keys",), config.ticket_keys)])


def open_secrets_of_this_host(config: Config) -> Iterator[Diagnostic]:
    """The token, which the admin port itself tells of, and keys of certificates. `run` does not
    tell of these: in a container with a user of its own there is no other."""
    yield from _open(_secrets(config))


def _open(files: Iterable[_Named]) -> Iterator[Diagnostic]:
    for path, file in files:
        if file is not None and (message := open_to_all(file)) is not None:
            yield Diagnostic(path, message)


def _secrets(config: Config) -> Iterator[_Named]:
    if config.admin is not None:
        yield ("admin", "token_file"), config.admin.token_file
    for name, listener in config.listeners.items():
        if listener.tls is not None:
            named = [(("sni", host), each) for host, each in listener.tls.sni.items()]
            for at, each in ((), listener.tls), *named:
                for further, pair in each.pairs:
                    yield ("listeners", name, "tls", *at, *further, "key"), pair.key
    for name, upstream in config.upstreams.items():
        if upstream.tls is not None:
            yield ("upstreams", name, "tls", "key"), upstream.tls.key
