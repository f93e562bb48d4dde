"""Runs the hooks of Python layers for bodies and trailers, and ends exchanges whose layers fail."""

from __future__ import annotations

import functools
import inspect
import logging
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Final

from meshcore._core import Answer, Reason
from meshcore.exchange.layers import Layer
from meshcore.exchange.phase import ANSWERING

if TYPE_CHECKING:
    import contextvars
    from collections.abc import Awaitable, Callable

    from meshcore._core import Outcome, Request
    from meshcore.exchange.exchange import Exchange
    from meshcore.exchange.flow import Flow, Hook

    Then = Callable[[Exchange, Layer, Any], None]

log = logging.getLogger("meshcore.layers")

# What ends the program, and not a request alone.
ENDS: Final = (KeyboardInterrupt, SystemExit)


def is_awaitable(result: object) -> bool:
    """Whether a hook's result is to be awaited; one whose class cannot be asked is not."""
    try:
        return inspect.isawaitable(result)
    except Exception:
        return False


class BodyHooks(ABC):
    """What layers do with bodies, piece by piece; and how one that fails ends its request."""

    def __init__(self, clock: Callable[[], int]) -> None:
        self._now_ns = clock

    def on_body(self, exchange: Exchange, flow: Flow) -> bool:
        """Have layers change what a flow has in hand; false: one of them is still at it, or the
        exchange went on by itself."""
        passage: Any = exchange.layers
        while (hook := flow.next_hook()) is not None:
            try:
                result = passage.context.run(hook.call, *flow.given(hook))
            except BaseException as error:
                self._failed_at_once(exchange, hook.layer, error, flow)
                return False
            if result is None:
                continue
            if is_awaitable(result):
                then = functools.partial(self._hooked, flow, hook)
                self._spawn(exchange, hook.layer, result, then, flow)
                return False
            if not self._changes(exchange, flow, hook, result):
                return False
        return True

    def _hooked(
        self, flow: Flow, hook: Hook, exchange: Exchange, layer: Layer, result: object
    ) -> None:
        if result is None or self._changes(exchange, flow, hook, result):
            exchange.on_hooked(flow, self._now_ns())

    def _changes(self, exchange: Exchange, flow: Flow, hook: Hook, result: object) -> bool:
        """Take what a hook made; false: it ended the exchange."""
        layer, name = hook.layer, type(hook.layer).__name__
        if type(result) is Answer and hook.answers:
            if exchange.phase < ANSWERING:
                self._leave_out(exchange, layer)
                exchange.answer(result, self._now_ns())
                return False
            log.error("layer %s answered after the response's head", name)
        else:
            try:
                flow.change(hook, result)
            except (TypeError, ValueError) as error:
                log.error("layer %s returned %s", name, error)
            else:
                return True
        self._end(exchange, layer, flow)
        return False

    def _returned(self, exchange: Exchange, layer: Layer, result: object) -> None:
        name = type(layer).__name__
        if type(result) is Answer:
            log.error("layer %s answered CONNECT with %s: no tunnel begins", name, result.status)
        else:
            log.error("layer %s returned %r, not an Answer or None", name, result)
        self._end(exchange, layer, exchange)

    def _failed(
        self, exchange: Exchange, layer: Layer, error: BaseException, holder: Exchange | Flow
    ) -> None:
        log.error("layer %s failed", type(layer).__name__, exc_info=error)
        self._end(exchange, layer, holder)

    def _end(self, exchange: Exchange, layer: Layer, holder: Exchange | Flow) -> None:
        if holder is not exchange:
            self._leave_out(exchange, layer)
        answer = Answer.for_reason(Reason.LAYER_ERROR, type(layer).__name__)
        exchange.end_with(answer, self._now_ns())

    @staticmethod
    def _leave_out(exchange: Exchange, layer: Layer) -> None:
        if exchange.layers is not None:
            exchange.layers.leave_out(layer)

    @abstractmethod
    def _failed_at_once(
        self, exchange: Exchange, layer: Layer, error: BaseException, holder: Exchange | Flow
    ) -> None:
        """A hook raised before there was anything to await."""

    @abstractmethod
    def _spawn(
        self,
        exchange: Exchange,
        layer: Layer,
        hook: Awaitable[Any],
        then: Then,
        holder: Exchange | Flow,
    ) -> None:
        """Await the rest of a hook, and go on with what it returns; ``holder`` has its task."""

    @abstractmethod
    def _emit_end(
        self, context: contextvars.Context, layer: Layer, request: Request, outcome: Outcome
    ) -> None:
        """Run a layer's `on_end` (`call_on_end`)."""


def has_body_hooks(kind: type[Layer]) -> bool:
    """Whether layers of this class see bodies or trailers."""
    return (
        kind.on_request_body is not Layer.on_request_body
        or kind.on_response_body is not Layer.on_response_body
        or kind.on_request_trailers is not Layer.on_request_trailers
        or kind.on_response_trailers is not Layer.on_response_trailers
    )


def begins_tunnel(exchange: Exchange, answer: Answer) -> bool:
    """Whether its client would take it for the beginning of one (RFC 9110 §9.3.6)."""
    return 200 <= answer.status < 300 and exchange.request.method == "CONNECT"
