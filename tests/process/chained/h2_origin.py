"""Endpoints of HTTP/2 that do as those of HTTP/1.1, with the mistakes that HTTP/2 allows."""

from __future__ import annotations

import asyncio
from types import TracebackType
from weakref import WeakKeyDictionary

from h2.exceptions import ProtocolError
from h2.settings import SettingCodes

from tests.process import load_frames as h2
from tests.process.chained.arrival import Arrival, Reply, pieces_of, short_of
from tests.process.chained.book import Book
from tests.process.chained.h1_origin import KEPT_S
from tests.process.load_frames import frame
from tests.wire.h2_origin import Call, H2Origin, H2Visit
from tests.wire.h2_peer import ResetError

INTERNAL_ERROR, REFUSED_STREAM = 2, 7
NO_ERROR = 0


class CutError(Exception):
    """The endpoint gives the stream up, as it was meant to."""


class Origin2(H2Origin):
    """Listens on a free port for as long as its block lasts."""

    def __init__(self, book: Book) -> None:
        super().__init__(self._serve, settings={SettingCodes.ENABLE_CONNECT_PROTOCOL: 1})
        self._book = book
        # By connection: what came on it, and above which stream nothing is processed.
        self._taken: WeakKeyDictionary[H2Visit, dict[int, Arrival]] = WeakKeyDictionary()
        self._last: WeakKeyDictionary[H2Visit, int] = WeakKeyDictionary()

    async def _serve(self, call: Call) -> None:
        try:
            await self._one(call)
        except CutError:
            pass
        except (ConnectionError, ResetError, ProtocolError):
            pass  # the proxy gave it up
        except Exception as error:
            self._book.fault(None, f"an endpoint of HTTP/2: {error!r}")
        call.body.clear()  # a run is long, and so is the life of some connections
        self.calls.clear()
        self.visits[:] = [visit for visit in self.visits if not visit.lost]

    async def _one(self, call: Call) -> None:
        fields = call.fields
        arrival = Arrival(self._book, fields[":method"], call.path, fields)
        plan, fault = arrival.plan, arrival.fault
        if call.number > self._last.get(call.visit, call.number):
            return  # it came behind a GOAWAY, and perhaps again by another way
        if fault == "refuse":
            call.cancel(REFUSED_STREAM)
            return
        arrival.accepted()
        self._taken.setdefault(call.visit, {})[call.number] = arrival
        if fault == "goaway-above":
            self._go_away(call, max(0, call.number - 2))
            return
        if fault == "goaway":
            self._go_away(call, call.number)
        elif fault == "cut-before" and plan.fault_at < 0.5:
            self._cut(call)
        elif fault == "abort" and plan.fault_at < 0.3:
            call.visit.abort()
            return
        if plan.kind == "tunnel" and fault != "busy":
            await self._tunnel(call, arrival)
        else:
            await self._read(call, arrival)
            await self._answer(call, arrival)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for broken in self.errors:
            self._book.fault(None, f"an endpoint was told what is no HTTP/2: {broken!r}")
        self.errors.clear()
        await super().__aexit__(kind, error, trace)

    def _go_away(self, call: Call, last: int) -> None:
        """Streams above the last are not processed: they may come again."""
        visit = call.visit
        before = self._last.get(visit, 1 << 31)
        self._last[visit] = last = min(before, last)
        for number, arrival in self._taken[visit].items():
            if last < number <= before:
                arrival.refused()
        visit.send_goaway(last)

    def _cut(self, call: Call) -> None:
        call.cancel(INTERNAL_ERROR)
        raise CutError

    async def _read(self, call: Call, arrival: Arrival) -> None:
        """The body, or as much of it as the endpoint waits for."""
        plan, taken = arrival.plan, 0
        if plan.kind == "tunnel":
            return
        until = None if plan.early is None else int(plan.early * plan.body_size)
        if arrival.fault == "cut-reading":
            until = int(plan.fault_at * plan.body_size)
        if call.fields.get("expect") == "100-continue" and until != 0:
            call.send_head((":status", "100"))
        while not call.ended and (until is None or taken < until):
            await call.until(lambda taken=taken: len(call.body) > taken or call.ended)  # type: ignore[misc]
            data = bytes(call.body[taken:])
            taken += len(data)
            arrival.took(data)
        if call.ended:
            if len(call.body) > taken:
                arrival.took(bytes(call.body[taken:]))
            arrival.ended(call.trailers or _own_trailers(arrival, call))
        if arrival.fault == "cut-reading":
            self._cut(call)

    async def _answer(self, call: Call, arrival: Arrival) -> None:
        plan, fault, reply = arrival.plan, arrival.fault, arrival.reply()
        for number in range(plan.interim):
            call.send_head((":status", "103"), ("x-id", plan.name), ("x-number", str(number)))
        if fault == "cut-before":
            self._cut(call)
        if fault == "abort" and plan.fault_at < 0.6:
            call.visit.abort()
            return
        await self._send(call, arrival, reply)
        if fault == "behind":
            call.visit.send_raw(frame(h2.DATA, call.number, b"foreign"))
        elif fault == "reset-after":
            await asyncio.sleep(plan.fault_at * KEPT_S)
            reset = NO_ERROR.to_bytes(4, "big")
            call.visit.send_raw(frame(h2.RESET, call.number, reset))
        elif fault == "close-after":
            await asyncio.sleep(plan.fault_at * KEPT_S)
            call.visit.writer.close()
        if not arrival.is_whole and plan.aborts:
            call.cancel(NO_ERROR)  # RFC 9113 §8.1: the rest of the request is not wanted

    async def _send(self, call: Call, arrival: Arrival, reply: Reply) -> None:
        plan, fault, body = arrival.plan, arrival.fault, reply.body
        size = len(body)
        if fault == "short-length" and size:
            size = short_of(plan, size)
        elif fault == "long-length":
            size += 10
        head = [(":status", str(reply.status)), *reply.fields]
        wrong = fault in ("short-length", "long-length") and plan.has_body and plan.kind == "plain"
        bodiless = reply.status in (204, 304)
        if (not plan.answer.chunked or wrong) and plan.kind == "plain" and not bodiless:
            head.append(("content-length", str(size)))
            if size < len(body):
                head.append(("x-short", str(size)))
        ends = not body and not reply.trailers
        call.send_head(*head, end=ends)
        if ends:
            return
        if plan.answer.pause_s:
            await asyncio.sleep(plan.answer.pause_s)
        cut = int(len(body) * plan.fault_at) if fault in ("cut-body", "abort") else None
        sent, pieces = 0, pieces_of(body, plan.answer.pieces)
        for number, piece in enumerate(pieces):
            if cut is not None and sent + len(piece) >= cut:
                await call.send(piece[: cut - sent])
                if fault == "abort":
                    call.visit.abort()
                    raise CutError
                self._cut(call)
            sent += len(piece)
            await call.send(piece, end=number == len(pieces) - 1 and not reply.trailers)
            if plan.answer.pause_s:
                await asyncio.sleep(plan.answer.pause_s)
        if reply.trailers:
            call.send_head(*reply.trailers, end=True)

    async def _tunnel(self, call: Call, arrival: Arrival) -> None:
        plan, at = arrival.plan, 0
        call.send_head((":status", "200"), ("x-id", plan.name), ("x-source", "answer"))
        cut = int(plan.body_size * plan.fault_at) if arrival.fault == "cut-body" else None
        while not call.ended:
            await call.until(lambda at=at: len(call.body) > at or call.ended)  # type: ignore[misc]
            piece = bytes(call.body[at:])
            at += len(piece)
            arrival.took(piece)
            if cut is not None and at >= cut:
                self._cut(call)
            await call.send(piece)
        await call.send(b"", end=True)


def _own_trailers(arrival: Arrival, call: Call) -> dict[str, str]:
    """Where the framing of a hop has no place for them, none are missed."""
    return {"x-id": arrival.plan.name} if "content-length" in call.fields else {}
