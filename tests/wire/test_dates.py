"""RFC 9110 §6.6.1: every final response has a date, whoever made it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any

import pytest

from meshcore import Answer, Layer, Request
from tests.wire.blame import PROTOCOLS, every_way
from tests.wire.client import Client
from tests.wire.conftest import Run, Serve
from tests.wire.either import Message, asking, request, response
from tests.wire.h2_mesh import Mesh
from tests.wire.test_fields import through

THEN = "Sun, 06 Nov 1994 08:49:37 GMT"


def is_now(text: str) -> bool:
    """Whether a date, in the one form that is written, is now."""
    found = parsedate_to_datetime(text)
    assert found.strftime("%a, %d %b %Y %H:%M:%S GMT").lower() == text.lower()
    return abs(datetime.now(UTC) - found) < timedelta(seconds=60)


@every_way
def test_a_forwarded_response_gets_one(run: Run, engine: str, client: str, endpoint: str) -> None:
    """Unless it has one; an interim one gets none."""
    hints = [{":status": "103", "link": "</a>"}]

    def answering(fields: dict[str, str], asked: Message) -> Message:
        return response(b"hi", *fields.items(), interim=hints)

    async def go() -> None:
        for given in ({}, {"date": THEN}):
            async with through(client, endpoint, engine, partial(answering, given)) as (ask, _):
                found = await ask(request())
                (interim,) = found.interim
                assert "date" not in interim
                if given:
                    assert found.fields["date"].lower() == THEN.lower()
                else:
                    assert is_now(found.fields["date"])

    run(go())


@pytest.mark.parametrize("client", PROTOCOLS)
@pytest.mark.parametrize(
    "route",
    [
        {"respond": {"status": 204}},
        {"redirect": {"path": "/a"}},
        {"match": {"path": {"exact": "/other"}}, "respond": {"body": "hi"}},
    ],
    ids=["respond", "redirect", "no_route"],
)
def test_our_own_answers_have_one(
    run: Run, serve: Serve, engine: str, client: str, route: dict[str, Any]
) -> None:
    mesh = Mesh(engine, 1)
    mesh.route = {"name": "all", **route}

    async def go() -> None:
        async with serve(str(mesh)) as proxy, asking(client, proxy.addresses["edge"]) as ask:
            assert is_now((await ask(request())).fields["date"])

    run(go())


class Says(Layer):
    def on_request(self, request: Request) -> Answer:
        return Answer(200, [("Date", THEN)] if request.path == "/then" else [], b"")


@pytest.mark.parametrize("client", PROTOCOLS)
def test_a_layers_answer_keeps_its_own(run: Run, engine: str, client: str) -> None:
    async def go() -> None:
        async with through(client, client, engine, layer=Says()) as (ask, _):
            assert (await ask(request("GET", "/then"))).fields["date"].lower() == THEN.lower()
            assert is_now((await ask(request())).fields["date"])

    run(go())


def test_what_is_no_request_is_answered_with_one(run: Run, serve: Serve) -> None:
    async def go() -> None:
        async with (
            serve(str(Mesh("native", 1))) as proxy,
            Client(proxy.addresses["edge"]) as one,
        ):
            await one.send(b"GET / HTTP/1.1\r\n\r\n")
            reply = await one.reply()
            assert reply.status == 400
            assert is_now(reply.fields["date"])

    run(go())
