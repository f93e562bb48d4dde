"""Who of an exchange is read: each side while there is no reason against it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshcore.exchange.phase import ENDED, FULL, LOOKING

if TYPE_CHECKING:
    from meshcore._core import Ticket
    from meshcore.exchange.ports import Downstream, Upstream


class Reading:
    """The two sides of a request on its way, and for each a set of reasons not to read it. A side
    is read on when its set is empty."""

    __slots__ = (
        "client_pauses",
        "down",
        "endpoint_pauses",
        "phase",
        "request_done",
        "ticket",
        "up",
    )

    ticket: Ticket
    down: Downstream
    up: Upstream | None
    phase: int
    request_done: bool
    client_pauses: int
    endpoint_pauses: int

    def _pause_client(self, why: int, now_ns: int) -> None:
        if self.request_done:
            return  # nothing of this request is left to be read
        if not self.client_pauses:
            self.ticket.reading(False, now_ns)
            self.down.pause_reading()
        self.client_pauses |= why

    def _resume_client(self, why: int, now_ns: int) -> None:
        if self.client_pauses & why:
            self.client_pauses &= ~why
            if not self.client_pauses:
                self.ticket.reading(True, now_ns)
                self.down.resume_reading()
                self.down.arm(self.ticket.arm())

    def _set_endpoint_pauses(self, why: int) -> None:
        """Before there is a head the endpoint is read whatever the client takes: it is timed."""
        before, self.endpoint_pauses = self.endpoint_pauses, why
        up = self.up
        if up is not None and self.phase >= LOOKING:
            if why and not before:
                up.pause_reading()
            elif before and not why:
                up.resume_reading()

    def on_client_full(self) -> None:
        """The client takes no more of the response."""
        self._set_endpoint_pauses(self.endpoint_pauses | FULL)

    def on_client_room(self) -> None:
        """It takes more."""
        self._set_endpoint_pauses(self.endpoint_pauses & ~FULL)

    def on_endpoint_full(self, now_ns: int) -> None:
        """The endpoint takes no more of the request."""
        self._pause_client(FULL, now_ns)

    @property
    def endpoint_ended(self) -> bool:
        """Whether the endpoint's side of the tunnel has ended."""
        return bool(self.endpoint_pauses & ENDED)

    @property
    def half_closes(self) -> bool:
        """Whether one direction of a tunnel can end alone."""
        return self.up is not None and self.up.half_closes and self.down.half_closes
