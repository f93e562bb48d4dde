"""A request of a mesh under test: an exchange as in the proxy, between ports that only remember."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from meshcore._core import Body, ClientCodec, Reason, body_of
from meshcore.errors import CodecError
from meshcore.exchange.exchange import Exchange
from meshcore.exchange.owner import Owner
from meshcore.exchange.phase import OVER, TUNNEL
from meshcore.exchange.ports import Lost
from meshcore.testing.decision import Sent
from meshcore.testing.messages import read_response

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshcore._core import (
        Answer,
        Chunk,
        CodecLimits,
        ListenerStack,
        Peer,
        Request,
        RequestHooks,
        Response,
        Ticket,
    )
    from meshcore.exchange.flow import Flow
    from meshcore.testing.hooks import HooksAtOnce

NEVER: Final = (1 << 63) - 1


class Client:
    """Who asked: takes all, and keeps what it gets."""

    half_closes = True
    choked = False
    whole_to = None

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.owner: Owner | None = None
        self.armed_ns = NEVER
        self.over = False
        self.was_cut = False
        self.status: int | None = None
        self.headers: tuple[tuple[str, str], ...] = ()
        self.body = b""

    def _record(self, head: Response) -> None:
        self.status, self.headers = head.status, tuple(head.headers())

    def reached(self) -> tuple[str | None, int]:
        return None, 0

    def own(self) -> None:
        self.owner = Owner()

    def send_informational(self, response: Response, ticket: Ticket) -> None:
        pass

    def send_response(self, response: Response, ticket: Ticket) -> None:
        self._record(response)
        self.body = body_of(response).data

    def relayed(self, sent: object, now_ns: int) -> None:
        raise NotImplementedError("nothing was to be sent so")

    def send_data(self, data: bytes | Chunk) -> None:
        self.body += bytes(data)

    def send_end(self, body: Body, ticket: Ticket) -> None:
        pass

    def send_answer(self, request: Request, answer: Answer) -> None:
        head = answer.as_response(request)
        self._record(head)
        self.body = body_of(head).data

    def send_ending(self, answer: Answer) -> bool:
        return False

    def begin_tunnel(self, now_ns: int) -> None:
        pass

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def arm(self, deadline_ns: int) -> None:
        self.armed_ns = deadline_ns

    def finished(self, now_ns: int) -> None:
        self.over = True

    def cut(self, now_ns: int) -> None:
        self.over = self.was_cut = True


class Endpoint:
    """The endpoint: a connection's codec, and no socket behind it."""

    half_closes = True
    choked = False

    def __init__(self, limits: CodecLimits) -> None:
        self.exchange: Exchange | None = None
        self.codec = ClientCodec(limits)

    def send_request(self, request: Request, ticket: Ticket, peer: Peer, now_ns: int) -> bool:
        self.codec.forward(request, ticket, peer, None, now_ns)
        return True

    def send_data(self, data: bytes | Chunk) -> None:
        pass

    def send_end(self, body: Body, ticket: Ticket) -> None:
        pass

    def why_silent(self) -> None:
        return None

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def release(self, now_ns: int) -> None:
        pass

    def discard(self) -> None:
        pass


