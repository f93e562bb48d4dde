"""What goes out without the loop's transport: that it does, and that nobody sees a difference."""

from __future__ import annotations

import asyncio
import socket
import ssl
from urllib.parse import urlsplit

import pytest

from tests.wire.client import Client
from tests.wire.conftest import Certificates, Run, Serve, metric
from tests.wire.h2_mesh import Mesh
from tests.wire.origin import Origin, Visit, response

SENT = "meshcore_listener_sent_natively_total"
GET = b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n"


@pytest.mark.at_once
@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
def test_whole_messages_do_on_both_sides(
    run: Run, serve: Serve, certificates: Certificates, secure: bool
) -> None:
    async def go() -> None:
        async with Origin(response(b"hi"), tls=certificates.origin() if secure else None) as origin:
            mesh = Mesh("native", origin.port).to("http1")
            if secure:
                mesh.to("http1", tls={"ca": certificates.ca}).listen(tls=certificates.listener)
            tls = certificates.client() if secure else None
            async with serve(str(mesh)) as proxy:
                address = proxy.addresses["edge"]
                async with Client(address, tls=tls) as client:
                    for number in range(1, 6):
                        assert (await client.get("/")).body == b"hi"
                        for to in ("upstream", "downstream"):
                            assert metric(proxy, SENT, to=to) == number

    run(go())


@pytest.mark.at_once
@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
def test_a_response_and_the_end_of_its_connection_come_in_this_order(
    run: Run, serve: Serve, certificates: Certificates, secure: bool
) -> None:
    """The last response is written and the connection closed within a turn."""

    async def go() -> None:
        async with Origin(response(b"hi")) as origin:
            mesh = Mesh("native", origin.port).to("http1")
            if secure:
                mesh.listen(tls=certificates.listener)
            tls = certificates.client() if secure else None
            async with serve(str(mesh)) as proxy:
                for _ in range(20):
                    async with Client(proxy.addresses["edge"], tls=tls) as client:
                        reply = await client.get("/", "connection: close")
                        assert (reply.status, reply.body) == (200, b"hi")
                        assert await client.reader.read() == b""
                assert metric(proxy, SENT, to="downstream") == 20

    run(go())


@pytest.mark.at_once
def test_an_answer_over_tls_takes_the_tickets_and_the_end_with_it(
    run: Run, serve: Serve, certificates: Certificates
) -> None:
    """A client that asks with the end of its handshake is woken once."""

    async def go() -> None:
        loop = asyncio.get_running_loop()
        async with Origin(response(b"hi")) as origin:
            mesh = Mesh("native", origin.port).to("http1").listen(tls=certificates.listener)
            async with serve(str(mesh)) as proxy:
                address = urlsplit(proxy.addresses["edge"])
                came, said = ssl.MemoryBIO(), ssl.MemoryBIO()
                tls = certificates.client().wrap_bio(came, said, server_hostname="127.0.0.1")
                with socket.socket() as sock:
                    sock.setblocking(False)
                    await loop.sock_connect(sock, (address.hostname, address.port))
                    while True:
                        try:
                            tls.do_handshake()
                            break
                        except ssl.SSLWantReadError:
                            await loop.sock_sendall(sock, said.read())
                            came.write(await loop.sock_recv(sock, 65_536))
                    tls.write(GET.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"))
                    await loop.sock_sendall(sock, said.read())
                    came.write(await loop.sock_recv(sock, 65_536))
                    assert tls.read().endswith(b"\r\n\r\nhi")
                    assert tls.session is not None
                    assert tls.session.has_ticket
                    assert tls.read() == b""  # its end was said

    run(go())


async def echo(visit: Visit) -> None:
    while head := await visit.head():
        await visit.send(response(head.split(b" ", 2)[1]))


@pytest.mark.at_once
def test_many_connections_at_once_each_get_their_own(run: Run, serve: Serve) -> None:
    """In a turn go out those of all who were read in it; some of them leave within it."""

    async def go() -> None:
        async with Origin(echo) as origin, serve(str(Mesh("native", origin.port))) as proxy:
            address = proxy.addresses["edge"]

            async def visit(number: int) -> None:
                for asked in range(10):
                    async with Client(address) as client:
                        if (number + asked) % 3 == 0:
                            await client.send(GET)
                            continue  # gone, and its number is another's
                        for part in range(3):
                            path = f"/{number}-{asked}-{part}"
                            reply = await client.get(path)
                            assert reply.body == path.encode()

            await asyncio.gather(*(visit(number) for number in range(30)))
            assert metric(proxy, SENT, to="downstream") >= 600

    run(go())
