"""The sockets that listeners accept from, bound and kept by control.

A socket with `SO_REUSEPORT` has an accept queue of its own, and what waits in it is lost when the
last descriptor closes. So control keeps one for each worker (its reuseport slot), whatever becomes
of the workers: the next one in that slot finds the queue as it was left.
"""

from __future__ import annotations

import logging
import socket
from dataclasses import replace
from typing import TYPE_CHECKING, Final, NamedTuple

from meshcore.downstream.sockets import bound_socket, remove_file, set_mode, url_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from meshcore.config.snapshot import ListenerSpec


log = logging.getLogger("meshcore")

SHARED: Final = -1
"""The number of a socket that all reuseport slots accept from."""


class Address(NamedTuple):
    """Where a group is; port 0 is another place for each listener, so that its name counts."""

    host: str
    port: int
    unix_path: str | None
    name: str

    @classmethod
    def of(cls, spec: ListenerSpec) -> Address:
        """The address of a listener."""
        own_place = spec.unix_path is None and spec.port == 0
        return cls(spec.host, spec.port, spec.unix_path, spec.name if own_place else "")


class SocketGroup:
    """One address: a socket for each reuseport slot, or one for all."""

    def __init__(
        self, unix_path: str | None, sockets: dict[int, socket.socket], *, by_reuseport: bool
    ) -> None:
        self._unix_path = unix_path
        self.sockets = sockets
        self.by_reuseport = by_reuseport

    @classmethod
    def bind(cls, spec: ListenerSpec, *, by_reuseport: bool) -> SocketGroup:
        """A group with its first reuseport slot. Raises `OSError`, naming the address."""
        by_reuseport = by_reuseport and spec.unix_path is None
        if by_reuseport and spec.port:
            # Another program of our user's that shares its port would not be noticed.
            bound_socket(spec).close()
        return cls(
            spec.unix_path,
            {0: bound_socket(spec, reuse_port=by_reuseport)},
            by_reuseport=by_reuseport,
        )

    def widen(self, spec: ListenerSpec, reuseport_slots: int) -> None:
        """Have a socket for each reuseport slot, if slots have their own. Raises `OSError`."""
        if not self.by_reuseport:
            return
        real = replace(spec, port=self.sockets[0].getsockname()[1])
        for reuseport_slot in range(reuseport_slots):
            if reuseport_slot not in self.sockets:
                self.sockets[reuseport_slot] = bound_socket(real, reuse_port=True)

    def of_slot(self, reuseport_slot: int) -> tuple[int, socket.socket]:
        """The socket that a reuseport slot accepts from, and the number that workers know it by."""
        return (
            (reuseport_slot, self.sockets[reuseport_slot])
            if self.by_reuseport
            else (SHARED, self.sockets[0])
        )

    def close(self, *, for_good: bool) -> None:
        """Close our descriptors; for good, if no other program has them."""
        for sock in self.sockets.values():
            sock.close()
        if for_good and self._unix_path is not None:
            remove_file(self._unix_path)


def close_sockets(sockets: Mapping[str, Mapping[int, socket.socket]]) -> None:
    """Close those of several listeners, each by its number."""
    for of_listener in sockets.values():
        for sock in of_listener.values():
            sock.close()


class SocketGroups:
    """The socket groups of a configuration, by listener."""

    def __init__(self, *, by_reuseport: bool) -> None:
        self._by_reuseport = by_reuseport and hasattr(socket, "SO_REUSEPORT")
        self.current: dict[str, SocketGroup] = {}
        self._specs: dict[str, ListenerSpec] = {}
        self._given: dict[Address, SocketGroup] = {}

    def give(
        self, address: Address, sockets: dict[int, socket.socket], *, by_reuseport: bool
    ) -> None:
        """Sockets that were open before us, for the listener that has their address."""
        self._given[address] = SocketGroup(address.unix_path, sockets, by_reuseport=by_reuseport)

    @property
    def reuseport_slots(self) -> int:
        """Reuseport slots that have a socket somewhere, those that were given included."""
        return max((len(group.sockets) for group in self._all() if group.by_reuseport), default=0)

    def open(self) -> list[tuple[Address, SocketGroup]]:
        """The current ones by address."""
        return [(Address.of(self._specs[name]), group) for name, group in self.current.items()]

    def prepare(
        self, specs: Iterable[ListenerSpec], reuseport_slots: int
    ) -> dict[str, SocketGroup]:
        """The socket groups that a configuration needs, bound where they are missing.

        Raises `OSError`, naming the address that cannot be had; then nothing has changed.
        """
        known = self._given | dict(self.open())
        groups: dict[str, SocketGroup] = {}
        try:
            for spec in specs:
                group = known.get(Address.of(spec))
                if group is None:
                    group = SocketGroup.bind(spec, by_reuseport=self._by_reuseport)
                groups[spec.name] = group
                group.widen(spec, reuseport_slots)
        except OSError:
            self.abandon(groups)
            raise
        return groups

    def commit(self, groups: Mapping[str, SocketGroup], specs: Iterable[ListenerSpec]) -> None:
        """Make these the current ones; the others are closed."""
        for group in self._all() - set(groups.values()):
            # What was given may still be the giver's, should we not get ready.
            group.close(for_good=group in self.current.values())
        self._given = {}
        specs = tuple(specs)
        self._set_modes(specs)
        self.current = dict(groups)
        self._specs = {spec.name: spec for spec in specs}

    def _set_modes(self, specs: Iterable[ListenerSpec]) -> None:
        """Unix sockets that stay and shall have another mode than before."""
        before = {spec.unix_path: spec.unix_mode for spec in self._specs.values()}
        for spec in specs:
            if spec.unix_path is not None and spec.unix_mode != before.get(spec.unix_path):
                try:
                    set_mode(spec)
                except OSError as error:  # not ours: the others' changes are in force already
                    log.error("the mode of %s stays: %s", spec.unix_path, error.strerror)

    def abandon(self, groups: Mapping[str, SocketGroup]) -> None:
        """Close those of a refused configuration that are not in use."""
        for group in set(groups.values()) - self._all():
            group.close(for_good=True)

    def _all(self) -> set[SocketGroup]:
        return {*self.current.values(), *self._given.values()}

    def addresses(self) -> dict[str, str]:
        """The URL of each listener."""
        return {
            name: url_of(self._specs[name], group.sockets[0])
            for name, group in self.current.items()
        }

    def close(self, *, for_good: bool = True) -> None:
        """Close all of them; not for good when another program goes on with them."""
        for group in self._all():
            group.close(for_good=for_good)
        self.current, self._given = {}, {}
