"""A client of HTTP/2: many streams at a time, resets, shut windows, connections that go."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable

from h2.exceptions import ProtocolError

from tests.process.chained.book import Book, Got
from tests.process.chained.plan import Plan
from tests.process.chained.sending import pieces, tunnel_head
from tests.process.chained.verdict import judge
from tests.wire.h2_client import H2Client
from tests.wire.h2_peer import ResetError, Stream

PATIENCE_S = 25.0
MOST_STREAMS = 12
LONGEST_LIFE = 80
"""Requests of a connection."""
CANCEL = 8
GONE = (ConnectionError, ResetError, ProtocolError)


class Client2:
    """One connection after the other."""

    def __init__(
        self, book: Book, url: str, plans: Callable[[], Plan | None], dice: random.Random
    ) -> None:
        self._book = book
        self._url = url
        self._plans = plans
        self._dice = dice

    async def run(self) -> None:
        """As long as there are plans."""
        while (plan := self._plans()) is not None:
            life = Life(self._book, self._dice.randint(1, MOST_STREAMS))
            async with H2Client(self._url) as client:
                await life.spend(client, plan, self._plans, self._dice)
                if client.broken is not None:
                    self._book.fault(plan, f"what came is no HTTP/2: {client.broken!r}")
                    client.broken = None


class Life:
    """Of a connection."""

    def __init__(self, book: Book, streams: int) -> None:
        self._book = book
        self._streams = streams
        self._is_cut = False  # by us
        self._asked: set[asyncio.Task[None]] = set()

    async def spend(
        self,
        client: H2Client,
        plan: Plan | None,
        plans: Callable[[], Plan | None],
        dice: random.Random,
    ) -> None:
        """Ask, a few at a time, until it is over."""
        left = dice.randint(1, LONGEST_LIFE)
        while plan is not None:
            left -= 1
            self._book.ask(plan)
            task = asyncio.create_task(self._ask(client, plan))
            self._asked.add(task)
            task.add_done_callback(self._asked.discard)
            if len(self._asked) >= self._streams:
                await asyncio.wait(self._asked, return_when=asyncio.FIRST_COMPLETED)
            if not left or client.lost or client.goaway is not None:
                break
            plan = plans()
        if dice.random() < 0.1:
            self._is_cut = True
            client.writer.transport.abort()
        if self._asked:
            await asyncio.wait(self._asked)

    async def _ask(self, client: H2Client, plan: Plan) -> None:
        got = Got()
        stream: Stream | None = None
        try:
            async with asyncio.timeout(PATIENCE_S):
                head = tunnel_head(plan) if plan.kind == "tunnel" else self._head(plan)
                bodiless = plan.kind != "tunnel" and not plan.body_size
                stream = client.open(*head, end=bodiless)
                await self._exchange(client, stream, plan, bodiless)
        except TimeoutError:
            self._book.fault(plan, f"it hangs: {stream and (stream.lines, len(stream.body))}")
            got.excused = True
        except GONE as error:
            got.why = repr(error)
        except Exception as error:
            self._book.fault(plan, f"the client: {error!r}")
        if stream is not None:
            self._take(stream, got)
            stream.body.clear()
        got.excused = got.excused or (self._is_cut and not got.is_whole)
        judge(self._book, plan, got)

    @staticmethod
    def _take(stream: Stream, got: Got) -> None:
        """What there is of the answer."""
        got.fields = dict(stream.lines)
        got.status = int(got.fields.get(":status", 0))
        got.interim = stream.interim
        got.body = bytearray(stream.body)
        got.trailers = stream.trailers or {}
        got.is_whole = stream.ended

    @staticmethod
    def _head(plan: Plan) -> list[tuple[str, str]]:
        head = [
            (":method", plan.method),
            (":scheme", "http"),
            (":authority", "a.test"),
            (":path", plan.path),
            *plan.fields(),
        ]
        if not plan.sends.chunked and (plan.body_size or plan.is_unsafe) and plan.kind == "plain":
            head.append(("content-length", str(plan.body_size)))
        if plan.expects:
            head.append(("expect", "100-continue"))
        return head

    async def _exchange(self, client: H2Client, stream: Stream, plan: Plan, bodiless: bool) -> None:
        if plan.lingers_s and not plan.leaves:  # who leaves gives nothing back
            stream.credit = False
        sending = None if bodiless else asyncio.create_task(self._send(client, stream, plan))
        try:
            if plan.leaves:
                await self._leave(stream, plan, sending)
                return
            if plan.lingers_s:
                await stream.until(lambda: bool(stream.lines))
                await asyncio.sleep(plan.lingers_s)
                self._give_back(client, stream)
            await stream.until(lambda: stream.ended)
            if sending is not None and plan.aborts:
                await sending  # an early answer does not stop it
        finally:
            if sending is not None:
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)
            if stream.ended and sending is not None and sending.cancelled():
                with contextlib.suppress(ProtocolError):
                    stream.cancel(CANCEL)

    @staticmethod
    def _give_back(client: H2Client, stream: Stream) -> None:
        """The window that was kept shut."""
        stream.credit = True
        if stream.body and not stream.ended and stream.reset_code is None:
            client.h2.increment_flow_control_window(len(stream.body), stream.number)
            client.flush()

    async def _leave(self, stream: Stream, plan: Plan, sending: asyncio.Task[None] | None) -> None:
        """When the plan says so."""
        if plan.leaves == "sending" and sending is not None:
            await asyncio.wait((sending,))
        elif plan.leaves == "reading":
            size = int(plan.answer.size * plan.leaves_at)
            await stream.until(
                lambda: stream.ended or (bool(stream.lines) and len(stream.body) >= size)
            )
        else:
            await asyncio.sleep(plan.leaves_at * 0.03)
        if not stream.ended:
            stream.cancel(CANCEL)
            raise ConnectionResetError("left")

    async def _send(self, client: H2Client, stream: Stream, plan: Plan) -> None:
        with contextlib.suppress(*GONE):
            if plan.kind == "tunnel":
                await stream.until(lambda: bool(stream.lines))
                if stream.status != 200 or "x-mesh-reason" in stream.fields:
                    return
            if plan.expects:
                await stream.until(lambda: bool(stream.lines or stream.interim))
                if stream.lines:
                    return
            async for piece in pieces(plan):
                await stream.send(piece)
            if plan.leaves == "sending":
                return
            trailers = plan.sends.trailers and plan.kind == "plain"
            if trailers:
                stream.send_head(("x-id", plan.name), end=True)
            elif plan.kind == "tunnel":
                await stream.until(lambda: len(stream.body) >= plan.body_size or stream.ended)
                await stream.send(b"", end=True)
            else:
                await stream.send(b"", end=True)
