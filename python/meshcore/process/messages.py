"""Messages between control and its workers. Descriptors come in the order of `sockets`."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from meshcore.config.change import Change
    from meshcore.errors import LayerError

__all__ = [
    "CHANNEL_FD",
    "Abort",
    "Adopt",
    "Closed",
    "Commit",
    "Committed",
    "Drain",
    "Failed",
    "NewTickets",
    "NotAdopted",
    "Prepare",
    "Ready",
    "Refused",
    "Release",
    "ReopenLog",
    "Start",
    "WasPrepared",
]

CHANNEL_FD: Final = 3
"""The descriptor at which a worker finds its end of the channel."""

SocketName = tuple[str, int]
"""A listener, and the reuseport slot of a socket of it; `SHARED` for one that serves all."""


# --- from control -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Start:
    """The first message. Its first descriptor is the segment's."""

    slot: int
    change: Change
    sockets: tuple[SocketName, ...]
    folder: str
    """Of the configuration's file, where layers in Python may be too."""
    tickets: tuple[bytes, ...] = field(repr=False)
    """The keys of TLS tickets."""
    key_log: str | None
    """The file to which secrets of TLS are written; ``None``: they are not."""

    def outline(self) -> Start:
        """Without what makes it large."""
        return replace(self, change=None, sockets=(), tickets=())  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Prepare:
    """Make a change ready; the sockets are of listeners that are new or bound anew."""

    token: int
    """What the answer to this very order carries."""
    change: Change
    sockets: tuple[SocketName, ...]

    def outline(self) -> Prepare:
        """Without what makes it large."""
        return replace(self, change=None, sockets=())  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Commit:
    """Put in force what was prepared."""

    token: int


@dataclass(frozen=True, slots=True)
class Abort:
    """Drop what was prepared."""


@dataclass(frozen=True, slots=True)
class Adopt:
    """Accept from these sockets too: no other worker does."""

    reuseport_slot: int
    sockets: tuple[SocketName, ...]


@dataclass(frozen=True, slots=True)
class Release:
    """Accept from these reuseport slots no more: another worker does."""

    reuseport_slot: int


@dataclass(frozen=True, slots=True)
class NewTickets:
    """These keys of TLS tickets are in force."""

    keys: tuple[bytes, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class ReopenLog:
    """Open the file of the access log anew: it was moved."""


@dataclass(frozen=True, slots=True)
class Drain:
    """Accept nothing more, finish what is under way within this time, and end."""

    timeout_s: float


# --- from a worker ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ready:
    """It accepts."""

    layer_counts: dict[str, dict[str, str]] = field(default_factory=dict)
    """What its layers in Python count, and what that is, by what the configuration calls them."""


@dataclass(frozen=True, slots=True)
class Failed:
    """It cannot start. `code` is the exit code that fits."""

    reason: str
    code: int
    layer: LayerError | None = None
    """What is wrong with a layer in Python, if that is why."""


@dataclass(frozen=True, slots=True)
class WasPrepared:
    """A change is ready."""

    token: int
    layer_counts: dict[str, dict[str, str]]
    """As of `Ready`, of the whole configuration."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A change cannot be put in force here."""

    token: int
    reason: str
    layer: LayerError | None = None
    """As of `Failed`."""


@dataclass(frozen=True, slots=True)
class Committed:
    """A change is in force. `problem` is empty, or what did not go as it should have."""

    token: int
    problem: str


@dataclass(frozen=True, slots=True)
class Closed:
    """It drains, and accepts nothing more."""


@dataclass(frozen=True, slots=True)
class NotAdopted:
    """It cannot accept for another reuseport slot: it has no descriptors left."""

    reuseport_slot: int