class Flight:
    """A request on its way, and the exchange's driver and pools."""

    observer = None

    def __init__(
        self,
        hooks: HooksAtOnce,
        limits: dict[int, CodecLimits],
        stack: ListenerStack,
        request: Request,
    ) -> None:
        self._hooks = hooks
        self._limits = limits  # of responses, by endpoint
        self._stack = stack
        self.request = request
        self.depth = 0
        """In how many blocks it is held."""
        self.tunnels = False
        """The endpoint agreed to a tunnel; what it carries is no matter of ours."""
        self.pause_ns = 0
        self.endpoint = -1
        self.error: BaseException | None = None
        self._waits = False  # for a connection, which is made when something has come of it
        self._timer: tuple[int, int] | None = None
        self._body = b""  # of what is sent

    def begin(self, peer: Peer, now_ns: int) -> None:
        """As a connection does with a request that it has read."""
        self.client = Client(peer)
        self.exchange = Exchange(self, self.client, self._stack, self.request)
        self._hooks.error = None
        self.exchange.begin(now_ns)
        self.error = self._hooks.error

    @property
    def ticket(self) -> Ticket:
        """What the request holds."""
        return self.exchange.ticket

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self.client.over

    @property
    def attempt(self) -> int:
        """Which attempt is under way, or was the last."""
        return self.ticket.attempts

    def action(self, has_reason: bool) -> Literal["forward", "answer", "relay", "cut"]:
        """What is, or was, done with it; ``has_reason``: the core says why it ended."""
        if self.tunnels:
            return "relay"
        if not self.over:
            return "forward"
        if self.client.was_cut or self.client.status is None:
            return "cut"
        return "answer" if has_reason else "relay"

    def line(self) -> str:
        """What the access log would say, in JSON."""
        return self.ticket.access_line(self.request, self.client.peer, True)

    def sent(self, now_ns: int) -> Sent | None:
        """What the endpoint gets; `None` if it cannot be said to it."""
        try:
            data = ClientCodec().send_request(self.request, self.ticket, self.client.peer, now_ns)
        except CodecError:
            return None
        head = data.partition(b"\r\n\r\n")[0].decode("utf-8", "surrogateescape")
        line, *fields = head.split("\r\n")
        method, target, _ = line.split(" ")
        pairs = (field.partition(":") for field in fields)
        told = tuple((name.lower(), x.strip()) for name, _, x in pairs)
        if not self.over:  # else it is not kept any more
            self._body = body_of(self.request).data + self.exchange.kept_body()
        return Sent(method, target, told, self._body)

    # --- what becomes of it -------------------------------------------------------------------

    def connect(self, now_ns: int) -> None:
        """The endpoint took the connection, and has the request."""
        if self._waits:
            self._waits = False
            self.exchange.on_connected(Endpoint(self._limits[self.endpoint]), now_ns)

    def refuse(self, now_ns: int) -> None:
        """It did not. Raises `ValueError` if it has."""
        if not self._waits:
            raise ValueError("the connection is made by now: say by='reset'")
        self._waits = False
        self._watched(lambda: self.exchange.on_failed(Reason.UPSTREAM_CONNECT, "refused", now_ns))

    def reset(self, now_ns: int) -> None:
        """The connection ended before the response."""
        self.connect(now_ns)
        if not self.over:
            self._watched(lambda: self.exchange.on_cut("reset", now_ns, Lost(began=False)))

    def respond(self, data: bytes, now_ns: int) -> None:
        """The endpoint says this, which is a whole response."""
        self.connect(now_ns)
        up = self.exchange.up
        if isinstance(up, Endpoint):
            response = read_response(up.codec, data)
            self._watched(lambda: self.exchange.on_response(response, now_ns))

    @property
    def next_ns(self) -> int | None:
        """When the next attempt begins, if there is a pause before it."""
        return None if self.over or self._timer is None else self._timer[0]

    @property
    def due_ns(self) -> int:
        """When time does something to it."""
        return NEVER if self.over else min(self.client.armed_ns, self.next_ns or NEVER)

    def wake(self, now_ns: int) -> None:
        """That moment has come."""
        if self._timer is not None and self._timer[0] <= now_ns:
            attempt, self._timer = self._timer[1], None
            self.exchange.on_backoff(attempt, now_ns)
        else:
            self.client.armed_ns = NEVER
            self._watched(lambda: self.exchange.on_deadline(now_ns))

    def let_go(self, now_ns: int) -> None:
        """Its end is not given: as if its client had left."""
        if self.exchange.phase != OVER:
            self.exchange.on_downstream_lost(now_ns)
        self.client.over = True

    def _watched(self, step: Callable[[], None]) -> None:
        self._hooks.error, self.pause_ns = None, 0
        step()
        self.error = self._hooks.error or self.error
        if not self.over and self.exchange.phase == TUNNEL:
            self.tunnels = True
            self.client.over = True

    # --- the exchange's driver and pools ------------------------------------------------------

    @property
    def pools(self) -> Flight:
        return self

    def acquire(self, endpoint: int, exchange: Exchange, now_ns: int, fresh: bool) -> None:
        self.endpoint, self._waits = endpoint, True

    def cancel(self, endpoint: int, exchange: Exchange) -> Reason | None:
        self._waits = False
        self._timer = None
        return None

    def left(self, owner: Owner) -> None:
        pass

    def later(self, delay_ns: int, exchange: Exchange, attempt: int) -> None:
        self.pause_ns = delay_ns
        self._timer = (self.ticket.again_ns, attempt)

    @property
    def request_hooks(self) -> RequestHooks:
        return self._hooks.request_hooks

    def go_on_from(self, exchange: Exchange, ran: object) -> None:
        self._hooks.go_on_from(exchange, ran)

    def run_layer(self, exchange: Exchange, layer: int) -> None:
        self._hooks.on_request(exchange, layer)

    def run_response_layers(self, exchange: Exchange) -> bool:
        return self._hooks.on_response(exchange)

    def run_body_hooks(self, exchange: Exchange, flow: Flow) -> bool:
        return self._hooks.on_body(exchange, flow)

    def emit_layer_ends(self, exchange: Exchange) -> None:
        self._hooks.on_end(exchange)
