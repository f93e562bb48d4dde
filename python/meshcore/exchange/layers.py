"""Layers written in Python: what a user subclasses."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from meshcore._core import Answer, Request, Response


class Layer:
    """A policy in Python, put anywhere in a stack by ``- python: module:Class``.

    One object serves all requests of a process: keep per-request state in `Request.state`. Either
    hook may be ``async``; a layer without a hook costs nothing on that side. An exception is
    answered with 500 ``layer_error``.
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
