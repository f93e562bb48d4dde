"""The log tells who was refused before there was a request: what it asked for, as far as known."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.wire.client import Client
from tests.wire.conftest import Run, Serve
from tests.wire.h2_client import H2Client
from tests.wire.h2_mesh import Mesh
from tests.wire.h2_peer import Field

LONG = "x" * 5000
HOST = "host: a.test"


def logged(engine: str, **keys: Any) -> Mesh:
    """A listener with a log that lets little in."""
    limits = {"header_bytes": "16KiB", "target_bytes": 8000, "body_bytes": 10, "headers": 20}
    mesh = Mesh(engine, 9).listen(limits=limits, **keys)
    mesh.top["access_log"] = "json"
    return mesh


def line_of(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    (line,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (line["listener"], line["client"]) == ("edge", "127.0.0.1")
    assert (line["by"], line["phase"], line["attempts"], line["route"]) == ("client", "head", 0, "")
    return dict(line)


def asked(line: dict[str, Any]) -> tuple[object, ...]:
    return tuple(line[name] for name in ("method", "host", "target", "protocol"))


# What is sent, the status, and what the line says of it.
HTTP1: list[tuple[str, int, tuple[str, str, str, str]]] = [
    (f"GET /a%00?b=1 HTTP/1.1\n{HOST}\n\n", 400, ("GET", "a.test", "/a%00?b=1", "1.1")),
    (f"GET /a b HTTP/1.1\n{HOST}\n\n", 400, ("GET", "a.test", "/a b", "1.1")),
    ("GET /a HTTP/1.1\nhost: a b\n\n", 400, ("GET", "a b", "/a", "1.1")),
    ("GET /a HTTP/1.1\n\n", 400, ("GET", "", "/a", "1.1")),
    ("GET /a HTTP/1.1\nhost: a\nhost: b\n\n", 400, ("GET", "", "/a", "1.1")),
    ("GET /a HTTP/1.1\nhost: a\nb\x00: c\n\n", 400, ("GET", "a", "/a", "1.1")),
    ("GET http://b/c HTTP/1.1\nhost: a\n\n", 400, ("GET", "b", "/c", "1.1")),
    (f"GET /a HTTP/1.9\n{HOST}\n\n", 505, ("GET", "a.test", "/a", "")),
    (f"PUT /a HTTP/1.1\n{HOST}\ncontent-length: 11\n\n", 413, ("PUT", "a.test", "/a", "1.1")),
    (f"GET /a HTTP/1.1\n{HOST}\nexpect: it\n\n", 417, ("GET", "a.test", "/a", "1.1")),
    (
        f"PUT /a?b HTTP/1.1\n{HOST}\ntransfer-encoding: chunked\n\nzz\n",
        400,
        ("PUT", "a.test", "/a?b", "1.1"),
    ),
    (
        f"PUT /a HTTP/1.1\n{HOST}\ntransfer-encoding: br\n\n",
        501,
        ("PUT", "a.test", "/a", "1.1"),
    ),
    (f"GET /a HTTP/1.1\n{HOST}\n" + "x: y\n" * 21, 431, ("GET", "a.test", "/a", "1.1")),
    (f"GET /a HTTP/1.1\n{HOST}\nx: {LONG * 4}", 431, ("GET", "a.test", "/a", "1.1")),
    ("\x16\x03\x01\x02 / HTTP/1.1\n\n", 400, ("", "", "", "")),
]


@pytest.mark.parametrize(("sent", "status", "told"), HTTP1)
@pytest.mark.parametrize("parts", [1, 3])
def test_over_http1(
    run: Run,
    serve: Serve,
    capsys: pytest.CaptureFixture[str],
    sent: str,
    status: int,
    told: tuple[str, ...],
    parts: int,
) -> None:
    async def go() -> None:
        raw = sent.replace("\n", "\r\n").encode("latin-1")
        size = len(raw) // parts + 1
        async with serve(str(logged("native"))) as proxy, Client(proxy.addresses["edge"]) as client:
            for at in range(0, len(raw), size):
                await client.send(raw[at : at + size])
            assert (await client.reply()).status == status

    run(go())
    line = line_of(capsys)
    assert line["status"] == status
    assert asked(line) == told
    head = sent.replace("\n", "\r\n")
    if "zz" not in sent:
        ends = head.find("\r\n\r\n")
        if ends >= 0:
            assert line["head_bytes"] == ends + 4
        else:
            assert 0 < line["head_bytes"] <= 16 << 10


@pytest.mark.parametrize("sent", ["GET /" + LONG * 2, f"GET /{LONG}?{LONG}", f"GET /{LONG * 4}"])
def test_a_target_that_is_too_long_is_cut(
    run: Run, serve: Serve, capsys: pytest.CaptureFixture[str], sent: str
) -> None:
    async def go() -> None:
        async with serve(str(logged("native"))) as proxy, Client(proxy.addresses["edge"]) as client:
            ends = f" HTTP/1.1\r\n{HOST}\r\n\r\n" if len(sent) < 16_000 else ""
            await client.send((sent + ends).encode())
            assert (await client.reply()).status == 414

    run(go())
    line = line_of(capsys)
    assert line["target"].startswith("/xxxx")
    assert "target" in line["cut"]
    assert len(line["target"]) < 2100
    assert (line["method"], line["reason"]) == ("GET", "uri_too_long")


def test_a_head_that_does_not_become_whole_in_time(
    run: Run, serve: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    async def go() -> None:
        text = str(logged("native", timeouts={"header": "300ms"}))
        async with serve(text) as proxy, Client(proxy.addresses["edge"]) as client:
            await client.send(b"POST /slow?a HTTP/1.1\r\nhost: a.test\r\nx: ")
            assert (await client.reply()).status == 408

    run(go())
    line = line_of(capsys)
    assert asked(line) == ("POST", "a.test", "/slow?a", "1.1")
    assert (line["reason"], line["head_bytes"]) == ("request_timeout", 40)


def test_the_second_of_two_is_the_one_that_is_told(
    run: Run, serve: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    async def go() -> None:
        mesh = logged("native").via(match={"path": {"exact": "/none"}})
        async with serve(str(mesh)) as proxy, Client(proxy.addresses["edge"]) as client:
            first = b"GET /first HTTP/1.1\r\nhost: a.test\r\n\r\n"
            await client.send(first + b"GET /second%00 HTTP/1.1\r\nhost: b.test\r\n\r\n")
            assert [(await client.reply()).status for _ in range(2)] == [404, 400]

    run(go())
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [asked(line)[:3] for line in lines] == [
        ("GET", "a.test", "/first"),
        ("GET", "b.test", "/second%00"),
    ]
    assert ["head_bytes" in line for line in lines] == [False, True]


def head(*fields: Field, method: str = "GET", path: str = "/a?b") -> tuple[Field, ...]:
    first = ((":method", method), (":scheme", "http"), (":authority", "a.test"), (":path", path))
    return (*first, *fields)


HTTP2: list[tuple[tuple[Field, ...], int, tuple[str, str, str]]] = [
    (head(path="/a%00?b=1"), 400, ("GET", "a.test", "/a%00?b=1")),
    (head(("host", "b.test")), 400, ("GET", "a.test", "/a?b")),
    (head(("content-length", "11"), method="PUT"), 413, ("PUT", "a.test", "/a?b")),
    (head(("expect", "it")), 417, ("GET", "a.test", "/a?b")),
    (head(*[("x", "y")] * 21), 431, ("GET", "a.test", "/a?b")),
    (head(("x", LONG * 4)), 431, ("GET", "a.test", "/a?b")),
    (head(path="/" + LONG * 2), 414, ("GET", "a.test", "/" + "x" * 932 + "…")),
    (head(path="/" + LONG * 4), 431, ("GET", "a.test", "/" + "x" * 932 + "…")),
]


@pytest.mark.parametrize(("fields", "status", "told"), HTTP2)
def test_over_http2(
    run: Run,
    engine: str,
    serve: Serve,
    capsys: pytest.CaptureFixture[str],
    fields: tuple[Field, ...],
    status: int,
    told: tuple[str, ...],
) -> None:
    async def go() -> None:
        async with (
            serve(str(logged(engine))) as proxy,
            H2Client(proxy.addresses["edge"]) as client,
        ):
            stream = client.open(*fields, end=True)
            await stream.whole()
            assert stream.status == status

    run(go())
    line = line_of(capsys)
    assert line["status"] == status
    assert asked(line) == (*told, "2")
    size = sum(len(name) + len(value) + 32 for name, value in fields)
    # Of a list that is too large only so much is read.
    least = min(size, 16 << 10)
    assert least <= line["head_bytes"] <= size


def test_a_body_over_its_limit_in_the_read_of_its_head(
    run: Run, engine: str, serve: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    async def go() -> None:
        async with (
            serve(str(logged(engine))) as proxy,
            H2Client(proxy.addresses["edge"]) as client,
        ):
            stream = client.ask("/up?x", method="PUT", end=False)
            await stream.send(b"x" * 11, end=True)
            await stream.whole()
            assert stream.status == 413

    run(go())
    line = line_of(capsys)
    assert asked(line) == ("PUT", "a.test", "/up?x", "2")
