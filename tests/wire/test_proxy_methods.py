"""What OPTIONS, TRACE and a 405 say of proxies, over either protocol."""

from __future__ import annotations

from typing import Any

import pytest

from tests.wire.blame import PROTOCOLS, every_way
from tests.wire.client import Client
from tests.wire.conftest import Run, Serve
from tests.wire.either import Message, asking, request
from tests.wire.h2_client import H2Client
from tests.wire.h2_mesh import Mesh
from tests.wire.test_fields import Labels, through

USUAL = "get, head, post, put, patch, delete, options"
# `h1_head` folds values; HTTP/2's client does not.
every_client = pytest.mark.parametrize("client", PROTOCOLS)


def folded(message: Message, name: str) -> str:
    return message.fields[name].lower()


def tracing(mesh: Mesh) -> Mesh:
    return mesh.via(match={"methods": ["GET", "OPTIONS", "TRACE"]})


# --- allow ------------------------------------------------------------------------------------


@every_client
@pytest.mark.parametrize(
    ("keys", "method", "expected"),
    [
        ({}, "TRACE", USUAL),
        ({"match": {"path": {"prefix": "/"}}}, "TRACE", USUAL),
        ({"upgrade": ["connect"]}, "TRACE", USUAL + ", connect"),
        ({"match": {"methods": ["CONNECT", "GET"]}}, "CONNECT", "get"),
        ({}, "CONNECT", USUAL),
    ],
)
def test_a_405_says_what_is_allowed(
    run: Run,
    serve: Serve,
    engine: str,
    client: str,
    keys: dict[str, Any],
    method: str,
    expected: str,
) -> None:
    async def go() -> None:
        async with serve(str(Mesh(engine, 1).via(**keys))) as proxy:
            url = proxy.addresses["edge"]
            target = "a.test:80" if method == "CONNECT" else "/"
            if client == "h2":
                rest = [(":scheme", "http"), (":path", "/")] if method == "TRACE" else []
                async with H2Client(url) as two:
                    stream = two.open((":method", method), (":authority", "a.test:80"), *rest)
                    await stream.whole()
                    status, fields = stream.status, stream.fields
            else:
                async with Client(url) as one:
                    lines = f"{method} {target} HTTP/1.1\r\nhost: a.test:80\r\n\r\n"
                    await one.send(lines.encode())
                    reply = await one.reply()
                    status, fields = reply.status, reply.fields
            assert (status, fields["allow"].lower()) == (405, expected)
            assert fields["x-mesh-reason"] == "method_not_allowed"

    run(go())


# --- max-forwards -----------------------------------------------------------------------------


@every_way
@pytest.mark.parametrize("method", ["OPTIONS", "TRACE", "GET"])
def test_max_forwards_is_lowered(
    run: Run, engine: str, client: str, endpoint: str, method: str
) -> None:
    counts = method != "GET"

    async def go() -> None:
        async with through(client, endpoint, engine, mesh=tracing) as (ask, origin):
            for sent, passed in (
                ("1", "0"),
                ("007", "6"),
                ("4294967295", "4294967294"),
                ("9" * 1000, "4294967294"),
            ):
                found = await ask(request(method, "/", ("max-forwards", sent)))
                assert found.status == 200
                expected = passed if counts else sent
                assert origin.asked[-1].fields["max-forwards"] == expected
            # Nobody takes it away for us.
            listed = {"connection": "max-forwards"} if client != "h2" else {}
            await ask(request(method, "/", ("max-forwards", "5"), *listed.items()))
            assert origin.asked[-1].fields["max-forwards"] == ("4" if counts else "5")
            await ask(request(method))
            assert "max-forwards" not in origin.asked[-1].fields

    run(go())


@every_client
def test_the_last_recipient_answers_options(run: Run, engine: str, client: str) -> None:
    async def go() -> None:
        async with through(client, client, engine, mesh=tracing) as (ask, origin):
            for zero in ("0", "000"):
                found = await ask(request("OPTIONS", "/x", ("max-forwards", zero)))
                assert (found.status, found.body) == (200, b"")
                assert folded(found, "allow") == "get, options, trace"
                assert found.fields["x-mesh-reason"] == "max_forwards"
            assert origin.asked == []
            # It means nothing for others.
            assert (await ask(request("GET", "/", ("max-forwards", "0")))).body == b"hi"

    run(go())


@every_client
def test_the_last_recipient_tells_a_trace_what_it_got(run: Run, engine: str, client: str) -> None:
    """And no secret of the client, or of a layer."""
    fields = [
        ("max-forwards", "0"),
        ("via", "1.1 other"),
        ("authorization", "Basic c2VjcmV0"),
        ("cookie", "a=secret"),
    ]

    async def go() -> None:
        async with through(client, client, engine, layer=Labels(), mesh=tracing) as (ask, origin):
            found = await ask(request("TRACE", "/x?y", *fields))
            assert found.status == 200
            assert folded(found, "content-type") == "message/http"
            assert found.body.decode().split("\r\n") == [
                "TRACE /x?y HTTP/1.1",
                "host: a.test",
                "max-forwards: 0",
                "via: 1.1 other",
                "",
                "",
            ]
            assert origin.asked == []

    run(go())


