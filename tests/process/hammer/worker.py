"""A worker without sockets: it takes orders on its standard input, and between them begins and
finishes requests, several at a time. Started with a segment's descriptor, a ledger and a seat.
"""

from __future__ import annotations

import json
import random
import select
import sys
from pathlib import Path
from typing import IO, Any, Final

from meshcore._core import (
    CodecLimits,
    Engine,
    ListenerStack,
    Prepared,
    Reason,
    Request,
    Segment,
    ServerCodec,
    Ticket,
    Verdict,
    now_ns,
)
from tests.process.hammer.ledger import Ledger

ROUTES: Final = 4_096
"""Numbers of routes that are counted."""
SILENT: Final = 1
"""The route that nobody asks for."""
HELD: Final = 8
"""Requests in flight of one worker."""


def begun(route: int) -> int:
    """Where the ledger counts requests that began."""
    return 2 * route


def finished(route: int) -> int:
    """Where it counts those that finished."""
    return 2 * route + 1


def _request(route: int) -> Request:
    codec = ServerCodec(CodecLimits(), False)
    event = codec.receive(b"GET /%d/ HTTP/1.1\r\nhost: a\r\n\r\n" % route)
    assert isinstance(event, Request)
    return event


class Worker:
    """Serves imaginary clients."""

    def __init__(self, segment: Segment, slot: int, ledger: Ledger, seat: int) -> None:
        self._dice = random.Random(slot * 1_000 + now_ns())
        self._engine = Engine.worker(segment, slot, seed=slot)
        self._ledger = ledger
        self._seat = seat
        self._peer = self._engine.peer("192.0.2.7")
        self._prepared: Prepared | None = None
        self._routes: list[int] = []
        self._held: list[tuple[int, ListenerStack, Ticket]] = []

    def obey(self, order: dict[str, Any]) -> str:
        """Carry out an order of control's; what to say to it."""
        match order["do"]:
            case "prepare":
                self._prepared = self._engine.prepare(order["delta"].encode())
            case "abort":
                self._prepared = None
            case "commit":
                assert self._prepared is not None
                self._engine.commit(self._prepared)
                self._prepared = None
                self._routes = [route for route in order["routes"] if route != SILENT]
        self._engine.report(now_ns())
        return f"{order['do']} {self._engine.version}\n"

    def turn(self) -> None:
        """One request more, and perhaps the end of others."""
        if self._routes:
            self._begin(self._dice.choice(self._routes))
        while len(self._held) > HELD or (self._held and self._dice.random() < 0.4):
            self._finish(*self._held.pop(self._dice.randrange(len(self._held))))

    def _begin(self, route: int) -> None:
        self._ledger.add(self._seat, begun(route))
        listener = self._engine.listener("edge")
        listener.connected()
        ticket = listener.begin(_request(route), self._peer, now_ns())
        assert ticket.route.endswith(f"-{route}"), (ticket.route, route)
        if ticket.verdict == Verdict.FORWARD and self._dice.random() < 0.3:
            ticket.failed(Reason.UPSTREAM_CONNECT, None, now_ns())
        self._held.append((route, listener, ticket))

    def _finish(self, route: int, listener: ListenerStack, ticket: Ticket) -> None:
        ticket.finish(now_ns())
        listener.disconnected()
        self._ledger.add(self._seat, finished(route))


def serve(orders: IO[bytes], fd: int, ledger: Ledger, seat: int) -> None:
    """Until nobody gives orders any more."""
    worker: Worker | None = None
    while True:
        if select.select([orders], [], [], None if worker is None else 0)[0]:
            line = orders.readline()
            if not line:
                return
            order = json.loads(line)
            if worker is None:
                worker = Worker(Segment.open(fd), order["slot"], ledger, seat)
            sys.stdout.write(worker.obey(order))
            sys.stdout.flush()
        assert worker is not None
        for _ in range(50):
            worker.turn()


def main() -> None:
    """Until killed."""
    fd, path, seat = sys.argv[1:]
    with open(0, "rb", buffering=0) as orders:  # what is buffered, `select` does not see
        serve(orders, int(fd), Ledger(Path(path), 2 * ROUTES), int(seat))


if __name__ == "__main__":
    main()
