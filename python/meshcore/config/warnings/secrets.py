"""Files of secrets that hosts share, which every user may read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshcore.config.admin import open_to_all
from meshcore.errors import Diagnostic

if TYPE_CHECKING:
    from collections.abc import Iterator

    from meshcore.config.model import Config


def open_ticket_keys(config: Config) -> Iterator[Diagnostic]:
    """The file of the keys of tickets: who reads it reads sessions of others."""
    file = config.ticket_keys
    if file is not None and (message := open_to_all(file)) is not None:
        yield Diagnostic(("ticket_keys",), message)
