"""Hooks of layers, run to their end before anything else happens."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from meshcore._core import Answer, Response
from meshcore.config.units import MAX_SIZE
from meshcore.config.whole import check_whole
from meshcore.exchange.flow import Flow
from meshcore.process.body_hooks import ENDS
from meshcore.process.layers import Hooks, awaited, call_on_end
from meshcore.testing.bodies import as_it_came, through
from meshcore.testing.messages import response as endpoints_response

if TYPE_CHECKING:
    from collections.abc import Awaitable, Generator

    from meshcore._core import Outcome, Request
    from meshcore.exchange.exchange import Exchange
    from meshcore.exchange.layers import Layer
    from meshcore.process.body_hooks import Then
    from meshcore.testing.bodies import Through

    Hook = Answer | Awaitable[Answer | None] | None

Field = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Changes:
    """What a layer did to the fields of a head."""

    added: tuple[Field, ...] = ()
    """Those that are new, in order."""
    removed: tuple[Field, ...] = ()
    """Those that are gone, in order."""

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self.added or self.removed)


@dataclass(frozen=True, slots=True)
class Ran:
    """What came of a layer's hooks."""

    request: Request
    """As the layer left it."""
    response: Response | None
    """What it saw, as it left that; `None` if it saw none."""
    answer: Answer | None
    """What it answered instead of either."""
    request_changes: Changes
    response_changes: Changes
    status: int | None
    """Of what the client gets: the answer, or the response; `None` if there is neither."""
    headers: tuple[Field, ...]
    """Its fields, without those of framing."""
    body: bytes
    trailers: tuple[Field, ...]
    request_body: bytes
    """What goes on of the request's body."""
    request_trailers: tuple[Field, ...]

    @property
    def passed(self) -> bool:
        """Whether it answered nothing itself."""
        return self.answer is None

    def header(self, name: str) -> str | None:
        """The first value of a field of what the client gets."""
        return next((value for key, value in self.headers if key == name.lower()), None)


def run(
    layer: Layer,
    request: Request,
    response: Response | Answer | int | None = None,
    *,
    piece_bytes: int | None = None,
) -> Ran:
    """Run a layer's `on_request`, and if that passes, its `on_response`; those for bodies and
    trailers too, if a message has such, a whole body at once or in pieces of ``piece_bytes``.

    ``response`` is what comes back: an endpoint's (`meshcore.testing.response`, or its status
    alone), or an `Answer` that is given in the proxy; without one only `on_request` runs. What a
    hook raises is raised. Async hooks run to their end; those that wait for something cannot where
    an event loop runs already: there it is `await run_async(…)`.
    """
    context = contextvars.copy_context()
    hooks = _hooks(_given(layer, request, response, piece_bytes), context)
    try:
        hook = next(hooks)
        while True:
            hook = hooks.send(finished(hook, context, "await run_async(…)"))
    except StopIteration as ended:
        return _ran(ended)


async def run_async(
    layer: Layer,
    request: Request,
    response: Response | Answer | int | None = None,
    *,
    piece_bytes: int | None = None,
) -> Ran:
    """`run` within an event loop."""
    context = contextvars.copy_context()
    hooks = _hooks(_given(layer, request, response, piece_bytes), context)
    loop = asyncio.get_running_loop()
    try:
        hook = next(hooks)
        while True:
            hook = hooks.send(await loop.create_task(awaited(hook), context=context))
    except StopIteration as ended:
        return _ran(ended)


def _ran(ended: StopIteration) -> Ran:
    ran: Ran = ended.value
    return ran


class Given(NamedTuple):
    """What is run, and over what."""

    layer: Layer
    request: Request
    response: Response | Answer | int | None
    piece_bytes: int | None


def _given(
    layer: Layer,
    request: Request,
    response: Response | Answer | int | None,
    piece_bytes: int | None,
) -> Given:
    if piece_bytes is not None:
        check_whole("piece_bytes", piece_bytes, 1, MAX_SIZE)
    return Given(layer, request, response, piece_bytes)


