"""Which fields pass, from heads, 1xx and trailers, both ways, over either protocol.

What a peer says is cleaned once; what a layer or a route says later is not taken for the peer's.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from meshcore import Answer, Layer, Proxy, Request, Response
from meshcore.config.load import load_text
from tests.wire.blame import every_way
from tests.wire.conftest import Run
from tests.wire.either import Ask, Message, Service, asking, request, response, service
from tests.wire.h2_mesh import Mesh

OURS = {
    "x-tenant": "acme",
    "x-forwarded-user": "ann",
    "forwarded": "for=_layer",
    "x-mesh-identity": "spiffe://a/b",
}


class Labels(Layer):
    """Says who asks, and notes what it was shown."""

    def __init__(self) -> None:
        self.shown: dict[str, str] = {}
        self.shown_of_response: dict[str, str] = {}

    def on_request(self, request: Request) -> None:
        self.shown = dict(request.headers())
        for name, value in OURS.items():
            request.set_header(name, value)

    def on_response(self, request: Request, response: Response) -> None:
        self.shown_of_response = dict(response.headers())
        response.set_header("x-tenant", "acme")


class Answers(Layer):
    """Frames its answer itself, as copies of other answers do."""

    def on_request(self, request: Request) -> Answer:
        fields = [
            ("Content-Length", "500"),
            ("transfer-encoding", "chunked"),
            ("connection", "close, x-kept"),
            ("keep-alive", "1"),
            ("upgrade", "a"),
            ("x-kept", "1"),
        ]
        return Answer(200, fields, b"body")


@asynccontextmanager
async def through(
    client: str,
    endpoint: str,
    engine: str,
    answer: Callable[[Message], Message] | None = None,
    layer: Layer | None = None,
    mesh: Callable[[Mesh], Mesh] = lambda mesh: mesh,
) -> AsyncIterator[tuple[Ask, Service]]:
    """A client of a proxy with one layer, and an endpoint that records what it is asked."""
    async with service(endpoint, answer or (lambda _: response(b"hi"))) as origin:
        text = mesh(Mesh(engine, origin.port).to(endpoint))
        layers: dict[str, Any] = {}
        if layer is not None:
            text.via(layers=[{"python": "a:Layer"}, *text.route.get("layers", [])])
            layers = {"a:Layer": layer}
        async with (
            Proxy(load_text(str(text)), layers=layers) as proxy,
            asking(client, proxy.addresses["edge"]) as ask,
        ):
            yield ask, origin


# --- received fields, and ours -------------------------------------------------------------------


@every_way
def test_no_word_of_a_client_takes_away_what_a_layer_says(
    run: Run, engine: str, client: str, endpoint: str
) -> None:
    """RFC 9110 §7.6.1 speaks of what was received: else anybody would shed an identity."""
    listed = {"connection": f"{', '.join(OURS)}, x-mine", "x-mine": "1"} if client != "h2" else {}

    async def go() -> None:
        layer = Labels()
        async with through(client, endpoint, engine, layer=layer) as (ask, origin):
            await ask(request("GET", "/", *listed.items(), ("x-tenant", "evil")))
            (asked,) = origin.asked
            assert OURS.items() <= asked.fields.items()
            assert "x-mine" not in asked.fields
            assert "x-mine" not in layer.shown

    run(go())


@every_way
@pytest.mark.parametrize("trusted", [0, 1])
def test_a_layer_is_shown_nothing_that_only_proxies_may_say(
    run: Run, engine: str, client: str, endpoint: str, trusted: int
) -> None:
    vouched = {
        "x-forwarded-for": "6.6.6.6",
        "x-forwarded-proto": "https",
        "x-forwarded-host": "evil.test",
        "x-forwarded-user": "root",
        "forwarded": "for=6.6.6.6",
        "x-mesh-identity": "root",
    }
    twins = {"x_forwarded_for": "6.6.6.6", "x-mesh_identity": "root", "x_request_id": "7"}

    async def go() -> None:
        layer = Labels()
        async with through(
            client,
            endpoint,
            engine,
            layer=layer,
            mesh=lambda mesh: mesh.listen(client_address={"trusted_hops": trusted}),
        ) as (ask, origin):
            await ask(request("GET", "/", *vouched.items(), *twins.items()))
            assert vouched.keys() & layer.shown.keys() == (vouched.keys() if trusted else set())
            assert not twins.keys() & (layer.shown.keys() | origin.asked[0].fields.keys())
            assert OURS.items() <= origin.asked[0].fields.items()

    run(go())


@every_way
@pytest.mark.parametrize("sent", ["a.test", "A.Test:8080", "a.test."])
def test_a_layer_reads_one_host_however_it_is_said(
    run: Run, engine: str, client: str, endpoint: str, sent: str
) -> None:
    async def go() -> None:
        asked = request()
        asked.fields[":authority"] = sent
        read: list[tuple[str | None, list[str]]] = []

        class Reads(Layer):
            def on_request(self, request: Request) -> None:
                hosts = [value for name, value in request.headers() if name == "host"]
                read.append((request.header("Host"), hosts))

        async with through(client, endpoint, engine, layer=Reads()) as (ask, _):
            await ask(asked)
        assert read == [(sent.lower(), [sent.lower()])]

    run(go())


@every_way
def test_what_an_endpoint_lists_takes_away_no_field_of_ours(
    run: Run, engine: str, client: str, endpoint: str
) -> None:
    listed = {"connection": "x-tenant, x-theirs", "x-theirs": "1"} if endpoint != "h2" else {}

    async def go() -> None:
        layer = Labels()
        answer = response(b"hi", *listed.items())
        async with through(client, endpoint, engine, lambda _: answer, layer) as (ask, _):
            got = await ask(request())
            assert got.fields["x-tenant"] == "acme"
            assert "x-theirs" not in got.fields.keys() | layer.shown_of_response.keys()

    run(go())


def test_a_layer_cannot_frame_a_message(run: Run, engine: str) -> None:
    raised: list[str] = []

    class Frames(Layer):
        def on_request(self, request: Request) -> None:
            for name in ("Connection", "te", "Transfer-Encoding", "host", "upgrade", "keep-alive"):
                try:
                    request.set_header(name, "x")
                except ValueError as error:
                    raised.append(str(error))

    async def go() -> None:
        async with through("http1", "http1", engine, layer=Frames()) as (ask, _):
            await ask(request())
        assert len(raised) == 6

    run(go())


@pytest.mark.parametrize("client", ["http1", "h2"])
def test_an_answer_of_a_layer_is_framed_by_us(run: Run, engine: str, client: str) -> None:
    async def go() -> None:
        async with through(client, "http1", engine, layer=Answers()) as (ask, origin):
            for _ in range(2):
                got = await ask(request())
                assert (got.body, got.fields["content-length"]) == (b"body", "4")
                assert got.fields["x-kept"] == "1"
                assert not {"transfer-encoding", "connection", "keep-alive", "upgrade"} & (
                    got.fields.keys()
                )
            assert origin.asked == []

    run(go())


# --- what a route takes out ----------------------------------------------------------------------

SPELLINGS = ["x-user", "x_user"]
REMOVED = {name: "1" for name in SPELLINGS}
KEPT = {"x-users": "1", "a_b": "1"}


@every_way
def test_what_a_route_takes_out_of_requests_is_out_in_any_spelling_and_place(
    run: Run, engine: str, client: str, endpoint: str
) -> None:
    async def go() -> None:
        async with through(
            client,
            endpoint,
            engine,
            mesh=lambda mesh: mesh.via(
                request_headers={"remove": ["X-User"], "set": {"x-mark": "ours"}}
            ),
        ) as (ask, origin):
            sent = REMOVED | KEPT | {"x_mark": "theirs"}
            for body in (b"", b"x" * 100_000):
                await ask(request("POST", "/", *sent.items(), body=body, trailers=sent))
            for asked in origin.asked:
                assert not (REMOVED.keys() | {"x_mark"}) & asked.fields.keys()
                assert KEPT.items() <= asked.fields.items()
                assert asked.fields["x-mark"] == "ours"
                assert asked.trailers == KEPT

    run(go())


@every_way
def test_what_a_route_takes_out_of_responses_is_out_in_any_spelling_and_place(
    run: Run, engine: str, client: str, endpoint: str
) -> None:
    async def go() -> None:
        sent = REMOVED | KEPT
        for body in (b"", b"x" * 100_000):
            interim = [{":status": "103"} | sent]
            answer = response(body, *sent.items(), trailers=sent, interim=interim)
            async with through(
                client,
                endpoint,
                engine,
                lambda _, answer=answer: answer,  # type: ignore[misc]
                mesh=lambda mesh: mesh.via(response_headers={"remove": ["X-User"]}),
            ) as (ask, _):
                got = await ask(request())
                assert got.interim
                for fields in (got.fields, got.trailers, *got.interim):
                    assert not REMOVED.keys() & fields.keys()
                    assert KEPT.items() <= fields.items()

    run(go())


@every_way
def test_a_rule_that_names_a_spelling_means_that_one(
    run: Run, engine: str, client: str, endpoint: str
) -> None:
    async def go() -> None:
        async with through(
            client,
            endpoint,
            engine,
            mesh=lambda mesh: mesh.via(request_headers={"remove": ["x_user"]}),
        ) as (ask, origin):
            await ask(request("GET", "/", *REMOVED.items()))
            assert set(SPELLINGS) & origin.asked[0].fields.keys() == {"x-user"}

    run(go())


@every_way
@pytest.mark.parametrize("by", ["match", "limit of the route", "limit of the listener"])
def test_other_spellings_of_what_we_look_at_do_not_pass(
    run: Run, engine: str, client: str, endpoint: str, by: str
) -> None:
    """An application behind CGI or WSGI reads both as one."""
    limit = [{"limit": {"rate": "100/s", "key": {"header": "x-canary"}}}]
    changes: dict[str, Callable[[Mesh], Mesh]] = {
        "match": lambda mesh: mesh.via(match={"headers": {"x-canary": "1"}}),
        "limit of the route": lambda mesh: mesh.via(layers=limit),
        "limit of the listener": lambda mesh: mesh.listen(layers=limit),
    }

    async def go() -> None:
        async with through(client, endpoint, engine, mesh=changes[by]) as (ask, origin):
            sent = {"x-canary": "1", "x_canary": "2", "grpc_like": "3"}
            assert (await ask(request("GET", "/", *sent.items()))).status == 200
            assert "x_canary" not in origin.asked[0].fields
            assert origin.asked[0].fields.items() >= {"x-canary": "1", "grpc_like": "3"}.items()

    run(go())


@every_way
@pytest.mark.parametrize("mesh", ["off", "on"])
def test_an_endpoint_says_what_meshcore_says_only_if_it_is_one(
    run: Run, engine: str, client: str, endpoint: str, mesh: str
) -> None:
    said = {"x-mesh-reason": "breaker_open", "x_mesh_reason": "breaker_open"}

    async def go() -> None:
        interim = [{":status": "103", "x-early": "1"} | said]
        answer = response(b"hi", *said.items(), interim=interim)
        async with through(
            client,
            endpoint,
            engine,
            lambda _: answer,
            mesh=lambda text: text.to(endpoint, mesh=mesh),
        ) as (ask, _):
            got = await ask(request())
            for fields in (got.fields, *got.interim):
                assert said.keys() & fields.keys() == (said.keys() if mesh == "on" else set())

    run(go())


def test_a_route_may_match_by_the_upgrade_that_is_asked_for(run: Run, engine: str) -> None:
    async def go() -> None:
        async with through(
            "http1",
            "http1",
            engine,
            mesh=lambda mesh: mesh.via(match={"headers": {"upgrade": "chat"}}),
        ) as (ask, origin):
            fields = (("connection", "upgrade"), ("upgrade", "chat"))
            assert (await ask(request("GET", "/", *fields))).status == 200
            assert not {"connection", "upgrade"} & origin.asked[0].fields.keys()

    run(go())