@every_client
@pytest.mark.parametrize("values", [[""], ["-1"], ["+1"], ["1.0"], ["a"], ["1, 2"], ["1", "1"]])
def test_what_is_no_number_of_forwards_is_refused(
    run: Run, serve: Serve, engine: str, client: str, values: list[str]
) -> None:
    fields = [("max-forwards", value) for value in values]

    async def go() -> None:
        async with serve(str(Mesh(engine, 1))) as proxy:
            url = proxy.addresses["edge"]
            if client == "h2":
                async with H2Client(url) as two:
                    stream = two.ask("/", *fields, method="OPTIONS")
                    await stream.whole()
                    status, told = stream.status, stream.fields
            else:
                async with Client(url) as one:
                    lines = [f"{name}: {value}" for name, value in fields]
                    reply = await one.get("/", *lines, method="OPTIONS")
                    status, told = reply.status, reply.fields
            assert (status, told["x-mesh-reason"]) == (400, "bad_request")

    run(go())


# --- OPTIONS * --------------------------------------------------------------------------------


@every_way
def test_an_asterisk_is_forwarded_as_one(run: Run, engine: str, client: str, endpoint: str) -> None:
    def rewriting(mesh: Mesh) -> Mesh:
        return mesh.via(rewrite={"path": "/x", "host": "b.test"})

    async def go() -> None:
        forms = ["*"] if client == "h2" else ["*", "http://a.test", "http://a.test:80"]
        for mesh, host in ((lambda mesh: mesh, "a.test"), (rewriting, "b.test")):
            async with through(client, endpoint, engine, mesh=mesh) as (ask, origin):
                for form in forms:
                    assert (await ask(request("OPTIONS", form))).status == 200
                    asked = origin.asked[-1].fields
                    assert (asked[":path"], asked[":authority"]) == ("*", host)
                if client != "h2" and host == "a.test":  # these name a path, or a query
                    for form, path in (("http://a.test/", "/"), ("http://a.test?q", "/?q")):
                        await ask(request("OPTIONS", form))
                        assert origin.asked[-1].fields[":path"] == path

    run(go())


@every_client
@pytest.mark.parametrize(
    ("redirect", "location"),
    [
        ({"scheme": "https"}, "https://a.test"),
        ({"scheme": "https", "port": 8443}, "https://a.test:8443"),
        ({"path": "/there"}, "http://a.test/there"),
    ],
)
def test_an_asterisk_is_no_part_of_a_location(
    run: Run, serve: Serve, engine: str, client: str, redirect: dict[str, Any], location: str
) -> None:
    mesh = Mesh(engine, 1)
    mesh.route = {"name": "all", "redirect": redirect}

    async def go() -> None:
        async with serve(str(mesh)) as proxy, asking(client, proxy.addresses["edge"]) as ask:
            assert (await ask(request("OPTIONS", "*"))).fields["location"] == location

    run(go())


@every_client
def test_which_routes_match_an_asterisk(run: Run, serve: Serve, engine: str, client: str) -> None:
    async def go() -> None:
        for path, status in (
            ({"prefix": "/"}, 404),
            ({"exact": "/"}, 404),
            ({"regex": "/.*"}, 404),
            ({"regex": r"\*"}, 204),
            (None, 204),
        ):
            mesh = Mesh(engine, 1)
            match = {"path": path} if path else {}
            mesh.route = {"name": "all", "match": match, "respond": {"status": 204}}
            async with serve(str(mesh)) as proxy, asking(client, proxy.addresses["edge"]) as ask:
                assert (await ask(request("OPTIONS", "*"))).status == status

    run(go())


# --- one authority ----------------------------------------------------------------------------


SAME = [("a.test:80", "a.test"), ("a.test", "a.test:80"), ("A.test:80", "a.TEST")]
OTHER = [("a.test:443", "a.test"), ("a.test:80", "b.test"), ("a.test:80", "a.test:8080")]


@every_client
@pytest.mark.parametrize(
    ("named", "host", "status"),
    [
        *((named, host, 200) for named, host in [*SAME, ("[::1]:80", "[::1]")]),
        *((named, host, 400) for named, host in OTHER),
    ],
)
def test_a_default_port_may_be_said_or_not(
    run: Run, engine: str, client: str, named: str, host: str, status: int
) -> None:
    """By the scheme that the client names; what is sent on is the host as it wrote it."""
    message = request("GET", f"http://{named}/")
    message.fields[":authority"] = host
    if client == "h2":
        message = request("GET", "/")
        message.fields |= {":authority": named, "host": host}

    async def go() -> None:
        async with through(client, "http1", engine) as (ask, origin):
            assert (await ask(message)).status == status
            assert [asked.fields[":authority"] for asked in origin.asked] == (
                [host.lower()] if status == 200 else []
            )

    run(go())


@pytest.mark.parametrize(("port", "status"), [(443, 200), (80, 400)])
def test_the_default_port_is_that_of_the_scheme(run: Run, port: int, status: int) -> None:
    message = request("GET", f"https://a.test:{port}/")

    async def go() -> None:
        async with through("http1", "http1", "native") as (ask, _):
            assert (await ask(message)).status == status

    run(go())