def _hooks(given: Given, context: contextvars.Context) -> Generator[Awaitable[Any], Any, Ran]:
    """Gives what is to be awaited, and takes what that returned. All hooks run in one context, as
    in the proxy."""
    layer, request, response, size = given
    before = request.headers()
    answer = yield from _answer(layer, context.run(layer.on_request, request))
    changed = changes(before, request.headers())
    asked = as_it_came(request)
    if answer is None:
        flow = Flow.of_the_request((layer,), request)
        asked = yield from through(flow, request, context, size)
        answer = asked.answer
    if answer is not None or response is None:
        return _came(request, None, answer, (changed, Changes()), (asked, as_it_came(None)))
    seen = _seen(request, response)
    before = seen.headers()
    if layer.local_answers or not isinstance(response, Answer):
        answer = yield from _answer(layer, context.run(layer.on_response, request, seen))
    # To HEAD nothing is sent but the head (RFC 9110 §9.3.2).
    has_no_body = request.method == "HEAD"
    told = as_it_came(None if has_no_body else seen)
    if answer is None and not has_no_body and not isinstance(response, Answer):
        flow = Flow.of_the_response((layer,), request, seen)
        told = yield from through(flow, seen, context, size)
    return _came(request, seen, answer, (changed, changes(before, seen.headers())), (asked, told))


def _seen(request: Request, response: Response | Answer | int) -> Response:
    if isinstance(response, Answer):
        return response.as_response(request)
    return response if isinstance(response, Response) else endpoints_response(response)


def _answer(layer: Layer, hook: Hook) -> Generator[Awaitable[Any], Any, Answer | None]:
    answer = (yield hook) if inspect.isawaitable(hook) else hook
    if answer is None or isinstance(answer, Answer):
        return answer
    raise TypeError(f"{type(layer).__name__} returned {answer!r}, not an Answer or None")


def _came(
    request: Request,
    response: Response | None,
    answer: Answer | None,
    changed: tuple[Changes, Changes],
    bodies: tuple[Through, Through],
) -> Ran:
    told, (asked, got) = response, bodies
    if answer is not None:
        told = answer.as_response(request)
        got = as_it_came(told)
    return Ran(
        request,
        response,
        answer,
        *changed,
        status=None if told is None else told.status,
        headers=() if told is None else tuple(told.headers()),
        body=got.body,
        trailers=got.trailers,
        request_body=asked.body,
        request_trailers=asked.trailers,
    )


def changes(before: list[Field], after: list[Field]) -> Changes:
    """From some fields to others."""
    return Changes(tuple(_without(after, before)), tuple(_without(before, after)))


def _without(fields: list[Field], others: list[Field]) -> list[Field]:
    left, found = list(others), []
    for field in fields:
        if field in left:
            left.remove(field)
        else:
            found.append(field)
    return found


def finished(hook: Awaitable[Any], context: contextvars.Context, otherwise: str) -> Any:
    """What a hook returns, or raises, once it is over. Raises `RuntimeError` for one that waits
    where a loop runs: that would have to go on meanwhile. ``otherwise`` says what to do."""
    coroutine = awaited(hook)
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        with asyncio.Runner() as runner:
            return runner.run(coroutine, context=context)
    try:
        context.run(coroutine.send, None)
    except StopIteration as ended:
        return ended.value
    coroutine.close()
    raise WaitsError(f"a hook waits, and an event loop runs here already: {otherwise}")


class WaitsError(RuntimeError):
    """A test's own fault: no layer is to blame."""


class HooksAtOnce(Hooks):
    """The layers of a mesh under test: what they wait for is over before anything else happens."""

    error: BaseException | None = None
    """What a hook raised last."""

    def _failed(
        self, exchange: Exchange, layer: Layer, error: BaseException, holder: Exchange | Flow
    ) -> None:
        self.error = error
        super()._failed(exchange, layer, error, holder)

    def _failed_at_once(
        self, exchange: Exchange, layer: Layer, error: BaseException, holder: Exchange | Flow
    ) -> None:
        if isinstance(error, ENDS):
            raise error
        self._failed(exchange, layer, error, holder)

    def _spawn(
        self,
        exchange: Exchange,
        layer: Layer,
        hook: Awaitable[Any],
        then: Then,
        holder: Exchange | Flow,
    ) -> None:
        passage: Any = exchange.layers
        elsewhere = "await asyncio.to_thread(mesh.decide, …)"
        try:
            result = finished(hook, passage.context, elsewhere)
        except WaitsError:
            raise
        except (Exception, asyncio.CancelledError) as error:
            self._failed(exchange, layer, error, holder)
        else:
            then(exchange, layer, result)

    def _emit_end(
        self, context: contextvars.Context, layer: Layer, request: Request, outcome: Outcome
    ) -> None:
        context.run(call_on_end, layer, request, outcome)
