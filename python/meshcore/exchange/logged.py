"""An exchange that is written to the access log; the plain one knows nothing of it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from meshcore.exchange.exchange import Exchange
from meshcore.telemetry.access_log import Entry

if TYPE_CHECKING:
    from meshcore._core import Answer, Listener, Request
    from meshcore.exchange.ports import Downstream, Driver


class LoggedExchange(Exchange):
    """Records one entry when it is over, however it ends."""

    __slots__ = ("_began_ns", "_reason")

    def __init__(self, driver: Driver, down: Downstream, stack: Listener, request: Request) -> None:
        super().__init__(driver, down, stack, request)
        self._began_ns = 0
        self._reason = ""

    def begin(self, now_ns: int) -> None:
        """As `Exchange.begin`, timed."""
        self._began_ns = now_ns
        super().begin(now_ns)

    def answer(self, answer: Answer, now_ns: int) -> None:
        """As `Exchange.answer`; the reason is what the log tells."""
        if not self.over and not self._committed:
            self._reason = answer.reason
        super().answer(answer, now_ns)

    def on_drained(self, now_ns: int) -> None:
        """As `Exchange.on_drained`; what is cut has a reason, too."""
        if not self.over:
            self._reason = "draining"
        super().on_drained(now_ns)

    def cancel(self, now_ns: int) -> None:
        """As `Exchange.cancel`."""
        first = not self.over
        super().cancel(now_ns)
        if first:
            self._record(now_ns)

    def _end(self, now_ns: int) -> None:
        self._record(now_ns)
        super()._end(now_ns)

    def _record(self, now_ns: int) -> None:
        log, ticket, request = self.driver.access_log, self.ticket, self.request
        if log is None:
            return
        query = request.query
        given = request.header("x-request-id")
        log.record(
            Entry(
                ended_s=time.time(),
                listener=self.down.listener_name,
                client=self.down.peer.address,
                method=request.method,
                host=request.host,
                target=request.path if query is None else f"{request.path}?{query}",
                protocol=request.http_version,
                status=self.status,
                reason=self._reason,
                route=ticket.route if ticket is not None else "",
                attempts=ticket.attempts if ticket is not None else 0,
                duration_ms=(now_ns - self._began_ns) / 1e6,
                request_id=given or (ticket.request_id if ticket is not None else ""),
            )
        )
