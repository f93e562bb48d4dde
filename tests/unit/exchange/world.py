"""A worker without sockets, clock or loop: the test decides what happens next, and when."""

from __future__ import annotations

import asyncio
import errno
import functools
import socket
from collections import deque
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Generator,
    Iterable,
    Mapping,
)
from contextlib import ExitStack, asynccontextmanager
from contextvars import Context
from typing import Any, cast
from unittest import mock

from meshcore import Answer, Layer, Outcome, Request, Response
from meshcore._core import Engine, TicketRing
from meshcore.config.change import change
from meshcore.config.compile import Snapshot, compile
from meshcore.config.load import load_text
from meshcore.downstream.http1 import Http1Connection as Http1Downstream
from meshcore.downstream.http2 import Http2Connection as Http2Downstream
from meshcore.downstream.listener import Listener
from meshcore.process.prepared import prepare
from meshcore.process.worker import Worker
from meshcore.upstream.chooser import Chooser
from meshcore.upstream.connector import Connector
from meshcore.upstream.http1 import Http1Connection as Http1Upstream
from meshcore.upstream.http2 import Http2Connection as Http2Upstream
from meshcore.upstream.pool import Pool

Downstream = Http1Downstream | Http2Downstream
Upstream = Http1Upstream | Http2Upstream

MESH = """
version: 1
listeners:
  edge: {bind: "127.0.0.1:0"}
routes:
  - name: all
    upstream: one
    timeout: 5s
    retry: {retries: 2, when: [connect, reset, 503]}
    layers: [{python: "test:Probe"}]
upstreams:
  one:
    endpoints: ["127.0.0.1:1", "127.0.0.1:2"]
    limits: {connections: 3, pending: 3}
    ejection: off
    circuit_breaker: off
"""
NARROW_BYTES = 10_000


@functools.cache
def compiled(text: str) -> Snapshot:
    return compile(load_text(text))


class Gate:
    """Something awaited until the test says how it ends."""

    def __init__(self) -> None:
        self.open = False
        self.error: Exception | None = None
        self.narrow = False  # the connection that it opens
        self.closes = False  # at once
        self.address = ""  # of the endpoint

    def done(self) -> bool:
        return self.open

    def set_result(self, result: object) -> None:
        self.open = True

    def __await__(self) -> Generator[None, None, None]:
        try:
            while not self.open:
                yield
        finally:
            self.open = True
        if self.error is not None:
            raise self.error


class Work:
    """A task of the loop that does not exist: runs one step when told."""

    def __init__(self, steps: Coroutine[Any, Any, Any]) -> None:
        self._steps = steps
        self._ended: list[Callable[[Any], object]] = []
        self._cancelled = False
        self._result: object = None
        self._error: BaseException | None = None
        self.done = False

    def add_done_callback(
        self, callback: Callable[[Any], object], *, context: Context | None = None
    ) -> None:
        self._ended.append(callback)

    def cancel(self) -> bool:
        self._cancelled = not self.done
        return self._cancelled

    def cancelled(self) -> bool:
        return isinstance(self._error, asyncio.CancelledError)

    def exception(self) -> BaseException | None:
        return self._error

    def result(self) -> object:
        return self._result

    def step(self) -> None:
        try:
            if self._cancelled:
                self._steps.throw(asyncio.CancelledError())
            else:
                self._steps.send(None)
            return
        except StopIteration as ended:
            self._result = ended.value
        except (Exception, asyncio.CancelledError) as error:
            self._error = error
        self.done = True
        for callback in self._ended:
            callback(self)


