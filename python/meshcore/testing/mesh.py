"""A mesh without sockets, decided by the core and driven by a test's clock."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Literal

from meshcore._core import Answer, CodecLimits, body_of
from meshcore.config.hints import shown
from meshcore.config.units import named_ns
from meshcore.config.whole import check_whole
from meshcore.errors import CodecError
from meshcore.process import layer_counts
from meshcore.process.layers import (
    given_layers,
    load_layer,
    look_beside,
    refuse_arguments,
)
from meshcore.testing.decision import Decision, RouteMatch
from meshcore.testing.flight import Flight
from meshcore.testing.hooks import HooksAtOnce
from meshcore.testing.messages import CLIENT, asking, peer_of, response_data
from meshcore.testing.parts import Parts, load

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from datetime import timedelta
    from pathlib import Path

    from meshcore.config.model import Config
    from meshcore.config.route import Route
    from meshcore.exchange.layers import Layer
    from meshcore.testing.given import Headers

    Time = str | float | timedelta

# Any will do, if it is the same for every test: windows begin at multiples of their parts.
_BEGINNING_NS: Final = 1_000_000_000_000_000


class Mesh:
    """A configuration under test: what it would do with requests, asked of the proxy's own core.

    ``config`` is a path, a YAML text (of several lines) or a `meshcore.Config`. Nothing is bound,
    connected or opened, certificates and keys included. Python layers are loaded by name as in the
    proxy, or handed in by ``layers``. ``seed`` makes choices by chance, of endpoints for one,
    the same in every run. For one thread.

    Raises `ConfigError`, `LayerError` or `OSError`, as the proxy would.
    """

    def __init__(
        self,
        config: str | Path | Config,
        *,
        layers: Mapping[str, Layer] | None = None,
        env: bool = False,
        seed: int = 0,
    ) -> None:
        loaded, folder = load(config, env=env)
        self._parts = Parts(loaded, check_whole("seed", seed, 0, (1 << 64) - 1))
        self._now = _BEGINNING_NS
        self._hooks = HooksAtOnce(lambda: self._now)
        names = self._parts.engine.python_layers()
        made = _layers(names, layers or {}, folder)
        self._hooks.put_in_force(made)
        known = [(key, layer) for key, layer in zip(names, made, strict=True) if key and layer]
        layer_counts.bind(known, self._parts.engine)
        self._open: list[Flight] = []
        self._depth = 0  # of blocks that hold

    def counted(self, layer: str, name: str) -> int:
        """What a layer in Python has counted under one of its `counts`; ``layer`` is what the
        configuration calls it, without arguments. Raises `ValueError` for one that it has not."""
        count = self._parts.engine.layer_count(layer, name)
        if count is None:
            raise ValueError(f"the configuration has no layer {layer!r}")
        return count

    def route(
        self,
        text: str,
        *,
        headers: Headers = (),
        listener: str | None = None,
        client: str | None = CLIENT,
    ) -> RouteMatch | None:
        """The route that owns a request such as ``GET https://a.example/v1?x=1``, or `None`.

        Asks no layer and charges nothing. Raises `ValueError` for what is no request, and for one
        that the listener refuses before routing.
        """
        asked = asking(text, headers, b"")
        name = self._parts.listener(listener, asked.scheme)
        try:
            made = asked.read(*self._parts.inbound[name])
        except CodecError as error:
            raise ValueError(f"refused before routing: {error}") from None
        peer = peer_of(self._parts.engine, client)
        found = self._parts.engine.listener(name).find(made, peer)
        if found is None:
            return None
        route = self._parts.route(found[0])
        return RouteMatch(route.name, route.upstream, found[1], _path(route))

    def decide(
        self,
        text: str,
        *,
        headers: Headers = (),
        body: bytes = b"",
        listener: str | None = None,
        client: str | None = CLIENT,
        identity: str | Iterable[str] | None = None,
    ) -> Decision:
        """What is done with a request, which is charged for as in the proxy.

        One that is forwarded is in flight until `succeed` or `fail` say what came of it; else it is
        given back, as if its client had left, when the next is asked for or the clock goes on: see
        `holding`. With several listeners, ``listener`` says where it comes in, unless one alone
        has, or has not, the TLS that its URL asks for. ``identity`` has the names of the client's
        certificate as rules write them (``spiffe://…``, ``dns:…``), or one: as if it had been
        verified, whatever clients the listener lets in. Raises `ValueError` for what is no request.
        """
        self._give_back()
        asked = asking(text, headers, body)
        name = self._parts.listener(listener, asked.scheme)
        peer = peer_of(self._parts.engine, client, identity)
        try:
            made = asked.read(*self._parts.inbound[name])
        except CodecError as error:
            return _malformed(Answer.for_codec_error(error))
        stack = self._parts.engine.listener(name)
        flight = Flight(self._hooks, self._parts.limits, stack, made)
        flight.depth = self._depth
        flight.begin(peer, self._now)
        if not flight.over:
            self._open.append(flight)
        return self._decision(flight)

    def succeed(
        self, decision: Decision, status: int = 200, *, headers: Headers = (), body: bytes = b""
    ) -> Decision:
        """The endpoint answered with this status; returns what follows, as `fail` does."""
        data = response_data(status, headers, body)
        return self._apply(decision, lambda flight: flight.respond(data, self._now))

    def fail(
        self, decision: Decision, by: Literal["connect", "reset"] | int = "connect"
    ) -> Decision:
        """The attempt failed: there was no connection (``connect``), it ended before the response
        (``reset``), or the endpoint answered with this status.

        Returns what follows: an answer, or where the next attempt goes; the clock goes on by the
        pause before that. For an endpoint that is silent, `advance` the clock within `holding`.
        """
        if not isinstance(by, str):
            return self.succeed(decision, by)
        if by == "connect":
            return self._apply(decision, lambda flight: flight.refuse(self._now))
        if by == "reset":
            return self._apply(decision, lambda flight: flight.reset(self._now))
        raise ValueError(f"{by!r} is no failure: expected connect, reset or a status")

    def look(self, decision: Decision) -> Decision:
        """What has become of a decision by now, by the clock for one."""
        flight = _flight(decision)
        return decision if flight is None else self._decision(flight)

    def advance(self, time: Time) -> None:
        """Let the clock go on, by seconds, a text such as ``30s`` or a `timedelta`. Deadlines of
        what is held pass on the way."""
        end = self._now + named_ns("time", time)
        self._give_back()
        self._go_on(end)

    @contextmanager
    def holding(self) -> Iterator[None]:
        """Decisions within the block stay in flight until it ends, or `succeed` or `fail` say what
        came of them: for caps, and for services that are slow."""
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1
            self._give_back()

    # ------------------------------------------------------------------------------------------

    def _give_back(self) -> None:
        for flight in self._open:
            if not flight.depth or flight.depth > self._depth:
                flight.let_go(self._now)
        self._open = [flight for flight in self._open if not flight.over]

    def _go_on(self, end: int) -> None:
        while self._open:
            if self._now < end:
                for flight in self._open:
                    flight.connect(self._now)
            flight = min(self._open, key=lambda flight: flight.due_ns)
            if flight.due_ns > end:
                break
            self._now = max(self._now, flight.due_ns)
            flight.wake(self._now)
        self._now = end

    def _apply(self, decision: Decision, step: Callable[[Flight], None]) -> Decision:
        flight = _flight(decision)
        if flight is None or not decision.forwarded:
            raise ValueError(f"nothing was asked of an endpoint: the action is {decision.action}")
        if flight.over:
            raise ValueError(
                "the request is over: say what came of it before the next is asked for and before "
                "the clock goes on, or decide it within `with mesh.holding():`"
            )
        if flight.attempt != decision.attempt:
            raise ValueError("this attempt is over, and another one is under way: `look` gives it")
        step(flight)
        while (at_ns := flight.next_ns) is not None:
            self._go_on(at_ns)
        return self._decision(flight)

    def _decision(self, flight: Flight) -> Decision:
        line: dict[str, Any] = json.loads(flight.line()) if flight.over else {}
        ticket, client = flight.ticket, flight.client
        route = self._parts.route(ticket.route) if ticket.route else None
        detail = line.get("detail", "")
        by = None
        if flight.over and not ticket.attempts:
            by = self._parts.refused_by(ticket, line["listener"], detail)
        wait = next((value for name, value in client.headers if name == "retry-after"), None)
        return Decision(
            action=flight.action(bool(line.get("reason"))),
            route=None if route is None else route.name,
            upstream=None if route is None else route.upstream,
            endpoint=self._parts.endpoints.get(flight.endpoint),
            attempt=flight.attempt,
            pause=flight.pause_ns / 1e9,
            status=client.status,
            reason=None if flight.tunnels else line.get("reason") or None,
            detail=detail,
            decided_by=by,
            rules=tuple(ticket.allowed_by),
            retry_after=float(wait) if wait is not None and wait.isdecimal() else None,
            headers=client.headers,
            body=client.body,
            sent=flight.sent(self._now) if flight.attempt else None,
            error=flight.error,
            _flight=flight,
        )


def _layers(
    keys: list[str | None], given: Mapping[str, Layer], folder: Path | None
) -> list[Layer | None]:
    names = [key for key in keys if key is not None]
    for name in given:
        if name not in names:
            raise ValueError(f"the configuration has no layer {name!r}: there is {names}")
    made = given_layers(given)
    refuse_arguments(names, made)
    if folder is not None and len(made) < len(names):
        look_beside(folder)
    found = {key: made[key] if key in made else load_layer(key, made) for key in names}
    return [None if key is None else found[key] for key in keys]


def _flight(decision: Decision) -> Flight | None:
    if not isinstance(decision, Decision):
        raise TypeError(f"decision: expected what `decide` gave, got {shown(decision)}")
    return decision._flight


def _malformed(answer: Answer) -> Decision:
    """What is answered by a listener, before the core is asked."""
    # What it answers is no gRPC call as far as is known.
    told = answer.as_response(asking("GET http://a.example/", (), b"").read(CodecLimits(), False))
    return Decision(
        action="answer",
        route=None,
        upstream=None,
        endpoint=None,
        attempt=0,
        pause=0.0,
        status=told.status,
        reason=answer.reason,
        detail=answer.detail,
        decided_by=None,
        rules=(),
        retry_after=None,
        headers=tuple(told.headers()),
        body=body_of(told).data,
        sent=None,
        error=None,
        _flight=None,
    )


def _path(route: Route) -> str | None:
    path = route.match.path
    if path is None:
        return None
    kinds = ("exact", "prefix", "regex")
    return next(f"{kind} {value}" for kind in kinds if (value := getattr(path, kind)) is not None)
