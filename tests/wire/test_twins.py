"""Other spellings of what a request is judged by, and of what a layer says: an application behind
CGI or WSGI reads ``x_user`` and ``x-user`` as one. In heads and in trailers, both ways, over either
protocol."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from meshcore import Layer, Request, Response
from meshcore.config.load import load_text
from tests.wire.blame import every_way
from tests.wire.conftest import Run, Serve
from tests.wire.either import asking, request, response, service
from tests.wire.h2_mesh import Mesh
from tests.wire.test_fields import through

KEPT = {"x-users": "1", "a_b": "1"}
BODIES = (b"", b"x" * 100_000)


def by_another_route(mesh: Mesh) -> Mesh:
    return mesh.beside("other", match={"headers": {"x-user": {"present": True}}}, respond=DENIED)


def by_a_route_of_another_host(mesh: Mesh) -> Mesh:
    keys = {"host": "b.test", "headers": {"x-user": "root"}}
    return mesh.beside("other", match=keys, respond=DENIED)


def by_a_limit_of_the_listener(mesh: Mesh) -> Mesh:
    return mesh.listen(layers=LIMIT)


def by_a_limit_of_the_route(mesh: Mesh) -> Mesh:
    return mesh.via(layers=LIMIT)


def by_nothing(mesh: Mesh) -> Mesh:
    return mesh


DENIED = {"status": 403}
LIMIT = [{"limit": {"rate": "100/s", "key": {"header": "x-user"}}}]
JUDGED = [
    by_another_route,
    by_a_route_of_another_host,
    by_a_limit_of_the_listener,
    by_a_limit_of_the_route,
]


@every_way
@pytest.mark.parametrize("judged", JUDGED)
def test_a_twin_of_what_requests_are_judged_by_goes_nowhere(
    run: Run, engine: str, client: str, endpoint: str, judged: Callable[[Mesh], Mesh]
) -> None:
    """The route that takes it is found because it says nothing: its own rules know no name."""
    shown: set[str] = set()

    class Notes(Layer):
        def on_request(self, request: Request) -> None:
            shown.update(name for name, _ in request.headers())

    async def go() -> None:
        async with through(client, endpoint, engine, layer=Notes(), mesh=judged) as (ask, origin):
            sent = KEPT | {"x_user": "root"}
            behind = sent | {"x-user": "root"}
            for body in BODIES:
                got = await ask(request("POST", "/", *sent.items(), body=body, trailers=behind))
                assert got.status == 200
            assert len(origin.asked) == len(BODIES)
            for asked in origin.asked:
                assert not {"x_user", "x-user"} & asked.fields.keys()
                assert KEPT.items() <= asked.fields.items()
                assert asked.trailers == KEPT
        assert "x_user" not in shown
        assert KEPT.keys() <= shown

    run(go())


UNDERSCORED = {"x_user_id": "root"}
SPELLINGS = {"x-user-id": "root", "x_user-id": "root", "x-user_id": "root"}


@every_way
@pytest.mark.parametrize(
    "judged",
    [
        lambda mesh: mesh.beside(
            "other", match={"headers": {"x_user_id": {"present": True}}}, respond=DENIED
        ),
        lambda mesh: mesh.listen(
            layers=[{"limit": {"rate": "9/s", "key": {"header": "x_user_id"}}}]
        ),
        lambda mesh: mesh.via(layers=[{"limit": {"rate": "9/s", "key": {"header": "x_user_id"}}}]),
    ],
    ids=["match", "listener's limit", "route's limit"],
)
def test_a_name_with_underscores_has_twins_too(
    run: Run, engine: str, client: str, endpoint: str, judged: Callable[[Mesh], Mesh]
) -> None:
    async def go() -> None:
        async with through(client, endpoint, engine, mesh=judged) as (ask, origin):
            sent, behind = SPELLINGS | KEPT, SPELLINGS | UNDERSCORED | KEPT
            await ask(request("POST", "/", *sent.items(), body=b"a", trailers=behind))
            asked = origin.asked[0]
            assert not (SPELLINGS | UNDERSCORED).keys() & asked.fields.keys()
            assert asked.trailers == KEPT

    run(go())


class Underscores(Layer):
    """Says who asks in a name with underscores, and takes such a field out."""

    def on_request(self, request: Request) -> None:
        request.set_header("x_user_id", "ann")
        request.remove_header("x_gone")

    def on_response(self, request: Request, response: Response) -> None:
        response.set_header("x_user_id", "ann")
        response.remove_header("x_gone")


@every_way
def test_nobody_says_in_other_spellings_what_a_layer_says(
    run: Run, engine: str, client: str, endpoint: str
) -> None:
    async def go() -> None:
        sent = SPELLINGS | UNDERSCORED | KEPT | {"x-gone": "1", "x_gone": "1"}
        answer = response(b"a", *sent.items(), trailers=sent)
        async with through(client, endpoint, engine, lambda _: answer, layer=Underscores()) as (
            ask,
            origin,
        ):
            got = await ask(request("POST", "/", *sent.items(), body=b"a", trailers=sent))
            for message in (origin.asked[0], got):
                assert not (SPELLINGS.keys() | {"x-gone", "x_gone"}) & message.fields.keys()
                assert message.fields["x_user_id"] == "ann"
                assert message.trailers == KEPT

    run(go())


@every_way
def test_a_rule_by_another_listener_means_that_one(
    run: Run, engine: str, client: str, endpoint: str
) -> None:
    async def go() -> None:
        async with through(
            client,
            endpoint,
            engine,
            mesh=lambda mesh: mesh.another_listener("inner").beside(
                "other",
                listeners=["inner"],
                match={"headers": {"x-user": {"present": True}}},
                respond=DENIED,
            ),
        ) as (ask, origin):
            await ask(request("GET", "/", ("x_user", "1")))
            assert origin.asked[0].fields["x_user"] == "1"

    run(go())


def test_what_requests_are_judged_by_changes_with_the_configuration(
    run: Run, serve: Serve, engine: str
) -> None:
    async def go() -> None:
        async with (
            service("http1", lambda _: response(b"hi")) as origin,
            serve(str(Mesh(engine, origin.port))) as proxy,
        ):
            passes = []
            for change in (by_another_route, by_a_limit_of_the_listener, by_nothing):
                await proxy.reload(load_text(str(change(Mesh(engine, origin.port)))))
                async with asking("http1", proxy.addresses["edge"]) as ask:
                    await ask(request("GET", "/", ("x_user", "1")))
                passes.append("x_user" in origin.asked[-1].fields)
            assert passes == [False, False, True]

    run(go())


@every_way
def test_a_spelling_that_a_route_names_passes_to_it(
    run: Run, engine: str, client: str, endpoint: str
) -> None:
    async def go() -> None:
        async with through(
            client,
            endpoint,
            engine,
            mesh=lambda mesh: mesh.via(match={"headers": {"x_user": "1"}}).beside(
                "other", match={"headers": {"x-user": {"present": True}}}, respond=DENIED
            ),
        ) as (ask, origin):
            await ask(request("GET", "/", ("x_user", "1")))
            assert origin.asked[0].fields["x_user"] == "1"

    run(go())


@every_way
def test_no_trailer_says_who_the_client_is(
    run: Run, engine: str, client: str, endpoint: str
) -> None:
    trust = {"trusted": ["10.0.0.0/8"], "header": "x-real-ip"}
    told = {"x_real_ip": "6.6.6.6", "x-real_ip": "6.6.6.6", "x-real-ip": "6.6.6.6"}

    async def go() -> None:
        async with through(
            client, endpoint, engine, mesh=lambda mesh: mesh.listen(client_address=trust)
        ) as (ask, origin):
            await ask(request("POST", "/", *told.items(), body=b"a", trailers=told | KEPT))
            assert "6.6.6.6" not in origin.asked[0].fields.values()
            assert origin.asked[0].trailers == KEPT

    run(go())


class Owns(Layer):
    """Says who asks, and takes a field out."""

    def on_request(self, request: Request) -> None:
        request.set_header("X-User", "ann")
        request.remove_header("x-drop")

    def on_response(self, request: Request, response: Response) -> None:
        response.set_header("X-User", "ann")
        response.remove_header("x-drop")


CLAIMS = {"x_user": "root", "x-user": "root", "x_drop": "1", "x-drop": "1"}


@every_way
def test_a_client_does_not_say_what_a_layer_says(
    run: Run, engine: str, client: str, endpoint: str
) -> None:
    async def go() -> None:
        async with through(client, endpoint, engine, layer=Owns()) as (ask, origin):
            sent = CLAIMS | KEPT
            for body in BODIES:
                await ask(request("POST", "/", *sent.items(), body=body, trailers=sent))
            assert len(origin.asked) == len(BODIES)
            for asked in origin.asked:
                assert CLAIMS.keys() & asked.fields.keys() == {"x-user"}
                assert asked.fields.items() >= (KEPT | {"x-user": "ann"}).items()
                assert asked.trailers == KEPT

    run(go())


@every_way
def test_an_endpoint_does_not_say_what_a_layer_says(
    run: Run, engine: str, client: str, endpoint: str
) -> None:
    async def go() -> None:
        sent = CLAIMS | KEPT
        for body in BODIES:
            answer = response(body, *sent.items(), trailers=sent)
            async with through(
                client,
                endpoint,
                engine,
                lambda _, answer=answer: answer,  # type: ignore[misc]
                layer=Owns(),
            ) as (ask, _):
                got = await ask(request())
                assert CLAIMS.keys() & got.fields.keys() == {"x-user"}
                assert got.fields.items() >= (KEPT | {"x-user": "ann"}).items()
                assert got.trailers == KEPT

    run(go())
