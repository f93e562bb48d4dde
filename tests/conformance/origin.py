"""`python -m tests.conformance.origin`: HTTP/1.1 that answers every request with 200 and a body.

It reads the whole request first, chunks and trailers too, as h2spec expects of an origin.
"""

from __future__ import annotations

import asyncio
import contextlib

BODY = b"hello from the origin\n"
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: %d\r\n\r\n" % len(BODY)


def fields(head: bytes) -> dict[str, str]:
    """The fields of a head, by name in lower case; of two lines with one name the last."""
    lines = (line.partition(":") for line in head.decode("latin-1").split("\r\n")[1:])
    return {name.lower(): value.strip() for name, _, value in lines if name}


async def read_body(reader: asyncio.StreamReader, of: dict[str, str]) -> None:
    """Read what follows a head."""
    if "chunked" not in of.get("transfer-encoding", "").lower():
        await reader.readexactly(int(of.get("content-length", "0")))
        return
    while size := int((await reader.readline()).split(b";")[0], 16):
        await reader.readexactly(size + 2)
    while (await reader.readline()).strip():
        pass  # a trailer


async def visit(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One connection, until the proxy closes it or asks for that."""
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            of = fields(head)
            if of.get("expect", "").lower() == "100-continue":
                writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            await read_body(reader, of)
            writer.write(HEAD if head.startswith(b"HEAD ") else HEAD + BODY)
            await writer.drain()
            if of.get("connection", "").lower() == "close":
                break
    writer.close()


async def serve() -> None:
    """Serve on a free port, and say which."""
    server = await asyncio.start_server(visit, "127.0.0.1", 0)
    print(f"listening 127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve())
