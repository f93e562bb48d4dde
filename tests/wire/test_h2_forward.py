"""A request through the whole flow when one side, or both, speak HTTP/2."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from blockbuster import blockbuster_ctx

from tests.wire.conftest import Certificates, Run, Serve
from tests.wire.either import Ask, Message, Service, asking, h1_message, request, response, service
from tests.wire.h2_client import H2Client
from tests.wire.h2_mesh import Mesh
from tests.wire.h2_origin import Call, H2Origin
from tests.wire.origin import Origin, Visit
from tests.wire.origin import response as h1_response

Leg = tuple[str, str]
LEGS = [("h2", "http1"), ("h2", "h2"), ("http1", "h2")]
ECHO = response(status=299)


class Path:
    """Client, proxy and origin, connected."""

    def __init__(self, serve: Serve, engine: str, leg: Leg) -> None:
        self._serve = serve
        self._engine = engine
        self.client, self.origin = leg

    @asynccontextmanager
    async def to(
        self, answer: Message, certificates: Certificates | None = None, protocol: str = ""
    ) -> AsyncIterator[tuple[Ask, Service]]:
        """To an origin that gives this answer to everything, or everything back."""

        def say(asked: Message) -> Message:
            if answer is ECHO:
                return Message(answer.fields, asked.body, asked.trailers)
            return answer

        async with service(self.origin, say, certificates) as origin:
            made = Mesh(self._engine, origin.port).to(protocol or self.origin)
            if certificates is not None:
                made.listen(tls=certificates.listener)
                made.upstream["tls"] = {"ca": certificates.ca}
            async with (
                self._serve(str(made)) as proxy,
                asking(self.client, proxy.addresses["edge"], certificates) as ask,
            ):
                yield ask, origin


@pytest.fixture(params=LEGS, ids="-".join)
def path(request: pytest.FixtureRequest, serve: Serve, engine: str) -> Path:
    """What the client speaks, and the endpoint."""
    return Path(serve, engine, request.param)


@pytest.mark.parametrize("by", ["plain", "tls", "auto"])
def test_requests_go_through_and_the_connections_are_kept(
    run: Run, path: Path, certificates: Certificates, by: str
) -> None:
    async def go() -> None:
        answer = response(b"hi", ("x-from", "origin"), ("content-length", "2"))
        given = certificates if by != "plain" else None
        async with path.to(answer, given, "auto" if by == "auto" else "") as (ask, origin):
            for _ in range(3):
                reply = await ask(request("GET", "/a?b=c", ("x-custom", "1")))
                assert (reply.status, reply.body) == (200, b"hi")
                assert (reply.fields["x-from"], reply.fields["content-length"]) == ("origin", "2")
            assert origin.connections == 1
            asked = origin.asked[0].fields
            assert (asked[":method"], asked[":path"]) == ("GET", "/a?b=c")
            assert asked[":authority"] == "a.test"
            assert asked["x-custom"] == "1"
            assert asked["x-forwarded-for"] == "127.0.0.1"
            assert asked["x-forwarded-proto"] == ("http" if by == "plain" else "https")
            version = "2" if path.client == "h2" else "1.1"
            assert asked["via"].startswith(f"{version} meshcore-")
            assert len(asked["x-request-id"]) == 32
            assert "content-length" not in asked
            assert "transfer-encoding" not in asked

    run(go())


def test_a_length_is_kept_both_ways(run: Run, path: Path) -> None:
    async def go() -> None:
        length = ("content-length", "5")
        async with path.to(response(b"12345", length)) as (ask, origin):
            reply = await ask(request("POST", "/", length, body=b"hello"))
            assert (reply.fields["content-length"], reply.body) == ("5", b"12345")
            asked = origin.asked[0]
            assert (asked.fields["content-length"], asked.body) == ("5", b"hello")
            assert "transfer-encoding" not in reply.fields | asked.fields

    run(go())


def test_a_post_without_a_body_has_none_behind_us(run: Run, path: Path) -> None:
    async def go() -> None:
        async with path.to(response()) as (ask, origin):
            assert (await ask(request("POST"))).status == 200
            asked = origin.asked[0]
            assert asked.fields.get("content-length", "0") == "0"
            assert "transfer-encoding" not in asked.fields
            if path.origin == "http1":  # RFC 9110 §8.6: it says that there is none
                assert asked.fields["content-length"] == "0"

    run(go())


def test_a_body_of_unknown_length_goes_through_as_it_comes(run: Run, path: Path) -> None:
    async def go() -> None:
        async with path.to(ECHO) as (ask, origin):
            reply = await ask(request("PUT", body=b"hello"))
            assert (reply.status, reply.body, origin.asked[0].body) == (299, b"hello", b"hello")

    run(go())


def test_large_bodies_stream_both_ways(run: Run, path: Path, certificates: Certificates) -> None:
    async def go() -> None:
        body = bytes(range(250)) * 12_000
        async with path.to(ECHO, certificates) as (ask, _):
            assert (await ask(request("POST", body=body))).body == body

    run(go())


def test_trailers_go_both_ways(run: Run, path: Path) -> None:
    async def go() -> None:
        sent = {"x-checksum": "1", "grpc-status": "0"}
        async with path.to(ECHO) as (ask, origin):
            reply = await ask(request("POST", "/", body=b"hello", trailers=sent))
            assert (reply.body, reply.trailers) == (b"hello", sent)
            assert (origin.asked[0].body, origin.asked[0].trailers) == (b"hello", sent)
            # What frames a message is no trailer (RFC 9110 §6.5.1), and a body need not be there.
            reply = await ask(request("POST", "/", trailers={"x-a": "1", "content-length": "7"}))
            assert (reply.body, reply.trailers) == (b"", {"x-a": "1"})

    run(go())


def test_an_answer_to_head_has_a_length_and_no_body(run: Run, path: Path) -> None:
    async def go() -> None:
        async with path.to(response(b"", ("content-length", "5"))) as (ask, _):
            for _ in range(2):
                reply = await ask(request("HEAD"))
                assert (reply.fields["content-length"], reply.body) == ("5", b"")

    run(go())


@pytest.mark.parametrize("status", [204, 304])
def test_a_status_without_a_body_has_none(run: Run, path: Path, status: int) -> None:
    async def go() -> None:
        async with path.to(response(b"", ("etag", '"a"'), status=status)) as (ask, origin):
            for _ in range(2):
                reply = await ask(request())
                assert (reply.status, reply.body, reply.fields["etag"]) == (status, b"", '"a"')
                assert "transfer-encoding" not in reply.fields
            assert origin.connections == 1

    run(go())


def test_early_hints_go_through(run: Run, path: Path) -> None:
    async def go() -> None:
        hints = [{":status": "103", "link": f"</{i}.css>"} for i in range(2)]
        async with path.to(response(b"hi", interim=hints)) as (ask, _):
            reply = await ask(request())
            assert (reply.interim, reply.status, reply.body) == (hints, 200, b"hi")

    run(go())


def test_only_trailers_is_left_of_te(run: Run, path: Path) -> None:
    async def go() -> None:
        async with path.to(response()) as (ask, origin):
            await ask(request("GET", "/", ("te", "trailers")))
            await ask(request())
            assert [x.fields.get("te") for x in origin.asked] == ["trailers", None]

    run(go())


@pytest.mark.parametrize(
    ("fields", "status", "host"),
    [
        ({":authority": "a.test", "host": "a.test"}, 200, "a.test"),
        ({":authority": "A.Test", "host": "a.tesT"}, 200, "a.test"),
        ({":authority": "a.test:80"}, 200, "a.test:80"),
        ({"host": "a.test"}, 200, "a.test"),
        ({":authority": "a.test", "host": "b.test"}, 400, ""),
        ({":authority": "a.test", "host": "a.test:80"}, 200, "a.test:80"),
        ({":authority": "a.test", "host": "a.test:81"}, 400, ""),
        ({":authority": "a.test", "host": ""}, 400, ""),
        ({}, 400, ""),
    ],
    ids=["same", "case", "port", "host", "other", "default-port", "other-port", "empty", "none"],
)
@pytest.mark.parametrize("origin_speaks", ["http1", "h2"])
def test_a_request_has_one_authority(
    run: Run,
    serve: Serve,
    engine: str,
    origin_speaks: str,
    fields: dict[str, str],
    status: int,
    host: str,
) -> None:
    async def go() -> None:
        async with (
            service(origin_speaks, lambda _: response()) as origin,
            serve(str(Mesh(engine, origin.port).to(origin_speaks))) as proxy,
            H2Client(proxy.addresses["edge"]) as client,
        ):
            head = {":method": "GET", ":scheme": "http", ":path": "/"} | fields
            pseudo = [field for field in head.items() if field[0].startswith(":")]
            others = [field for field in head.items() if not field[0].startswith(":")]
            stream = client.open(*pseudo, *others)
            await stream.whole()
            assert stream.status == status
            assert [x.fields[":authority"] for x in origin.asked] == ([host] if host else [])
            # The connection lives: only the stream was refused.
            assert (await client.get()).status == 200

    run(go())


@pytest.mark.parametrize("origin_speaks", ["http1", "h2"])
def test_crumbs_are_one_cookie_again(
    run: Run, serve: Serve, engine: str, origin_speaks: str
) -> None:
    async def go() -> None:
        async with (
            service(origin_speaks, lambda _: response()) as origin,
            serve(str(Mesh(engine, origin.port).to(origin_speaks))) as proxy,
            H2Client(proxy.addresses["edge"]) as client,
        ):
            await client.get("/", ("cookie", "a=1"), ("x", "y"), ("cookie", "b=2; c=3"))
            assert origin.asked[0].fields["cookie"] == "a=1; b=2; c=3"

    run(go())


async def continues1(visit: Visit) -> None:
    assert b"expect: 100-continue" in (await visit.head()).lower()
    await visit.send(b"HTTP/1.1 100 Continue\r\n\r\n")
    await visit.send(h1_response(await visit.body(5)))


async def continues2(call: Call) -> None:
    assert call.fields["expect"] == "100-continue"
    call.send_head((":status", "100"))
    await call.answer(await call.whole())


@pytest.mark.parametrize("leg", LEGS, ids="-".join)
def test_a_client_that_expects_continue_gets_it_from_the_endpoint(
    run: Run, serve: Serve, engine: str, leg: Leg
) -> None:
    fields = (("expect", "100-continue"), ("content-length", "5"))

    async def ask2(url: str) -> Message:
        async with H2Client(url) as client:
            stream = client.ask("/", *fields, method="POST", end=False)
            await stream.until(lambda: bool(stream.interim))
            await stream.send(b"hello", end=True)
            return Message({}, await stream.whole(), interim=stream.interim)

    async def ask1(url: str) -> Message:
        host, port = url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, port)
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields)
        writer.write(f"POST / HTTP/1.1\r\nhost: a.test\r\n{lines}\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        writer.write(b"hello")
        reply = await h1_message(reader)
        writer.close()
        return Message({}, reply.body, interim=[{":status": head.decode().split()[1]}])

    async def go() -> None:
        origin = H2Origin(continues2) if leg[1] == "h2" else Origin(continues1)
        async with origin, serve(str(Mesh(engine, origin.port).to(leg[1]))) as proxy:
            found = await (ask2 if leg[0] == "h2" else ask1)(proxy.addresses["edge"])
            assert (found.body, [x[":status"] for x in found.interim]) == (b"hello", ["100"])

    run(go())


@pytest.mark.parametrize("leg", LEGS, ids="-".join)
def test_no_stream_waits_for_a_blocking_call(run: Run, serve: Serve, engine: str, leg: Leg) -> None:
    async def go() -> None:
        with blockbuster_ctx():
            async with service(leg[1], lambda _: response(b"hi")) as origin:
                text = Mesh(engine, origin.port, 1).to(leg[1], circuit_breaker="off")
                text.top["access_log"] = "text"
                async with (
                    serve(str(text)) as proxy,
                    asking(leg[0], proxy.addresses["edge"]) as ask,
                ):
                    for _ in range(5):
                        assert (await ask(request("POST", body=b"hello"))).status == 200

    run(go())
