"""Layers written in Python: what a user subclasses."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Protocol

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping

    from meshcore._core import Answer, Outcome, Request, Response

    Fields = list[tuple[str, str]]
    Trailers = Fields | Awaitable[Fields | None] | None


# At one time, so that no sum of all workers runs over its 64 bits.
MOST_COUNTED = 2**32


class Counter(Protocol):
    """Where a layer counts."""

    def add(self, name: str, n: int) -> None:
        """Add to one of its counts."""


class Layer:
    """A policy in Python, put anywhere in a stack by ``- python: module:Class``.

    With ``- python: {class: "module:Class", with: {header: x-tenant}}`` it is made with these
    arguments, which are checked against the annotations of its ``__init__`` beforehand. One object
    serves all requests of a process: keep per-request state in `Request.state`. Every hook but
    `on_end` may be ``async``; a layer without a hook costs nothing on that side. An exception is
    answered with 500 ``layer_error``, or cuts the response behind its head.
    """

    counts: ClassVar[Mapping[str, str]] = {}
    """What it counts itself: up to 16 names, such as ``tenant_unknown``, and what each is, in a
    line. ``/metrics`` has ``meshcore_layer_tenant_unknown_total`` of all workers, with a label
    ``layer`` that is what the configuration calls it, without arguments; it stays over reloads as
    long as that does."""
    _meshcore_counter: Counter | None = None

    def count(self, name: str, n: int = 1) -> None:
        """Add to one of `counts`; from any thread. While the layer is in no configuration, as in
        its ``__init__`` and in a test of it alone, nothing is counted. Raises `ValueError` for
        another name, below 0 and above 2**32."""
        if name not in type(self).counts:
            raise ValueError(f"{name!r} is not among the counts of {type(self).__name__}")
        if not 0 <= n <= MOST_COUNTED:
            raise ValueError(f"counts only grow, by {MOST_COUNTED} at most at one time: {n}")
        if self._meshcore_counter is not None:
            self._meshcore_counter.add(name, n)

    local_answers: ClassVar[bool] = True
    """Whether `on_response` also sees answers that are given here: by limits, breakers, routes,
    inner layers, or because something failed."""

    def on_request(self, request: Request) -> Answer | Awaitable[Answer | None] | None:
        """See or change a request on its way in; return an `Answer` to end it here."""
        return None

    def on_response(
        self, request: Request, response: Response
    ) -> Answer | Awaitable[Answer | None] | None:
        """See or change a response on its way out, before its head is sent; return an `Answer` to
        send that instead. `Response.reason` says whether it was made here, and why; an exception
        over such a one is final."""
        return None

    keeps_length: ClassVar[bool] = False
    """Whether what `on_request_body` and `on_response_body` return is as long as what they got, or
    `None`: then a message keeps its ``content-length``. Else it has none."""

    def on_request_body(
        self, request: Request, piece: bytes, end: bool
    ) -> bytes | Answer | Awaitable[bytes | Answer | None] | None:
        """See or change a request's body on its way in, piece by piece and in order, behind every
        `on_request`: what it returns goes on instead of the piece, ``b""`` being nothing and `None`
        the piece itself. ``end``: nothing follows, which is said once, with an empty piece if need
        be. While it is awaited its client is not read. An `Answer` ends the request, as long as the
        client has no response. It may be begun before the endpoint is asked, or behind that; not
        called for a request without a body, and once for each piece, however often it is sent."""
        return None

    def on_response_body(
        self, request: Request, response: Response, piece: bytes, end: bool
    ) -> bytes | Awaitable[bytes | None] | None:
        """See or change a response's body on its way out, as `on_request_body` does, behind every
        `on_response` and the head. Not called for answers that are given here, which are whole, for
        what has no body, and for tunnels."""
        return None

    def on_request_trailers(self, request: Request, trailers: Fields) -> Trailers:
        """See or change the trailers of a request, as `Request.headers` gives fields: what it
        returns is sent instead, `None` being those that came. Called where some came, with the last
        piece; a name that may not be a trailer, or is not a layer's to write, is an error."""
        return None

    def on_response_trailers(
        self, request: Request, response: Response, trailers: Fields
    ) -> Trailers:
        """See or change the trailers of a response, as `on_request_trailers` does: those of a gRPC
        call have its status."""
        return None

    def on_end(self, request: Request, outcome: Outcome) -> None:
        """Be told that a request is over whose `on_request` was begun here, once: with an answer,
        because its client left, because a layer failed, or because a drain was over. ``outcome`` is
        what the access log says of it. Not ``async``; it changes nothing, and what it raises is
        logged. An ``async`` hook that was cancelled with its request may end after it."""
