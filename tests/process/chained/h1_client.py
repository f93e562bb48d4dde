"""A client of HTTP/1.1: pipelines, uploads in pieces, reads slowly, leaves wherever it is."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from urllib.parse import urlsplit

from tests.process.chained.book import Book, Got
from tests.process.chained.h1_origin import abort
from tests.process.chained.plan import BODILESS, Plan
from tests.process.chained.sending import pieces
from tests.process.chained.verdict import judge
from tests.wire.tunnel_ends import KEY

PATIENCE_S = 25.0
MOST_IN_A_ROW = 4


class TornError(Exception):
    """The answer ended before its end."""


class LeftError(Exception):
    """The client left, as it was meant to."""


class Reader(asyncio.StreamReader):
    """Gives what came before a reset, as the system does; then ``was_reset`` says how it ended."""

    was_reset = False

    def set_exception(self, exc: BaseException | type[BaseException]) -> None:
        self.was_reset = True
        self.feed_eof()


async def connect(host: str, port: int) -> tuple[Reader, asyncio.StreamWriter]:
    """A connection of its own."""
    loop = asyncio.get_running_loop()
    reader = Reader(limit=16_384, loop=loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    transport, _ = await loop.create_connection(lambda: protocol, host, port)
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)


class Client1:
    """One connection after the other."""

    def __init__(self, book: Book, url: str, plans: Callable[[], Plan | None]) -> None:
        self._book = book
        self._at = urlsplit(url)
        self._plans = plans

    async def run(self) -> None:
        """As long as there are plans."""
        while batch := self._batch():
            reader, writer = await connect(str(self._at.hostname), int(self._at.port or 0))
            talk = Talk(self._book, reader, writer)
            try:
                while batch and await talk.ask(batch):
                    batch = self._batch()
            finally:
                writer.close()

    def _batch(self) -> list[Plan]:
        """Requests that are written without waiting; the last one may be of any kind."""
        batch: list[Plan] = []
        while len(batch) < MOST_IN_A_ROW and (plan := self._plans()) is not None:
            batch.append(plan)
            if plan.leaves or plan.expects or plan.kind == "tunnel" or plan.pad % 3 == 0:
                break
        return batch


class Talk:
    """A connection."""

    def __init__(self, book: Book, reader: Reader, writer: asyncio.StreamWriter) -> None:
        self._book = book
        self._reader = reader
        self._writer = writer
        self._go_on = asyncio.Event()  # 100 came, or a final head
        self._is_final = False
        self._is_spoilt = False  # what is not answered yet will not be

    async def ask(self, batch: list[Plan]) -> bool:
        """Send a batch and read the answers; ``False``: the connection is used up."""
        for plan in batch:
            self._book.ask(plan)
        self._go_on.clear()
        self._is_final = False
        sending = asyncio.create_task(self._send_all(batch))
        goes_on, done = True, 0
        try:
            while goes_on and done < len(batch):
                goes_on = await self._answer(batch[done])
                done += 1
            for plan in batch[done:]:
                judge(self._book, plan, Got(why="not answered", excused=True))
            if goes_on:
                # What was answered early is still sent: the proxy has not asked to stop.
                goes_on = await asyncio.wait_for(sending, PATIENCE_S)
        except TimeoutError:
            self._book.fault(batch[-1], "the rest of a request was not taken")
            goes_on = False
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
        return goes_on and batch[-1].kind != "tunnel"

    # --- sending ------------------------------------------------------------------------------

    async def _send_all(self, batch: list[Plan]) -> bool:
        try:
            for plan in batch:
                await self._send(plan)
        except (OSError, LeftError):
            return False
        return True

    async def _send(self, plan: Plan) -> None:
        writer = self._writer
        body = plan.body() if plan.kind == "plain" else b""
        writer.write(self._head(plan, len(body)))
        if plan.expects:
            await self._go_on.wait()
            if self._is_final:
                raise LeftError  # it need not be sent any more
        chunked = plan.sends.chunked and bool(body)
        if body:
            async for piece in pieces(plan):
                writer.write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
                await writer.drain()
        if plan.leaves == "sending":
            self._leave(plan)
        if chunked:
            trailers = f"x-id: {plan.name}\r\n" if plan.sends.trailers else ""
            writer.write(f"0\r\n{trailers}\r\n".encode())
        await writer.drain()
        if plan.leaves == "waiting":
            await asyncio.sleep(plan.leaves_at * 0.03)
            self._leave(plan)

    def _head(self, plan: Plan, size: int) -> bytes:
        lines = [f"{plan.method} {plan.path} HTTP/1.1", "host: a.test"]
        lines += [f"{name}: {value}" for name, value in plan.fields()]
        if plan.kind == "tunnel":
            lines += ["connection: upgrade", "upgrade: websocket"]
            lines += [f"sec-websocket-key: {KEY}", "sec-websocket-version: 13"]
        elif plan.sends.chunked and size:
            lines.append("transfer-encoding: chunked")
        elif size or plan.is_unsafe:
            lines.append(f"content-length: {size}")
        if plan.expects:
            lines.append("expect: 100-continue")
        return ("\r\n".join(lines) + "\r\n\r\n").encode()

    def _leave(self, plan: Plan) -> None:
        self._is_spoilt = True
        if plan.aborts:
            abort(self._writer)
        else:
            self._writer.close()
        raise LeftError

    # --- reading ------------------------------------------------------------------------------

    async def _answer(self, plan: Plan) -> bool:
        """Read one answer and judge it; ``False``: the connection is used up."""
        got = Got()
        try:
            async with asyncio.timeout(PATIENCE_S):
                await self._read(plan, got)
                got.is_whole = True
        except TimeoutError:
            self._book.fault(plan, f"it hangs: {got.status} {got.fields} {len(got.body)} bytes")
            got.why, got.excused = "it hangs", True
        except (ValueError, asyncio.LimitOverrunError) as error:
            self._book.fault(plan, f"what came is no response: {error}: {got}")
        except (asyncio.IncompleteReadError, OSError, TornError) as error:
            got.why = repr(error)
        except LeftError:
            got.why = "left"
        finally:
            if plan.expects:
                self._is_final = True
                self._go_on.set()
        got.excused = got.excused or (self._is_spoilt and not got.is_whole)
        if "x-short" in got.fields:
            self._is_spoilt = True  # it looks whole, and is cut when the endpoint says more
        judge(self._book, plan, got)
        return got.is_whole and got.fields.get("connection") != "close"

    async def _read(self, plan: Plan, got: Got) -> None:
        while True:
            status, fields = await self._read_head()
            if status == 101 or status >= 200:
                break
            got.interim.append(fields)
            if plan.expects:
                self._go_on.set()
        got.status, got.fields = status, fields
        if plan.leaves == "reading" and plan.leaves_at < 0.2:
            self._leave(plan)
        if status == 101:
            await self._tunnel(plan, got)
        elif plan.method == "HEAD" or status in BODILESS:
            pass
        elif fields.get("transfer-encoding") == "chunked":
            await self._read_chunks(plan, got)
        elif "content-length" in fields:
            left = int(fields["content-length"])
            while left:
                left -= len(await self._some(plan, got, left))
        else:
            while await self._some(plan, got, 65_536, may_end=True):
                pass

    async def _read_head(self) -> tuple[int, dict[str, str]]:
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        lines = head.split("\r\n")
        if not lines[0].startswith("HTTP/1.1 "):
            raise ValueError(lines[0][:80])
        parts = (line.partition(": ") for line in lines[1:-2])
        return int(lines[0][9:12]), {name.lower(): value for name, _, value in parts}

    async def _some(self, plan: Plan, got: Got, most: int, *, may_end: bool = False) -> bytes:
        before = len(got.body)
        data = await self._reader.read(min(most, 16_384))
        if not data and (self._reader.was_reset or not may_end):
            raise TornError
        got.body += data
        half = plan.answer.size / 2
        if plan.lingers_s and before < half <= len(got.body):
            await asyncio.sleep(plan.lingers_s)
        if plan.leaves == "reading" and len(got.body) >= plan.answer.size * plan.leaves_at:
            self._leave(plan)
        return data

    async def _read_chunks(self, plan: Plan, got: Got) -> None:
        while size := int((await self._reader.readuntil(b"\r\n")), 16):
            while size:
                size -= len(await self._some(plan, got, size))
            if await self._reader.readexactly(2) != b"\r\n":
                raise ValueError("a chunk without its end")
        while (line := await self._reader.readuntil(b"\r\n")) != b"\r\n":
            name, _, value = line.decode("latin-1").rstrip().partition(": ")
            got.trailers[name.lower()] = value

    async def _tunnel(self, plan: Plan, got: Got) -> None:
        talking = asyncio.create_task(self._say(plan))
        try:
            while len(got.body) < plan.body_size:
                await self._some(plan, got, plan.body_size)
            if plan.leaves or plan.aborts:
                return  # it ends as the client closes
            self._writer.write_eof()
            if await self._reader.read(1):
                raise ValueError("more than was said came back")
            if self._reader.was_reset:
                raise TornError
        finally:
            talking.cancel()
            await asyncio.gather(talking, return_exceptions=True)

    async def _say(self, plan: Plan) -> None:
        with contextlib.suppress(OSError):
            async for piece in pieces(plan):
                self._writer.write(piece)
                await self._writer.drain()
            if plan.leaves:
                self._is_spoilt = True
                self._writer.transport.abort()
