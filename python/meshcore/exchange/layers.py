"""Layers written in Python: what a user subclasses."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from meshcore._core import Answer, Outcome, Request, Response


class Layer:
    """A policy in Python, put anywhere in a stack by ``- python: module:Class``.

    With ``- python: {class: "module:Class", with: {header: x-tenant}}`` it is made with these
    arguments, which are checked against the annotations of its ``__init__`` beforehand. One object
    serves all requests of a process: keep per-request state in `Request.state`. `on_request` and
    `on_response` may be ``async``; a layer without a hook costs nothing on that side. An exception
    of either is answered with 500 ``layer_error``.
    """

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

    def on_end(self, request: Request, outcome: Outcome) -> None:
        """Be told that a request is over whose `on_request` was begun here, once: with an answer,
        because its client left, because a layer failed, or because a drain was over. ``outcome`` is
        what the access log says of it. Not ``async``; it changes nothing, and what it raises is
        logged. An ``async`` hook that was cancelled with its request may end after it."""
