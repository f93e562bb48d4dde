"""Requests that two parsers might read differently: whatever is refused reaches nobody."""

from __future__ import annotations

import pytest

from tests.wire.blame import calling
from tests.wire.client import Client
from tests.wire.conftest import Run, Serve
from tests.wire.either import request
from tests.wire.h2_mesh import Mesh
from tests.wire.origin import Origin, response
from tests.wire.test_forward import mesh

CHUNKED = "transfer-encoding: chunked"
SMUGGLED = "0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n"

# Advisory or section, header lines, body, status.
REFUSED: list[tuple[str, str, str, int]] = [
    ("CVE-2024-1135", f"content-length: 5\r\n{CHUNKED}", SMUGGLED, 400),
    ("RFC 9112 6.3 cl.cl", "content-length: 5\r\ncontent-length: 6", "123456", 400),
    ("RFC 9112 6.3 list", "content-length: 5, 5", "12345", 400),
    ("CVE-2023-40225 empty", "content-length: ", "", 400),
    ("CVE-2021-32715 plus", "content-length: +3", "abc", 400),
    ("minus", "content-length: -0", "", 400),
    ("hexadecimal", "content-length: 0x3", "abc", 400),
    ("underscore", "content-length: 3_0", "abc", 400),
    ("2^64", "content-length: 18446744073709551616", "abc", 400),
    ("space before name", " content-length: 3", "abc", 400),
    ("te.te", f"{CHUNKED}\r\n{CHUNKED}", SMUGGLED, 400),
    ("xchunked", "transfer-encoding: xchunked", SMUGGLED, 501),
    ("identity", "transfer-encoding: identity", SMUGGLED, 501),
    ("RFC 9112 6.3 not last", "transfer-encoding: chunked, identity", SMUGGLED, 400),
    ("vertical tab", "transfer-encoding: \x0bchunked", SMUGGLED, 400),
    ("NUL", "transfer-encoding: chunked\x00", SMUGGLED, 400),
    ("space before colon", "transfer-encoding : chunked", SMUGGLED, 400),
    ("CVE-2023-25725 empty name", ": x", "", 400),
    ("obs-fold", "x: a\r\n b", "", 400),
    ("bare CR", "x: a\rb: c", "", 400),
    ("CVE-2023-30589", "x: a\r\n\rX-Evil: 1", "", 400),
    ("NUL in value", "x: a\x00b", "", 400),
    ("two hosts", "host: b", "", 400),
    ("underscored framing", "content_length: 3", "abc", 400),
]
# Chunked bodies that end the request after its head may have gone out.
BROKEN_CHUNKS = ["0x2\r\nab\r\n", "-1\r\n", "2_0\r\n", " 2\r\nab\r\n", "1" * 17, "2\r\nabc", "2;\n"]


@pytest.mark.parametrize(("why", "lines", "body", "status"), REFUSED, ids=[x[0] for x in REFUSED])
def test_refused_and_seen_by_nobody(
    run: Run, serve: Serve, why: str, lines: str, body: str, status: int
) -> None:
    async def go() -> None:
        async with (
            Origin(response()) as origin,
            serve(mesh(origin.port)) as proxy,
            Client(proxy.addresses["edge"]) as client,
        ):
            request = f"POST / HTTP/1.1\r\nhost: a\r\n{lines}\r\n\r\n{body}"
            await client.send(request.encode("latin-1"))
            reply = await client.reply()
            assert (reply.status, reply.fields["connection"]) == (status, "close"), why
            assert await client.closed() == b""
            assert origin.seen == b""

    run(go())


@pytest.mark.parametrize("chunks", BROKEN_CHUNKS)
def test_a_broken_chunk_ends_it(run: Run, serve: Serve, chunks: str) -> None:
    async def go() -> None:
        async with (
            Origin(response()) as origin,
            serve(mesh(origin.port)) as proxy,
            Client(proxy.addresses["edge"]) as client,
        ):
            head = f"POST / HTTP/1.1\r\nhost: a\r\n{CHUNKED}\r\n\r\n"
            rest = chunks + "\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n"
            await client.send((head + rest).encode())
            assert (await client.reply()).status == 400
            assert await client.closed() == b""
            assert b"smuggled" not in origin.seen

    run(go())


@pytest.mark.parametrize("client", ["http1", "h2"])
def test_a_responses_blank_before_a_colon_is_removed(
    run: Run, serve: Serve, engine: str, client: str
) -> None:
    """RFC 9112 §5.1: what it frames is framed by it, and what is sent on has none."""

    async def go() -> None:
        head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding : chunked\r\nX-A\t: 1\r\n\r\n"
        async with (
            Origin(head + b"3\r\nabc\r\n0\r\n\r\n") as origin,
            serve(str(Mesh(engine, origin.port))) as proxy,
            calling(client, proxy) as caller,
        ):
            for _ in range(2):
                reply = await caller.ask(request())
                assert (reply.status, reply.body, reply.fields["x-a"]) == (200, b"abc", "1")

    run(go())
