"""Endpoints of HTTP/1.1 that answer each request with what is its own, and make the mistakes that
its plan names."""

from __future__ import annotations

import asyncio
import socket
import struct

from tests.process.chained.arrival import Arrival, Reply, pieces_of, short_of
from tests.process.chained.book import Book
from tests.wire.serving import Serving
from tests.wire.tunnel_ends import accept_of

FOREIGN = b"HTTP/1.1 200 OK\r\nx-id: nobody\r\nx-source: answer\r\ncontent-length: 7\r\n\r\nforeign"
PATIENCE_S = 20.0
KEPT_S = 0.02
# What is written behind a response comes with it: more might be read in two parts, and then nobody
# could tell it from the answer to the next request.
AT_ONCE = 8000


class CutError(Exception):
    """The endpoint ends the connection, as it was meant to."""


def abort(writer: asyncio.StreamWriter) -> None:
    """End it with a reset, whatever is still to be sent."""
    sock = writer.get_extra_info("socket")
    if sock is not None and sock.fileno() >= 0:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


class Visit:
    """A connection to the endpoint."""

    def __init__(
        self, book: Book, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._book = book
        self._reader = reader
        self._writer = writer

    async def serve(self) -> None:
        """Answer requests until either side leaves."""
        try:
            while await self._one():
                pass
        except CutError:
            abort(self._writer)
        except (asyncio.IncompleteReadError, OSError):
            pass  # the proxy left, perhaps before what is said to it last
        finally:
            self._writer.close()

    async def _one(self) -> bool:
        lines = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, path, _ = lines[0].split(" ")
        parts = (line.partition(": ") for line in lines[1:-2])
        fields = {name.lower(): value for name, _, value in parts}
        arrival = Arrival(self._book, method, path, fields)
        arrival.accepted()
        self._cut_at(arrival, "cut-before", "cut-head", "garbage", early=True)
        if arrival.plan.kind == "tunnel":
            return await self._tunnel(arrival, fields)
        early = arrival.plan.early
        until = None if early is None else int(early * arrival.plan.body_size)
        if arrival.fault == "cut-reading":
            until = int(arrival.plan.fault_at * arrival.plan.body_size)
        if fields.get("expect") == "100-continue" and until != 0:
            self._writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        enough = asyncio.Event()
        reading = asyncio.create_task(self._read(arrival, fields, until, enough))
        try:
            async with asyncio.timeout(PATIENCE_S):
                await enough.wait()
            if reading.done():
                reading.result()
            goes_on = await self._answer(arrival, fields)
            if not arrival.is_whole and arrival.plan.nature == "steady":
                # Not closed with bytes unread: the reset would overtake the response.
                if not goes_on:
                    self._writer.write_eof()
                await reading
            return goes_on and arrival.is_whole
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    # --- the request --------------------------------------------------------------------------

    async def _read(
        self, arrival: Arrival, fields: dict[str, str], until: int | None, enough: asyncio.Event
    ) -> None:
        """The body; the endpoint has enough of it to answer at its end, or before."""
        try:
            if until == 0:
                enough.set()
            if fields.get("transfer-encoding") == "chunked":
                await self._read_chunks(arrival, until, enough)
                return
            left = int(fields.get("content-length", 0))
            while left:
                data = await self._some(left)
                left -= len(data)
                arrival.took(data)
                if until is not None and len(arrival.body) >= until:
                    enough.set()
            arrival.ended({} if not arrival.plan.sends.trailers else {"x-id": arrival.plan.name})
        finally:
            enough.set()

    async def _some(self, most: int) -> bytes:
        data = await self._reader.read(min(most, 65_536))
        if not data:
            raise ConnectionResetError("the request is torn")
        return data

    async def _read_chunks(
        self, arrival: Arrival, until: int | None, enough: asyncio.Event
    ) -> None:
        while size := int((await self._reader.readuntil(b"\r\n")).split(b";")[0], 16):
            while size:
                data = await self._some(size)
                size -= len(data)
                arrival.took(data)
                if until is not None and len(arrival.body) >= until:
                    enough.set()
            await self._reader.readexactly(2)
        trailers = {}
        while (line := await self._reader.readuntil(b"\r\n")) != b"\r\n":
            name, _, value = line.decode("latin-1").rstrip().partition(": ")
            trailers[name.lower()] = value
        arrival.ended(trailers)

    # --- the response -------------------------------------------------------------------------

    async def _answer(self, arrival: Arrival, fields: dict[str, str]) -> bool:
        plan, writer = arrival.plan, self._writer
        if arrival.fault == "cut-reading":
            raise CutError
        for number in range(plan.interim):
            writer.write(b"HTTP/1.1 103 Early Hints\r\n")
            writer.write(f"x-id: {plan.name}\r\nx-number: {number}\r\n\r\n".encode())
        self._cut_at(arrival, "cut-before", "cut-head", "garbage", early=False)
        reply = arrival.reply()
        if not await self._send(arrival, reply):
            return False
        if arrival.fault == "close-after":
            await asyncio.sleep(plan.fault_at * KEPT_S)
            return False
        return fields.get("connection") != "close"

    def _cut_at(self, arrival: Arrival, *faults: str, early: bool) -> None:
        """Whatever ends the connection instead of a response; half of them before the body."""
        plan = arrival.plan
        if arrival.fault not in faults or early != (plan.fault_at < 0.5):
            return
        if arrival.fault == "cut-head":
            head = f"HTTP/1.1 200 OK\r\nx-id: {plan.name}\r\ncontent-length: 5"
            self._writer.write(head[: int(len(head) * plan.fault_at)].encode())
        elif arrival.fault == "garbage":
            self._writer.write(b"SSH-2.0-garbage\r\n\r\n")
            raise ConnectionResetError("it was told nonsense")
        if plan.aborts:
            raise CutError
        raise ConnectionResetError("it closes")

    async def _send(self, arrival: Arrival, reply: Reply) -> bool:
        """The response; ``False``: its connection ends with it."""
        plan, fault, body = arrival.plan, arrival.fault, reply.body
        chunked = plan.answer.chunked and bool(plan.has_body) and reply.what != "busy"
        close = not chunked and plan.answer.trailers and plan.has_body and not fault
        size, more, fields = len(body), b"", list(reply.fields)
        if fault == "short-length" and plan.has_body and not chunked:
            size = short_of(plan, size)
            fields.append(("x-short", str(size)))
            if size < len(body):
                body, more = body[:size], body[size : size + AT_ONCE]
        elif fault == "long-length":
            chunked, size = False, size + 10
        elif fault == "behind":
            more = FOREIGN
        lines = [f"HTTP/1.1 {reply.status} x", *(f"{name}: {value}" for name, value in fields)]
        if fault == "two-lengths":
            chunked = False
            lines.append(f"content-length: {size + 1}")
        if chunked:
            lines.append("transfer-encoding: chunked")
        elif not close and reply.status not in (204, 304):
            lines.append(f"content-length: {size}")
        if close:
            lines.append("connection: close")
        head = ("\r\n".join(lines) + "\r\n\r\n").encode()
        last = self._last_chunk(reply) if chunked else b""
        if more and len(body) < AT_ONCE:
            framed = b"%x\r\n%b\r\n" % (len(body), body) if chunked and body else body
            self._writer.write(head + framed + last + more)
        else:
            await self._send_pieces(arrival, head, body, chunked)
            self._writer.write(last)
        await self._writer.drain()
        return not close and fault != "long-length"

    async def _send_pieces(self, arrival: Arrival, head: bytes, body: bytes, chunked: bool) -> None:
        """Head and body as the plan cuts them; the first piece comes with the head or behind it."""
        plan, writer = arrival.plan, self._writer
        cut = int(len(body) * plan.fault_at) if arrival.fault == "cut-body" else None
        if plan.answer.pieces != 2:
            writer.write(head)
            head = b""
            if plan.answer.pause_s:
                await asyncio.sleep(plan.answer.pause_s)
        sent = 0
        for piece in pieces_of(body, plan.answer.pieces) or [b""]:
            if cut is not None and sent + len(piece) >= cut:
                piece = piece[: max(0, cut - sent)]
                writer.write(head + (b"%x\r\n" % (len(piece) + 9) if chunked else b"") + piece)
                raise CutError if plan.aborts or not chunked else ConnectionResetError
            sent += len(piece)
            framed = b"%x\r\n%b\r\n" % (len(piece), piece) if chunked and piece else piece
            writer.write(head + framed)
            head = b""
            await writer.drain()
            if plan.answer.pause_s:
                await asyncio.sleep(plan.answer.pause_s)

    @staticmethod
    def _last_chunk(reply: Reply) -> bytes:
        lines = "".join(f"{name}: {value}\r\n" for name, value in reply.trailers)
        return f"0\r\n{lines}\r\n".encode()

    # --- tunnels ------------------------------------------------------------------------------

    async def _tunnel(self, arrival: Arrival, fields: dict[str, str]) -> bool:
        plan, writer = arrival.plan, self._writer
        if arrival.fault == "busy":
            return await self._send(arrival, arrival.reply())
        accept = accept_of(fields.get("sec-websocket-key", ""))
        lines = [
            "HTTP/1.1 101 x",
            "connection: upgrade",
            "upgrade: websocket",
            f"sec-websocket-accept: {accept}",
            f"x-id: {plan.name}",
            "x-source: answer",
        ]
        writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
        cut = int(plan.body_size * plan.fault_at) if arrival.fault == "cut-body" else None
        heard = 0
        while data := await self._reader.read(65_536):
            arrival.took(data)
            heard += len(data)
            if cut is not None and heard >= cut:
                raise CutError
            writer.write(data)
            await writer.drain()
        return False


class Origin1(Serving):
    """Listens on a free port for as long as its block lasts."""

    backlog = 1024

    def __init__(self, book: Book) -> None:
        super().__init__()
        self._book = book

    async def _visit(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await Visit(self._book, reader, writer).serve()
        except Exception as error:
            self._book.fault(None, f"an endpoint of HTTP/1.1: {error!r}")
