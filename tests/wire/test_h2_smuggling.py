"""Heads that say one thing in HTTP/2 and another as lines of HTTP/1.1: nobody behind us sees them.

CVE-2021-39240 to 39242 (HAProxy), CVE-2021-33193 (httpd), CVE-2021-36740 (Varnish), CVE-2023-27491
(Envoy), CVE-2025-57804 (h2 for Python).
"""

from __future__ import annotations

import asyncio

import pytest
from hyperframe.frame import DataFrame, HeadersFrame, PingFrame, RstStreamFrame

from tests.wire.client import Client
from tests.wire.conftest import Run, Serve
from tests.wire.h2_client import RawClient
from tests.wire.h2_mesh import Mesh
from tests.wire.h2_origin import Call, H2Origin
from tests.wire.h2_peer import Field
from tests.wire.origin import Origin, Visit, response

EVIL = "\r\nGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n"

# Fields that are added to, or stand for those of, a good request.
REFUSED: dict[str, tuple[Field, ...]] = {
    "name CRLF": (("x\r\ny", "1"),),
    "name LF": (("x\ny", "1"),),
    "name CR": (("x\ry", "1"),),
    "name NUL": (("x\0y", "1"),),
    "name space": (("x y", "1"),),
    "name colon": (("x:y", "1"),),
    "name colon first": ((":x", "1"),),
    "name whole line": (("x: 1\r\ntransfer-encoding", "chunked"),),
    "name upper": (("X-Upper", "1"),),
    "name empty": (("", "1"),),
    "name DEL": (("x\x7f", "1"),),
    "name tab": (("x\t", "1"),),
    "value CRLF": (("x", "a\r\nb: c"),),
    "value LF": (("x", "a\nb: c"),),
    "value CR": (("x", "a\rb"),),
    "value NUL": (("x", "a\0b"),),
    "value evil": (("x", EVIL),),
    "value blank first": (("x", " a"),),
    "value blank last": (("x", "a "),),
    "value tab last": (("x", "a\t"),),
    "cookie CRLF": (("cookie", "a=1\r\nx: y"),),
    "method evil": ((":method", "GET / HTTP/1.1" + EVIL + "GET"),),
    "method space": ((":method", "GE T"),),
    "method CRLF": ((":method", "GET\r\n"),),
    "method NUL": ((":method", "G\0T"),),
    "method colon": ((":method", "GET:"),),
    "method empty": ((":method", ""),),
    "path evil": ((":path", "/ HTTP/1.1" + EVIL),),
    "path space": ((":path", "/a b"),),
    "path CRLF": ((":path", "/a\r\nx: y"),),
    "path NUL": ((":path", "/a\0"),),
    "path tab": ((":path", "/a\tb"),),
    "path empty": ((":path", ""),),
    "path relative": ((":path", "a/b"),),
    "path absolute": ((":path", "http://b.test/"),),
    "path asterisk": ((":path", "*"),),
    "path fragment": ((":path", "/a#b"),),
    "query CRLF": ((":path", "/?a\r\nx: y"),),
    "query space": ((":path", "/?a b"),),
    "authority space": ((":authority", "a b"),),
    "authority CRLF": ((":authority", "a.test\r\nx: y"),),
    "authority NUL": ((":authority", "a\0b"),),
    "authority user": ((":authority", "u@a.test"),),
    "authority ports": ((":authority", "a:80:90"),),
    "authority list": ((":authority", "a,b"),),
    "authority path": ((":authority", "a.test/x"),),
    "authority empty": ((":authority", ""),),
    "scheme CRLF": ((":scheme", "http\r\nx: y"),),
    "scheme space": ((":scheme", "ht tp"),),
    "scheme whole": ((":scheme", "http://b.test/?"),),
    "scheme empty": ((":scheme", ""),),
    "protocol without CONNECT": ((":protocol", "websocket"),),
    "status": ((":status", "200"),),
    "unknown pseudo": ((":evil", "1"),),
    "transfer-encoding": (("transfer-encoding", "chunked"),),
    "transfer-encoding identity": (("transfer-encoding", "identity"),),
    "connection": (("connection", "close"),),
    "connection names": (("connection", "x-forwarded-for"),),
    "keep-alive": (("keep-alive", "timeout=5"),),
    "proxy-connection": (("proxy-connection", "close"),),
    "upgrade": (("upgrade", "websocket"),),
    "te": (("te", "gzip"),),
    "te list": (("te", "trailers, chunked"),),
    "host twice": (("host", "a.test"), ("host", "b.test")),
    "lengths": (("content-length", "5"), ("content-length", "6")),
    "lengths alike": (("content-length", "5"), ("content-length", "5")),
    "length list": (("content-length", "5, 5"),),
    "length sign": (("content-length", "+5"),),
    "length negative": (("content-length", "-1"),),
    "length hexadecimal": (("content-length", "0x5"),),
    "length empty": (("content-length", ""),),
    "length large": (("content-length", "18446744073709551621"),),
    "length twin": (("content_length", "5"),),
    "coding twin": (("transfer_encoding", "chunked"),),
    "expectation": (("expect", "evil"),),
}


