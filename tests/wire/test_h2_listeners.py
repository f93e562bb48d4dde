"""What a listener speaks, how it finds out, and how it ends a connection over HTTP/2."""

from __future__ import annotations

import asyncio
import json
import ssl

import pytest
from hyperframe.frame import GoAwayFrame, SettingsFrame

from tests.wire.client import Client
from tests.wire.conftest import Certificates, Run, Serve, eventually, metric
from tests.wire.h2_client import PREFACE, H2Client, RawClient, connect
from tests.wire.h2_mesh import Mesh
from tests.wire.h2_origin import Call, H2Origin
from tests.wire.h2_peer import ResetError
from tests.wire.origin import Origin, response

HELLO = {"name": "all", "respond": {"body": "hello"}}


def hello(engine: str) -> Mesh:
    """A mesh that answers by itself."""
    made = Mesh(engine, 1)
    made.route = HELLO
    return made


async def turns(n: int = 3) -> None:
    """Let the proxy read what was written."""
    for _ in range(n):
        await asyncio.sleep(0)


# --- which protocol ---------------------------------------------------------------------------


def test_a_preface_may_come_in_any_pieces(run: Run, serve: Serve, engine: str) -> None:
    async def go() -> None:
        async with serve(str(hello(engine))) as proxy:
            for size in (*range(1, 24), 30):
                async with RawClient(proxy.addresses["edge"], greets=False) as client:
                    rest = SettingsFrame().serialize() + client.head(1).serialize()
                    data = PREFACE + rest
                    for at in range(0, len(data), size):
                        await client.send(data[at : at + size])
                        await turns()
                    assert await client.status(1) == 200

    run(go())


@pytest.mark.parametrize("method", ["P", "PR", "PRI", "PRIX", "POST", "GET"])
def test_what_only_begins_like_a_preface_is_http1(
    run: Run, serve: Serve, engine: str, method: str
) -> None:
    async def go() -> None:
        async with serve(str(hello(engine))) as proxy, Client(proxy.addresses["edge"]) as client:
            head = f"{method} / HTTP/1.1\r\nhost: a\r\n\r\n".encode()
            for byte in head:
                await client.send(bytes([byte]))
                await turns()
            assert (await client.reply()).body == b"hello"

    run(go())


@pytest.mark.parametrize("sent", [b"", b"PRI * HTTP/2.0\r\n"], ids=["nothing", "half"])
def test_a_client_that_does_not_say_what_it_speaks_has_the_time_of_a_head(
    run: Run, serve: Serve, engine: str, sent: bytes
) -> None:
    async def go() -> None:
        text = str(hello(engine).listen(timeouts={"header": "100ms"}))
        async with serve(text) as proxy, Client(proxy.addresses["edge"]) as client:
            await client.send(sent)
            assert await client.closed() == b""

    run(go())


def test_a_listener_without_h2_refuses_the_preface(run: Run, serve: Serve, engine: str) -> None:
    async def go() -> None:
        text = str(hello(engine).listen(protocols={"h2": "off"}))
        async with serve(text) as proxy, Client(proxy.addresses["edge"]) as client:
            await client.send(PREFACE + SettingsFrame().serialize())
            assert (await client.reply()).status == 505
            assert await client.closed() == b""

    run(go())


def test_a_listener_without_http1_answers_none(run: Run, serve: Serve, engine: str) -> None:
    async def go() -> None:
        text = hello(engine)
        text.listener["protocols"]["http1"] = "off"
        async with serve(str(text)) as proxy:
            async with Client(proxy.addresses["edge"]) as client:
                await client.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
                assert b"HTTP/1" not in await client.closed()
            async with H2Client(proxy.addresses["edge"]) as h2:
                assert (await h2.get()).body == b"hello"
            assert metric(proxy, "meshcore_listener_requests_total") == 1

    run(go())


@pytest.mark.parametrize(
    ("protocols", "offered", "agreed"),
    [
        ({}, ["h2", "http/1.1"], "h2"),
        ({}, ["http/1.1", "h2"], "h2"),
        ({}, ["http/1.1"], "http/1.1"),
        ({"h2": "off"}, ["h2", "http/1.1"], "http/1.1"),
        ({"http1": "off"}, ["h2", "http/1.1"], "h2"),
    ],
)
def test_alpn_offers_what_the_listener_speaks(
    run: Run,
    serve: Serve,
    engine: str,
    certificates: Certificates,
    protocols: dict[str, object],
    offered: list[str],
    agreed: str,
) -> None:
    async def go() -> None:
        text = hello(engine).listen(tls=certificates.listener)
        text.listener["protocols"] |= protocols
        tls = certificates.client(*offered)
        async with serve(str(text)) as proxy:
            _, writer = await connect(proxy.addresses["edge"], tls)
            assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == agreed
            writer.close()
            if agreed == "h2":
                async with H2Client(proxy.addresses["edge"], tls=tls) as client:
                    assert (await client.get()).body == b"hello"

    run(go())


