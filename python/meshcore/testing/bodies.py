"""Bodies of a test's own, put through the hooks of a layer."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, NamedTuple

from meshcore._core import Answer, Body, body_of, has_body

if TYPE_CHECKING:
    import contextvars
    from collections.abc import Awaitable, Generator, Iterator

    from meshcore._core import Request, Response
    from meshcore.exchange.flow import Flow

Fields = tuple[tuple[str, str], ...]


class Through(NamedTuple):
    """A body, and what comes behind it."""

    body: bytes
    trailers: Fields
    answer: Answer | None = None
    """What was answered within it."""


def as_it_came(message: Request | Response | None) -> Through:
    """That of a message no layer has seen."""
    if message is None:
        return Through(b"", ())
    body = body_of(message)
    return Through(body.data, tuple(body.trailers))


def through(
    flow: Flow | None,
    message: Request | Response,
    context: contextvars.Context,
    piece_bytes: int | None,
) -> Generator[Awaitable[Any], Any, Through]:
    """What a layer makes of a message's body, in pieces of this many bytes. Gives what is to be
    awaited, and takes what that returned."""
    came = body_of(message)
    if flow is None or not has_body(message):
        return as_it_came(message)
    made, trailers = b"", came.trailers
    for piece, end in _pieces(came.data, piece_bytes):
        shown = trailers if end and trailers and flow.shows_trailers else None
        flow.put(piece, Body.ending(trailers) if end else None, shown)
        flow.take()
        while (hook := flow.next_hook()) is not None:
            result = context.run(hook.call, *flow.given(hook))
            if inspect.isawaitable(result):
                result = yield result
            if isinstance(result, Answer) and hook.answers:
                return Through(made, (), result)
            if result is not None:
                _change(flow, hook, result)
        made += flow.data
    return Through(made, tuple(flow.end.trailers if flow.end is not None else ()))


def _change(flow: Flow, hook: Any, result: object) -> None:
    try:
        flow.change(hook, result)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{type(hook.layer).__name__} returned {error}") from error


def _pieces(data: bytes, size: int | None) -> Iterator[tuple[bytes, bool]]:
    step = size or max(len(data), 1)
    for at in range(0, max(len(data), 1), step):
        yield data[at : at + step], at + step >= len(data)