async def refused(raw: RawClient, stream: int) -> None:
    """The stream is reset, or answered as a bad request; the connection may end, too."""
    first = asyncio.create_task(raw.until(RstStreamFrame, stream))
    second = asyncio.create_task(raw.until(HeadersFrame, stream))
    done, left = await asyncio.wait((first, second), return_when=asyncio.FIRST_COMPLETED)
    for task in left:
        task.cancel()
    if second in done and second.exception() is None:
        assert 400 <= int(dict(raw.heads[stream])[":status"]) < 600
    elif first in done and first.exception() is None:
        assert first.result().error_code == 1
    else:
        assert raw.goaway is not None
        assert raw.goaway.error_code == 1


@pytest.mark.parametrize("why", REFUSED)
@pytest.mark.parametrize("protocol", ["http1", "h2"])
def test_refused_and_seen_by_nobody(
    run: Run, serve: Serve, engine: str, why: str, protocol: str
) -> None:
    async def go() -> None:
        origin = H2Origin() if protocol == "h2" else Origin(response())
        async with origin, serve(str(Mesh(engine, origin.port).to(protocol))) as proxy:
            url = proxy.addresses["edge"]
            async with RawClient(url) as raw:
                head = raw.head(1, (":method", "POST"), *REFUSED[why], end=False)
                given = [name for name, _ in REFUSED[why]]
                if ":method" in given:
                    head = raw.head(1, *REFUSED[why], end=False)
                await raw.send(head, DataFrame(1, b"12345", flags=["END_STREAM"]))
                await refused(raw, 1)
            async with RawClient(url) as raw:  # what follows is not taken for a part of it
                await raw.send(raw.head(1, (":path", "/fine")))
                assert await raw.status(1) == 200
            if isinstance(origin, Origin):
                assert origin.seen.count(b"HTTP/1.1") == 1
                assert origin.seen.startswith(b"GET /fine ")
            else:
                assert [call.path for call in origin.calls] == ["/fine"]

    run(go())


MISSING = [":method", ":scheme", ":path", ":authority"]
GOOD: tuple[Field, ...] = (
    (":method", "GET"),
    (":scheme", "http"),
    (":path", "/"),
    (":authority", "a.test"),
)


@pytest.mark.parametrize(
    "fields",
    [
        *[tuple(x for x in GOOD if x[0] != name) for name in MISSING],
        (*GOOD, (":path", "/b")),
        (*GOOD, (":authority", "b.test")),
        (*GOOD[:3], ("x", "y"), GOOD[3]),
        ((":method", "CONNECT"), (":path", "/"), (":authority", "a.test:80")),
        ((":method", "CONNECT"), (":scheme", "http"), (":authority", "a.test:80")),
    ],
)
def test_a_head_without_its_pseudo_fields_in_order_is_refused(
    run: Run, serve: Serve, engine: str, fields: tuple[Field, ...]
) -> None:
    async def go() -> None:
        async with (
            Origin(response()) as origin,
            serve(str(Mesh(engine, origin.port).via(upgrade=["connect"]))) as proxy,
            RawClient(proxy.addresses["edge"]) as raw,
        ):
            await raw.send(raw.only(1, *fields))
            await refused(raw, 1)
            assert origin.seen == b""

    run(go())


# --- lengths ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("length", "data"),
    [("3", b"hello"), ("10", b"hello"), ("0", b"hello"), ("5", b"")],
    ids=["long", "short", "none", "empty"],
)
@pytest.mark.parametrize("at_once", [True, False], ids=["at-once", "later"])
def test_a_body_has_its_declared_length_or_no_end(
    run: Run, serve: Serve, engine: str, length: str, data: bytes, at_once: bool
) -> None:
    async def go() -> None:
        async with (
            Origin(response(b"fine")) as origin,
            serve(str(Mesh(engine, origin.port))) as proxy,
            RawClient(proxy.addresses["edge"]) as raw,
        ):
            head = raw.head(1, (":method", "POST"), ("content-length", length), end=False)
            body = DataFrame(1, data, flags=["END_STREAM"])
            if at_once:
                await raw.send(head, body)
            else:
                await raw.send(head)
                await raw.send(PingFrame(0, b"in order"))
                await raw.until(PingFrame, 0)
                await raw.send(body)
            await refused(raw, 1)
            await raw.send(raw.head(3, (":path", "/fine")))
            assert await raw.status(3) == 200
            # Small as it is, it is awaited: nothing of it goes out before it is known to be whole.
            assert b"POST" not in origin.seen

    run(go())


