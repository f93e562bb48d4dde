"""What an old program gives to the new one in an upgrade, in words that both understand.

Both may be of different versions: messages are plain dictionaries of numbers, texts and bytes, and
a new key may be added, but none ever changes its meaning.
"""

from __future__ import annotations

import contextlib
import os
import socket
from typing import TYPE_CHECKING, Any, Final

from meshcore._core import Segment
from meshcore.process.channel import Inbox, send_message
from meshcore.process.history import Revision
from meshcore.process.socket_groups import Address, SocketGroups

if TYPE_CHECKING:
    from meshcore.process.history import History
    from meshcore.process.tickets import TicketKeys

# Where the new program finds the socket to the old one.
VARIABLE: Final = "MESHCORE_PREDECESSOR"
FORMAT: Final = 1


def offer(
    segment: Segment,
    listening: SocketGroups,
    history: History,
    last_version: int,
    tickets: TicketKeys,
    *,
    admin: dict[str, int],
    init_fd: int | None,
) -> tuple[Any, list[int]]:
    """The message that gives all, and its descriptors. ``init_fd`` leads to the first process of
    the container, if that is another than this."""
    fds = [segment.fileno()]
    groups = []
    for address, group in listening.open():
        reuseport_slots = sorted(group.sockets)
        groups.append(
            {**address._asdict(), "by_lane": group.by_reuseport, "lanes": reuseport_slots}
        )
        fds += [group.sockets[reuseport_slot].fileno() for reuseport_slot in reuseport_slots]
    fds += admin.values()
    if init_fd is not None:
        fds.append(init_fd)
    revisions = history.revisions
    message = {
        "format": FORMAT,
        "last_number": last_version,
        "history": [(r.version, r.unix_s, r.origin, r.packed) for r in revisions],
        "revisions": [revision.exported() for revision in revisions],
        "tickets": tickets.exported(),
        "doors": groups,
        "admin": list(admin),
        "init": init_fd is not None,
        "is_init": os.getpid() == 1,
    }
    return message, fds


def _history(message: dict[str, Any]) -> list[Revision]:
    if "revisions" in message:
        return [Revision.imported(given) for given in message["revisions"]]
    # All that programs offered before they had `revisions`, and all that those read of ours.
    names = ("version", "unix_s", "origin", "packed")
    return [Revision.imported(dict(zip(names, each, strict=True))) for each in message["history"]]


class Predecessor:
    """The old program, as the new one sees it."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        message, fds = Inbox(sock).message()
        if message.get("format") != FORMAT:
            raise OSError(f"the running program offers format {message.get('format')} of itself")
        self.last_version: int = message["last_number"]
        self.history = _history(message)
        self.tickets: Any = message.get("tickets")
        """Keys of TLS tickets, as its `TicketKeys.exported` gave them."""
        self._segment_fd = fds.pop(0)
        self._groups = message["doors"]
        self._sockets = [[fds.pop(0) for _ in group["lanes"]] for group in self._groups]
        self.admin = {name: socket.socket(fileno=fds.pop(0)) for name in message["admin"]}
        self.init: socket.socket | None = None
        """Leads to the first process of the container, which is told of each successor."""
        if message["init"]:
            self.init = socket.socket(fileno=fds.pop(0))
        elif message["is_init"]:
            self.init = sock

    @classmethod
    def from_environment(cls) -> Predecessor | None:
        """The program that started us to take its place, if one did."""
        text = os.environ.pop(VARIABLE, None)
        if text is None:
            return None
        os.set_inheritable(int(text), False)
        sock = socket.socket(fileno=int(text))
        sock.setblocking(True)
        try:
            return cls(sock)
        except EOFError:
            raise OSError("the program that started this one in its place is gone") from None

    def segment(self) -> Segment:
        """Its shared memory; once. Raises `SegmentLayoutError` if we lay it out in another way."""
        try:
            return Segment.open(self._segment_fd)
        finally:
            os.close(self._segment_fd)

    def give_groups(self, groups: SocketGroups) -> None:
        """Let the listeners that have the same addresses use the old sockets."""
        for group, fds in zip(self._groups, self._sockets, strict=True):
            names = ("host", "port", "unix_path", "name")
            address = Address(*(group[name] for name in names))
            sockets = {
                reuseport_slot: socket.socket(fileno=fd)
                for reuseport_slot, fd in zip(group["lanes"], fds, strict=True)
            }
            groups.give(address, sockets, by_reuseport=group["by_lane"])

    def ask_words(self) -> bytes:
        """All words of its memory by name: for a program that lays them out in another way."""
        send_message(self.sock, {"want": "words"})
        message, _ = Inbox(self.sock).message()
        words: bytes = message["words"]
        return words

    def say_failed(self, why: str) -> None:
        """It goes on: we do not."""
        with contextlib.suppress(OSError):
            send_message(self.sock, {"failed": why})

    def say_ready(self) -> None:
        """It may drain now: we accept. If it has just died, that is as good."""
        with contextlib.suppress(OSError):
            send_message(self.sock, {"ready": os.getpid()})
        if self.init is not self.sock:
            self.sock.close()
