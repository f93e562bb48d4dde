"""Malformed responses: refused, and mended where their upstream says so."""

from __future__ import annotations

import json
from typing import Any

import pytest

from meshcore import Proxy
from meshcore.config.load import load_text
from tests.wire.client import Client
from tests.wire.conftest import Run, Serve
from tests.wire.either import asking, request
from tests.wire.h2_mesh import Mesh
from tests.wire.origin import Origin, Visit

WORDS = [
    "bare_lf",
    "fold",
    "invalid_names",
    "status_blanks",
    "repeated_length",
    "repeated_chunked",
]
# What an endpoint says, what is wrong with it, and the fields that clients get.
MENDED: dict[str, tuple[bytes, str, dict[str, str]]] = {
    "bare_lf": (
        b"HTTP/1.1 200 OK\nx-one: 1\r\nContent-Length: 2\n\nhi",
        "bare line feed",
        {"x-one": "1"},
    ),
    "fold": (
        b"HTTP/1.1 200 OK\r\nx-one: a \r\n\t b\r\n   \r\nContent-Length: 2\r\n\r\nhi",
        "folded field",
        {"x-one": "a  b"},
    ),
    "invalid_names": (
        b"HTTP/1.1 200 OK\r\nX One: 1\r\n\x01: 1\r\nx-one: 1\r\nfailed to open\r\n"
        b"Content-Length: 2\r\n\r\nhi",
        "invalid field name",
        {"x-one": "1"},
    ),
    "status_blanks": (
        b"HTTP/1.1 \t200\tFine\r\nx-one: 1\r\nContent-Length: 2\r\n\r\nhi",
        "invalid status line",
        {"x-one": "1"},
    ),
    "repeated_length": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nx-one: 1\r\ncontent-length: 2\r\n\r\nhi",
        "more than one content-length",
        {"x-one": "1"},
    ),
    "repeated_chunked": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nx-one: 1\r\n"
        b"transfer-encoding: Chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
        "more than one transfer-encoding",
        {"x-one": "1"},
    ),
}
each_word = pytest.mark.parametrize("word", WORDS)
both = pytest.mark.parametrize("client", ["http1", "h2"])
# What no word makes pass, and why it does not.
REFUSED = {
    "two lengths": (b"Content-Length: 2\r\nContent-Length: 3", "more than one content-length"),
    "a list of two": (b"Content-Length: 2, 3", "content-length is not a number"),
    "signed": (b"Content-Length: +2", "content-length is not a number"),
    "both": (
        b"Content-Length: 2\r\nTransfer-Encoding: chunked",
        "both transfer-encoding and content-length",
    ),
    "a folded length": (b"Content-Length:\r\n 2", "folded framing field"),
    "a folded coding": (b"Transfer-Encoding:\r\n\tchunked", "folded framing field"),
    "a repeated and folded length": (
        b"Content-Length: 2\r\nContent-Length: 2\r\n 2",
        "folded framing field",
    ),
    "a hidden length": (b"Content\x00-Length: 2", "framing field with an invalid name"),
    "a hidden coding": (b"Transfer Encoding: chunked", "framing field with an invalid name"),
    "a coding without a colon": (
        b"Transfer-Encoding chunked",
        "framing field with an invalid name",
    ),
    "another coding": (b"Transfer-Encoding: chunked, gzip", "invalid transfer-encoding"),
    "chunked within another coding": (
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip, chunked",
        "more than one transfer-encoding",
    ),
    "chunked twice and a length": (
        b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\nTransfer-Encoding: chunked",
        "both transfer-encoding and content-length",
    ),
    "a control": (b"x: a\x00b", "invalid field value"),
    "a lone CR": (b"x: a\rb", "invalid field value"),
    "a blank first": (b" x: 1", "blank before the first field"),
}


def mesh(port: int, *words: str) -> Mesh:
    upstream: dict[str, Any] = {"lenient": list(words), "ejection": "off", "circuit_breaker": "off"}
    text = Mesh("native", port).to(**upstream)
    text.top["access_log"] = "json"
    return text


def framed(word: str, client: str) -> dict[str, str]:
    """What says how long the body is, for a client."""
    if word != "repeated_chunked":
        return {"content-length": "2"}
    return {"transfer-encoding": "chunked"} if client == "http1" else {}