class Loop:
    """Holds what a loop would run."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.soon: deque[Callable[[], object]] = deque()
        self.timers: list[tuple[int, Callable[..., object], tuple[object, ...]]] = []
        self.tasks: list[Work] = []

    def call_later(self, delay_s: float, call: Callable[..., object], *args: object) -> object:
        self.timers.append((self._world.now + int(delay_s * 1e9), call, args))
        return self.timers[-1]

    def call_soon(
        self, call: Callable[..., object], *args: object, context: Context | None = None
    ) -> None:
        run = functools.partial(call, *args)
        self.soon.append(run if context is None else functools.partial(context.run, run))

    def create_future(self) -> Gate:
        return Gate()

    def create_task(
        self, steps: Coroutine[Any, Any, Any], *, context: Context | None = None
    ) -> Work:
        self.tasks.append(Work(steps))
        return self.tasks[-1]


class Wire:
    """A transport: keeps what was written, and tells its protocol of its end later."""

    protocol: Downstream | Upstream

    def __init__(self, world: World) -> None:
        self._world = world
        self.written = bytearray()
        self.reading = True
        self.closing = False
        self.aborted = False
        self.lost = False
        self.left = False  # the peer ended it
        self.ended = False  # nothing more is written
        self.narrow = False  # the peer takes what is large only when told
        self.queued = 0  # bytes that the peer has not taken yet
        self.rest: deque[bytes] = deque()  # what the peer still has to send; b"": its end
        self._socket: socket.socket | None = None

    @property
    def client(self) -> Http1Downstream:
        assert isinstance(self.protocol, Http1Downstream)
        return self.protocol

    @property
    def endpoint(self) -> Http1Upstream:
        assert isinstance(self.protocol, Http1Upstream)
        return self.protocol

    def write(self, data: bytes) -> None:
        assert not self.lost
        assert not self.ended
        self.written += data
        if self.narrow and len(data) > NARROW_BYTES and not self.protocol.choked:
            self.protocol.pause_writing()

    def writelines(self, parts: Iterable[bytes]) -> None:
        self.write(b"".join(parts))

    def write_eof(self) -> None:
        """The peer sees the end of what was written."""
        self.ended = True

    def set_write_buffer_limits(self, high: int) -> None:
        """Other limits are not asked for: what is queued is too much."""
        assert high == 0
        if self.queued and not self.protocol.choked:
            self.protocol.pause_writing()

    def can_write_eof(self) -> bool:
        return True

    def is_closing(self) -> bool:
        return self.closing

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def set_protocol(self, protocol: Downstream | Upstream) -> None:
        self.protocol = protocol

    def get_extra_info(self, name: str) -> object:
        known = {"peername": ("127.0.0.1", 9), "socket": self._socket, "rest": self.rest}
        return known.get(name)

    def close(self) -> None:
        if self.queued and not self.aborted:
            return  # once all is written
        if not self.closing:
            self.closing = True
            self._world.loop.soon.append(self.end)

    def get_write_buffer_size(self) -> int:
        return self.queued

    def abort(self) -> None:
        self.aborted = True
        self.close()

    def end(self, error: Exception | None = None) -> None:
        """The connection is lost."""
        self.closing = True
        if not self.lost:
            self.lost = True
            self.protocol.connection_lost(error)
        if self._socket is not None:
            self._socket.close()

    def fail(self, unread: bytes) -> None:
        """A write fails before the loop has looked what came: that waits in the socket."""
        self._socket, theirs = socket.socketpair()
        self._socket.setblocking(False)
        with theirs:
            theirs.sendall(unread)
        self.end(BrokenPipeError(errno.EPIPE, "as made"))


class Probe(Layer):
    """Does what the request's own fields ask for."""

    def __init__(self) -> None:
        self.gates: list[Gate] = []
        self.begun: list[Request] = []
        self.ended: list[Request] = []

    def is_told_of_each_end(self) -> bool:
        """Once, of every request that came to it."""
        return sorted(map(id, self.begun)) == sorted(map(id, self.ended))

    def _run(self, wish: str | None, answer: Answer | None) -> Any:
        if wish == "raise":
            raise ValueError("as asked")
        if wish == "wait":
            self.gates.append(Gate())
            return self._wait(self.gates[-1], answer)
        return answer

    async def _wait(self, gate: Gate, answer: Answer | None) -> Answer | None:
        await gate
        return answer

    def on_request(self, request: Request) -> Answer | Awaitable[Answer | None] | None:
        self.begun.append(request)
        answer = Answer(299) if request.header("x-answer") else None
        return cast("Answer | None", self._run(request.header("x-in"), answer))

    def on_response(self, request: Request, response: Response) -> Awaitable[None] | None:
        return cast("Awaitable[None] | None", self._run(request.header("x-out"), None))

    def on_end(self, request: Request, outcome: Outcome) -> None:
        self.ended.append(request)


class Bodies(Probe):
    """Puts every digit of a body as far from nine as it was from nought; waits for every third
    piece."""

    digits = bytes.maketrans(b"0123456789", b"9876543210")

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0
        self.came: dict[tuple[str, str], bytes] = {}
        self.whole: set[tuple[str, str]] = set()

    def _piece(self, way: str, request: Request, piece: bytes, end: bool) -> Any:
        key = (way, request.path)
        assert key not in self.whole
        assert piece or end
        self.came[key] = self.came.get(key, b"") + piece
        if end:
            self.whole.add(key)
        self.calls += 1
        made = piece.translate(self.digits)
        if self.calls % 3:
            return made
        self.gates.append(Gate())
        return self._wait(self.gates[-1], cast("Any", made))

    def on_request_body(self, request: Request, piece: bytes, end: bool) -> Any:
        return self._piece("in", request, piece, end)

    def on_response_body(
        self, request: Request, response: Response, piece: bytes, end: bool
    ) -> Any:
        return self._piece("out", request, piece, end)


@asynccontextmanager
async def unlimited(*_: object) -> AsyncIterator[None]:
    """Stands for what bounds a connect: it ends as the test says."""
    yield