def test_a_head_that_ends_the_stream_and_declares_a_body_is_refused(
    run: Run, serve: Serve, engine: str
) -> None:
    async def go() -> None:
        async with (
            Origin(response()) as origin,
            serve(str(Mesh(engine, origin.port))) as proxy,
            RawClient(proxy.addresses["edge"]) as raw,
        ):
            await raw.send(raw.head(1, (":method", "POST"), ("content-length", "5"), end=True))
            await refused(raw, 1)
            assert origin.seen == b""

    run(go())


@pytest.mark.parametrize(
    "trailer",
    [
        ("x", "a\r\nb: c"),
        ("x\r\ny", "a"),
        ("x y", "a"),
        ("X-Upper", "a"),
        (":path", "/"),
        ("transfer-encoding", "chunked"),
        ("connection", "close"),
    ],
    ids=str,
)
def test_trailers_are_held_to_the_same_rules(
    run: Run, serve: Serve, engine: str, trailer: Field
) -> None:
    async def echo(visit: Visit) -> None:
        await visit.head()
        seen = await visit.reader.readuntil(b"0\r\n\r\n")
        visit.seen += seen
        await visit.send(response(seen))

    async def go() -> None:
        async with (
            Origin(echo) as origin,
            serve(str(Mesh(engine, origin.port))) as proxy,
            RawClient(proxy.addresses["edge"]) as raw,
        ):
            await raw.send(raw.head(1, (":method", "POST"), end=False), DataFrame(1, b"hello"))
            await origin.reached.wait()
            await raw.send(raw.only(1, trailer, end=True))
            await refused(raw, 1)
            assert b"0\r\n" not in origin.seen.partition(b"\r\n\r\n")[2]

    run(go())


# --- the other way ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields",
    [
        (("x", "a\r\nset-cookie: evil=1"),),
        (("x", "a\nb"),),
        (("x", "a\rb"),),
        (("x", "a\0b"),),
        (("x\r\ny", "a"),),
        (("x y", "a"),),
        (("x:y", "a"),),
        (("X-Upper", "a"),),
        (("x", " a"),),
        (("transfer-encoding", "chunked"),),
        (("connection", "close"),),
        (("upgrade", "websocket"),),
        (("content-length", "5"), ("content-length", "6")),
        (("content-length", "+5"),),
        (("content-length", "3"),),
        (("content-length", "50"),),
        ((":status", "20\r\n"),),
        ((":status", "99"),),
        ((":status", "101"),),
        ((":path", "/"),),
    ],
    ids=str,
)
def test_a_response_that_is_no_http2_is_no_response(
    run: Run, serve: Serve, engine: str, fields: tuple[Field, ...]
) -> None:
    async def split(call: Call) -> None:
        if call.path == "/fine":
            return await call.answer(b"fine")
        head = fields if fields[0][0] == ":status" else ((":status", "200"), *fields)
        call.send_head(*head)
        return await call.send(b"hello", end=True)

    async def go() -> None:
        async with (
            H2Origin(split) as origin,
            serve(str(Mesh(engine, origin.port).to("h2").via(retry="off"))) as proxy,
            Client(proxy.addresses["edge"]) as client,
        ):
            await client.send(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
            try:
                said = await client.closed()
            except ConnectionError:
                said = b""  # the head was out already
            assert b"evil" not in said
            if said:
                assert said.startswith(b"HTTP/1.1 502 ")
                assert b"x-mesh-reason: upstream_protocol\r\n" in said
            async with Client(proxy.addresses["edge"]) as other:
                assert (await other.get("/fine")).body == b"fine"

    run(go())


@pytest.mark.parametrize(
    "field",
    [("x", "a\nb"), ("x y", "a"), ("X-Upper", "a"), ("connection", "close"), ("x", " a")],
    ids=str,
)
def test_a_response_that_is_malformed_costs_its_own_stream_only(
    run: Run, serve: Serve, engine: str, field: Field
) -> None:
    """RFC 9113 §8.1.1: a malformed message is an error of its stream."""

    async def answer(call: Call) -> None:
        if call.path == "/held":
            await release.wait()
            return await call.answer(b"held")
        return await call.answer(b"bad", field)

    release = asyncio.Event()

    async def go() -> None:
        async with (
            H2Origin(answer) as origin,
            serve(str(Mesh(engine, origin.port).to("h2").via(retry="off"))) as proxy,
            Client(proxy.addresses["edge"]) as other,
            Client(proxy.addresses["edge"]) as client,
        ):
            held = asyncio.create_task(other.get("/held", method="POST"))
            await origin.reached(1)
            assert (await client.get("/bad")).status == 502
            release.set()
            assert (await held).body == b"held"

    run(go())
