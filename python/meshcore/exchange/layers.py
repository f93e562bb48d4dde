"""Layers written in Python: what a user subclasses."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from meshcore._core import Answer, Request, Response


class Layer:
    """A policy in Python, put anywhere in a stack by ``- python: module:Class``.

    One object serves all requests of a process: keep per-request state elsewhere. Either hook may
    be ``async``; a layer without a hook costs nothing on that side. An exception is answered with
    500 ``layer_error``.
    """

    def on_request(self, request: Request) -> Answer | Awaitable[Answer | None] | None:
        """See or change a request on its way in; return an `Answer` to end it here."""
        return None

    def on_response(self, request: Request, response: Response) -> Awaitable[None] | None:
        """See or change a response on its way out, before its head is sent."""
        return None