def test_over_tls_a_client_that_names_nothing_means_http1(
    run: Run, serve: Serve, engine: str, certificates: Certificates
) -> None:
    async def ask(url: str) -> bytes:
        reader, writer = await connect(url, certificates.client())
        writer.write(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        try:
            return await reader.read()
        finally:
            writer.close()

    async def go() -> None:
        text = hello(engine).listen(tls=certificates.listener)
        async with serve(str(text)) as proxy:
            assert (await ask(proxy.addresses["edge"])).endswith(b"hello")
        text.listener["protocols"]["http1"] = "off"
        async with serve(str(text)) as proxy:
            with pytest.raises(ssl.SSLError, match="no application protocol"):
                await ask(proxy.addresses["edge"])

    run(go())


def test_connections_of_both_protocols_are_counted_together(
    run: Run, serve: Serve, engine: str
) -> None:
    async def go() -> None:
        text = str(hello(engine).listen(limits={"connections": 2}))
        async with serve(text) as proxy:
            url = proxy.addresses["edge"]
            async with H2Client(url) as one, Client(url) as two:
                assert (await one.get()).status == 200
                assert (await two.get()).status == 200
                assert proxy.connections == 2
                async with H2Client(url) as three:
                    with pytest.raises(ConnectionError):
                        await three.get()
            await eventually(lambda: proxy.connections == 0)
            async with H2Client(url) as four:
                assert (await four.get()).status == 200

    run(go())


# --- the end ----------------------------------------------------------------------------------


def test_an_idle_connection_is_told_and_closed(run: Run, serve: Serve, engine: str) -> None:
    async def go() -> None:
        text = str(hello(engine).listen(timeouts={"idle": "400ms"}))
        async with serve(text) as proxy:
            for asks in (0, 2):
                async with H2Client(proxy.addresses["edge"]) as client:
                    for _ in range(asks):
                        assert (await client.get()).status == 200
                    await client.gone()
                    assert client.goaway is not None
                    assert client.goaway[1] == 0

    run(go())


def test_a_drain_finishes_streams_and_takes_no_more(run: Run, serve: Serve, engine: str) -> None:
    release = asyncio.Event()

    async def slow(call: Call) -> None:
        call.send_head((":status", "200"))
        await call.send(b"begun ")
        await release.wait()
        await call.send(b"done", end=True)

    async def go() -> None:
        async with (
            H2Origin(slow) as origin,
            serve(str(Mesh(engine, origin.port).to("h2"))) as proxy,
            H2Client(proxy.addresses["edge"]) as client,
            H2Client(proxy.addresses["edge"]) as idle,
        ):
            await idle.until(lambda: idle.settled)
            first = client.ask()
            await first.until(lambda: bool(first.body))
            stopping = asyncio.create_task(proxy.stop())
            await idle.gone()
            assert idle.goaway == (0, 0)
            # RFC 9113 §6.8: first a warning, then the number of the last stream. It opens others.
            second = client.ask()
            await client.until(lambda: client.goaway == (second.number, 0))
            late = client.ask()
            release.set()
            assert [await each.whole() for each in (first, second)] == [b"begun done"] * 2
            await client.gone()
            assert not late.lines
            assert len(origin.calls) == 2
            await stopping

    run(go())


def test_what_outlasts_the_drain_is_cut(run: Run, serve: Serve, engine: str) -> None:
    async def never(call: Call) -> None:
        call.send_head((":status", "200"))
        await call.send(b"begun")
        await call.until(lambda: False)

    async def go() -> None:
        async with H2Origin(never) as origin:
            text = Mesh(engine, origin.port).to("h2")
            text.top["drain"] = "100ms"
            async with (
                serve(str(text)) as proxy,
                H2Client(proxy.addresses["edge"]) as client,
            ):
                stream = client.ask()
                await stream.until(lambda: bool(stream.body))
                await proxy.stop()
                with pytest.raises((ConnectionError, ResetError)):
                    await stream.whole()
                assert not stream.ended

    run(go())


def test_a_drain_waits_for_no_client_that_says_nothing(run: Run, serve: Serve, engine: str) -> None:
    async def go() -> None:
        async with serve(str(hello(engine))) as proxy, RawClient(proxy.addresses["edge"]) as client:
            await client.send(client.head(1))
            assert await client.status(1) == 200
            stopping = asyncio.create_task(proxy.stop())
            await client.until(GoAwayFrame, 0)
            await client.ended()  # it answered no PING
            await stopping

    run(go())


@pytest.mark.parametrize("form", ["json", "text"])
def test_the_access_log_names_the_protocol(
    run: Run, serve: Serve, engine: str, capsys: pytest.CaptureFixture[str], form: str
) -> None:
    async def go() -> None:
        async with Origin(response(b"hi")) as origin:
            text = Mesh(engine, origin.port).via(match={"path": {"prefix": "/in"}})
            text.top["access_log"] = form
            async with serve(str(text)) as proxy:
                async with H2Client(proxy.addresses["edge"]) as client:
                    await client.get("/in?a=1", ("x-request-id", "mine"))
                    await client.get("/out")
                async with Client(proxy.addresses["edge"]) as old:
                    await old.get("/in/old")

    run(go())
    lines = capsys.readouterr().out.splitlines()
    if form == "text":
        assert [x.split('"')[1] for x in lines] == [
            "GET a.test/in?a=1 HTTP/2",
            "GET a.test/out HTTP/2",
            "GET a.test/in/old HTTP/1.1",
        ]
        return
    told = [json.loads(line) for line in lines]
    assert [(x["target"], x["protocol"], x["status"], x["reason"]) for x in told] == [
        ("/in?a=1", "2", 200, ""),
        ("/out", "2", 404, "no_route"),
        ("/in/old", "1.1", 200, ""),
    ]
    assert (told[0]["request_id"], told[0]["host"]) == ("mine", "a.test")
