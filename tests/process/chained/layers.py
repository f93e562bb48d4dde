"""Python layers of both proxies: what a request tells them in ``x-do`` they do, and no response
passes them that is not the request's own."""

from __future__ import annotations

import asyncio
import logging
import os
import random

from meshcore import Answer, Layer, Request, Response
from tests.process.chained import own

AT = os.environ.get("CHAINED_AT", "a")
LONGEST_S = 0.06

log = logging.getLogger("chained.layers")


class MeantError(Exception):
    """A layer fails because it was told to."""


def told(request: Request, side: str, what: str) -> bool:
    """Whether the request says so."""
    return f"{AT}.{side}.{what}" in (request.header("x-do") or "").split()


def look(request: Request, response: Response | None = None) -> None:
    """The request is the one that its path names, and the response is to it."""
    name = request.header("x-id")
    if name != request.path.rpartition("/")[2]:
        log.error("FOREIGN: %s has the fields of %s", request.path, name)
    if response is not None and response.header("x-id") not in (None, name):
        log.error("FOREIGN: %s gets the answer to %s", name, response.header("x-id"))


def answer(request: Request) -> Answer:
    """Of the layer's own."""
    name, what = str(request.header("x-id")), own.LAYER + AT
    fields = [("x-id", name), ("x-source", what)]
    return Answer(203, fields, own.stream(what, name, own.LAYER_BYTES))


class AtOnce(Layer):
    """Plain on both sides."""

    def on_request(self, request: Request) -> Answer | None:
        look(request)
        if told(request, "in", "raise"):
            raise MeantError(request.path)
        return answer(request) if told(request, "in", "answer") else None

    def on_response(self, request: Request, response: Response) -> None:
        look(request, response)
        if told(request, "out", "raise"):
            raise MeantError(request.path)


class Waiting(Layer):
    """Async on both sides, for every request."""

    async def on_request(self, request: Request) -> Answer | None:
        await pause(request, "in")
        look(request)
        if told(request, "in", "raise-late"):
            raise MeantError(request.path)
        return answer(request) if told(request, "in", "answer-late") else None

    async def on_response(self, request: Request, response: Response) -> None:
        await pause(request, "out")
        look(request, response)
        if told(request, "out", "raise-late"):
            raise MeantError(request.path)


class Inward(Layer):
    """Async on the way in."""

    async def on_request(self, request: Request) -> None:
        await asyncio.sleep(0)
        request.set_header("x-inward", AT)
        look(request)


class Outward(Layer):
    """Async on the way out."""

    async def on_response(self, request: Request, response: Response) -> None:
        await asyncio.sleep(0)
        response.set_header("x-outward", AT)
        look(request, response)


async def pause(request: Request, side: str) -> None:
    """For a moment, if told."""
    if told(request, side, "wait"):
        await asyncio.sleep(random.uniform(0, LONGEST_S))
