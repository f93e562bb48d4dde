"""A request's body as a client sends it: piece by piece, perhaps not to its end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from tests.process.chained.arrival import pieces_of
from tests.process.chained.plan import Plan


async def pieces(plan: Plan) -> AsyncIterator[bytes]:
    """With the plan's pauses; a client that leaves while it sends has only a part to send."""
    body = plan.body()
    if plan.leaves == "sending":
        body = body[: int(len(body) * plan.leaves_at)]
    for number, piece in enumerate(pieces_of(body, plan.sends.pieces)):
        if number and plan.sends.pause_s:
            await asyncio.sleep(plan.sends.pause_s)
        yield piece


def tunnel_head(plan: Plan) -> list[tuple[str, str]]:
    """The head of a request for a tunnel over HTTP/2 (RFC 8441 §4)."""
    return [
        (":method", "CONNECT"),
        (":protocol", "websocket"),
        (":scheme", "http"),
        (":path", plan.path),
        (":authority", "a.test"),
        ("sec-websocket-version", "13"),
        *plan.fields(),
    ]