def details(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [json.loads(line)["detail"] for line in capsys.readouterr().out.splitlines()]


@each_word
@both
def test_refused_unless_it_is_asked_for(
    run: Run, capsys: pytest.CaptureFixture[str], client: str, word: str
) -> None:
    said, rule, _ = MENDED[word]

    async def go() -> None:
        others = [other for other in WORDS if other != word]
        async with Origin(said) as origin:
            for words in ([], others):
                async with (
                    Proxy(load_text(str(mesh(origin.port, *words)))) as proxy,
                    asking(client, proxy.addresses["edge"]) as ask,
                ):
                    reply = await ask(request())
                    assert (reply.status, reply.fields["x-mesh-reason"]) == (
                        502,
                        "upstream_protocol",
                    )

    run(go())
    assert details(capsys) == [rule, rule]


@each_word
@both
@pytest.mark.parametrize("pieces", [False, True], ids=["whole", "byte by byte"])
def test_mended_where_it_is(run: Run, serve: Serve, client: str, word: str, pieces: bool) -> None:
    said, _, fields = MENDED[word]

    async def handler(visit: Visit) -> None:
        while True:
            await visit.head()
            for piece in [bytes([b]) for b in said] if pieces else [said]:
                await visit.send(piece)

    async def go() -> None:
        async with Origin(handler) as origin, serve(str(mesh(origin.port, word))) as proxy:
            async with asking(client, proxy.addresses["edge"]) as ask:
                for _ in range(2):
                    reply = await ask(request())
                    assert (reply.status, reply.body) == (200, b"hi")
                    got = {k: v for k, v in reply.fields.items() if k not in (":status", "date")}
                    assert got == fields | framed(word, client)
            # The client's is kept, the endpoint's is not.
            assert len(origin.visits) == 2

    run(go())


@each_word
def test_clients_read_a_head_of_ours(run: Run, serve: Serve, word: str) -> None:
    said, _, fields = MENDED[word]

    async def go() -> None:
        async with (
            Origin(said) as origin,
            serve(str(mesh(origin.port, word))) as proxy,
            Client(proxy.addresses["edge"]) as client,
        ):
            await client.send(b"GET / HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n\r\n")
            head, _, body = (await client.closed()).partition(b"\r\n\r\n")
            status, *lines = head.split(b"\r\n")
            framing = framed(word, "http1")
            sent = b"hi" if "content-length" in framing else b"2\r\nhi\r\n0\r\n\r\n"
            assert (status, body) == (b"HTTP/1.1 200 OK", sent)
            lines = sorted(line for line in lines if not line.startswith(b"date: "))
            expected = [f"{name}: {value}" for name, value in (fields | framing).items()]
            assert lines == sorted(line.encode() for line in [*expected, "connection: close"])

    run(go())


def test_a_well_formed_response_keeps_its_connection(run: Run, serve: Serve) -> None:
    said = b"HTTP/1.1 200 OK\r\nX-One : 1\r\nContent-Length: 2\r\n\r\nhi"

    async def go() -> None:
        async with (
            Origin(said) as origin,
            serve(str(mesh(origin.port, *WORDS))) as proxy,
            Client(proxy.addresses["edge"]) as client,
        ):
            for _ in range(3):
                assert (await client.get()).fields["x-one"] == "1"
            assert len(origin.visits) == 1

    run(go())


@pytest.mark.parametrize("case", REFUSED)
@both
def test_framing_is_never_guessed(
    run: Run, capsys: pytest.CaptureFixture[str], client: str, case: str
) -> None:
    lines, rule = REFUSED[case]

    async def go() -> None:
        said = b"HTTP/1.1 200 OK\r\n" + lines + b"\r\n\r\nhi"
        async with (
            Origin(said) as origin,
            Proxy(load_text(str(mesh(origin.port, *WORDS)))) as proxy,
            asking(client, proxy.addresses["edge"]) as ask,
        ):
            assert (await ask(request())).status == 502

    run(go())
    assert details(capsys) == [rule]


@pytest.mark.parametrize(
    ("chunks", "rule"),
    [
        (b"2\nhi\r\n0\r\n\r\n", "invalid byte behind a chunk size"),
        (b"2\r\nhi\n0\r\n\r\n", "invalid chunk line end"),
        (b"0x2\r\nhi\r\n0\r\n\r\n", "invalid byte behind a chunk size"),
        (b"2\r\nhi\r\n0\r\nx: 1\n\r\n", "bare line feed"),
    ],
)
def test_chunks_and_trailers_are_never_mended(
    run: Run, capsys: pytest.CaptureFixture[str], chunks: bytes, rule: str
) -> None:
    async def go() -> None:
        said = b"HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n"
        async with (
            Origin(said + chunks) as origin,
            Proxy(load_text(str(mesh(origin.port, *WORDS)))) as proxy,
            asking("http1", proxy.addresses["edge"]) as ask,
        ):
            assert (await ask(request())).status == 502

    run(go())
    assert details(capsys) == [rule]


@both
def test_what_follows_a_mended_response_answers_nobody(run: Run, serve: Serve, client: str) -> None:
    """Two readers of the first head could end its body in two places."""
    other = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
    said = b"HTTP/1.1 200 OK\nContent-Length: 2\n\nhi"

    async def handler(visit: Visit) -> None:
        await visit.head()
        await visit.send(said)
        await visit.send(other)
        await visit.reader.read()

    async def go() -> None:
        async with (
            Origin(handler) as origin,
            serve(str(mesh(origin.port, *WORDS))) as proxy,
            asking(client, proxy.addresses["edge"]) as ask,
        ):
            assert [(await ask(request())).body for _ in range(3)] == [b"hi"] * 3
            assert len(origin.visits) == 3

    run(go())


def test_interim_responses_too(run: Run, serve: Serve) -> None:
    said = b"HTTP/1.1 103 Early\nlink: a\n b\n\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"

    async def go() -> None:
        async with Origin(said) as origin, serve(str(mesh(origin.port, *WORDS))) as proxy:
            async with asking("http1", proxy.addresses["edge"]) as ask:
                for _ in range(2):
                    reply = await ask(request())
                    assert [head["link"] for head in reply.interim] == ["a b"]
                    assert reply.body == b"hi"
            assert len(origin.visits) == 2

    run(go())


@pytest.mark.parametrize(
    "lines", [b"x: 1\n", b"x: 1\r\n 2\r\n", b"a b: 1\r\n", b"content-length: 0\r\n" * 2]
)
def test_requests_are_never_mended(run: Run, serve: Serve, lines: bytes) -> None:
    async def go() -> None:
        async with (
            Origin(b"") as origin,
            serve(str(mesh(origin.port, *WORDS))) as proxy,
            Client(proxy.addresses["edge"]) as client,
        ):
            await client.send(b"GET / HTTP/1.1\r\nhost: a.test\r\n" + lines + b"\r\n")
            assert (await client.reply()).status == 400
            assert not origin.visits

    run(go())