def _is_quiet(transport: asyncio.Transport) -> bool:
    return not transport.get_extra_info("rest")  # of a wire, or of what stands for one


class World:
    """A real worker, its real connections and layers; everything below them is here."""

    def __init__(
        self,
        text: str = MESH,
        probe: Probe | None = None,
        layers: Mapping[str, Layer] | None = None,
    ) -> None:
        self.now = 1_000_000_000_000
        self.loop = Loop(self)
        self.connecting: list[Gate] = []
        self.clients: list[Wire] = []
        self.endpoints: list[Wire] = []
        self._patches = ExitStack()
        self._patch("meshcore.upstream.connector.patience", unlimited)
        self._patch("meshcore.process.layers.log", mock.Mock())
        self._patch("meshcore.process.body_hooks.log", mock.Mock())
        self._patch("meshcore.upstream.connector.Connector._connect", self._connector())
        self._patch("meshcore.upstream.http1.is_quiet", _is_quiet)
        self._patch("meshcore.upstream.http2.Http2Connection.is_alive", lambda _: True)
        self.engine = Engine(seed=1)
        snapshot = compiled(text)
        self.probe = probe or Probe()
        self._patch("asyncio.get_running_loop", lambda: self.loop)
        self._patch("asyncio.events._get_running_loop", lambda: self.loop)
        given = {"test:Probe": self.probe, **(layers or {})}
        tickets = TicketRing()
        self.worker = Worker(self.engine, given, tickets=tickets, clock=lambda: self.now)
        self.worker.put(prepare(self.engine, change(None, snapshot), tickets))
        self.listener = self.worker.listeners["edge"]
        self.armed: dict[int, int] = {}
        self._arm = self.worker.deadlines.arm
        self.worker.deadlines.arm = self._record_arm

    def _patch(self, name: str, what: object) -> None:
        self._patches.enter_context(mock.patch(name, what))

    def _record_arm(self, slot: int, deadline_ns: int) -> None:
        self.armed[slot] = deadline_ns
        self._arm(slot, deadline_ns)

    def _connector(self) -> Callable[..., Awaitable[None]]:
        world = self

        async def connect(self: Connector, pool: Pool, chooser: Chooser, infos: object) -> None:
            gate = Gate()
            gate.address = pool.address
            world.connecting.append(gate)
            await gate
            wire = Wire(world)
            wire.narrow = gate.narrow
            world.endpoints.append(wire)
            chooser.connection_made(cast("asyncio.Transport", wire))
            if gate.closes:
                wire.end()

        return connect

    # --- what may happen ----------------------------------------------------------------------

    def connect_client(self, kind: Callable[[Listener], Downstream] = Http1Downstream) -> Wire:
        connection = kind(self.listener)
        wire = Wire(self)
        wire.protocol = connection
        self.clients.append(wire)
        connection.connection_made(cast("asyncio.Transport", wire))
        return wire

    def deliver(self, wire: Wire) -> None:
        """The next piece of what a peer has to send, and what follows from it."""
        self.receive(wire)
        self.turn()

    def receive(self, wire: Wire) -> None:
        """The next piece; the loop has not gone on yet."""
        data = wire.rest.popleft()
        if data:
            wire.protocol.data_received(data)
        elif not wire.protocol.eof_received():
            wire.left = True
            wire.close()

    def settle(self, gate: Gate, error: Exception | None) -> None:
        """A connect or a layer ends."""
        gate.open, gate.error = True, error
        self.turn()

    def advance(self, span_ns: int) -> None:
        """Time passes; timers run in their order."""
        end = self.now + span_ns
        while due := [timer for timer in self.loop.timers if timer[0] <= end]:
            first = min(due, key=lambda timer: timer[0])
            self.loop.timers.remove(first)
            self.now = max(self.now, first[0])
            first[1](*first[2])
            self.turn()
        self.now = end

    def metric(self, name: str) -> int:
        """The sum of a metric's samples."""
        lines = self.engine.metrics("")[0].decode().splitlines()
        return sum(int(x.rpartition(" ")[2]) for x in lines if x.startswith(name))

    def turn(self) -> None:
        """Run what is ready."""
        while True:
            if self.loop.soon:
                self.loop.soon.popleft()()
                continue
            known = list(self.loop.tasks)
            for task in known:
                task.step()
            begun = any(task not in known for task in self.loop.tasks)
            self.loop.tasks = [task for task in self.loop.tasks if not task.done]
            self.connecting = [gate for gate in self.connecting if not gate.open]
            self.probe.gates = [gate for gate in self.probe.gates if not gate.open]
            if not (begun or self.loop.soon):
                return

    def close(self) -> None:
        """Let the clock and the rest of the world be as they were."""
        for task in self.loop.tasks:
            task.cancel()
            task.step()
        self._patches.close()
