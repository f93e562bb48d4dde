"""A client that would not come in any more is not served for ever, however it asks."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import hpack
import pytest
from hyperframe.frame import Frame, GoAwayFrame, HeadersFrame, SettingsFrame, WindowUpdateFrame

from meshcore import Proxy
from meshcore.config.load import load_text
from tests.wire.conftest import Certificates, Run, eventually
from tests.wire.h2_client import PREFACE
from tests.wire.h2_mesh import Mesh
from tests.wire.identities import Signer
from tests.wire.tls_streams import TlsStreams

GET = b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n"
BEGUN = 20  # so many bytes of the next request go with each one
HEAD = [(":method", "GET"), (":scheme", "https"), (":path", "/"), (":authority", "a.test")]
NINE_DAYS_S = 9 * 86_400
VERDICTS = pytest.mark.parametrize("verdict", ["revoked", "expired", "unbound"])


class Pipeliner:
    """Over HTTP/1.1: each request goes with the first bytes of the next one."""

    def __init__(self, streams: TlsStreams) -> None:
        self._streams = streams
        self.told = False  # that it is over
        streams.write(GET[:BEGUN])

    async def ask(self) -> int:
        """The status of the next answer."""
        self._streams.write(GET[BEGUN:] + GET[:BEGUN])
        head = (await self._streams.readuntil(b"\r\n\r\n")).decode()
        fields = dict(line.split(": ", 1) for line in head.split("\r\n")[1:-2])
        await self._streams.readexactly(int(fields["content-length"]))
        self.told = fields.get("connection") == "close"
        return int(head.split()[1])


class Streamer:
    """Over HTTP/2: it does not hear GOAWAY, and opens one stream after the other."""

    def __init__(self, streams: TlsStreams) -> None:
        self._streams, self._next = streams, 1
        self._encoder, self._decoder = hpack.Encoder(), hpack.Decoder()
        self.told = False  # which stream is the last
        credit = WindowUpdateFrame(0, window_increment=2**30)
        streams.write(PREFACE + SettingsFrame().serialize() + credit.serialize())

    async def ask(self) -> int:
        """The status of the next answer."""
        number, self._next = self._next, self._next + 2
        block = self._encoder.encode(HEAD)
        head = HeadersFrame(number, block, flags=["END_HEADERS", "END_STREAM"])
        self._streams.write(head.serialize())
        while True:
            frame = await self._frame()
            if isinstance(frame, GoAwayFrame):
                self.told = frame.last_stream_id < number
            elif isinstance(frame, HeadersFrame):
                fields = dict(self._decoder.decode(frame.data, raw=True))
                return int(fields[b":status"])

    async def _frame(self) -> Frame:
        frame, length = Frame.parse_frame_header(memoryview(await self._streams.readexactly(9)))
        frame.parse_body(memoryview(await self._streams.readexactly(length)))
        return frame


def config(certificates: Certificates, auth: dict[str, Any], bind: str = "127.0.0.1:0") -> str:
    mesh = Mesh("native", 1).listen(tls={**certificates.listener, "client_auth": auth}, bind=bind)
    mesh.top["access_log"] = "json"
    mesh.route.pop("upstream")
    mesh.route["respond"] = {"body": "hi"}
    return str(mesh)


@asynccontextmanager
async def asking(who: Any, h2: bool, proxy: Proxy) -> AsyncIterator[Pipeliner | Streamer]:
    at = urlsplit(proxy.addresses["edge"])
    reader, writer = await asyncio.open_connection(at.hostname, at.port)
    streams = TlsStreams(reader, writer, who.client("h2" if h2 else "http/1.1"), "edge.test")
    await streams.shake()
    yield Streamer(streams) if h2 else Pipeliner(streams)
    streams.close()


@pytest.mark.parametrize("h2", [False, True], ids=["h1", "h2"])
def test_the_first_refusal_says_so_in_any_order_of_clients(
    run: Run,
    certificates: Certificates,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    h2: bool,
) -> None:
    monkeypatch.setattr("meshcore.downstream.certified._AT_ONCE", 0)  # its turn never comes
    signer = Signer(tmp_path, "one", certificates)
    who = signer.issue("dns:a.example")
    auth: dict[str, Any] = {"ca": signer.ca}

    async def go() -> None:
        async with (
            Proxy(load_text(config(certificates, auth))) as proxy,
            asking(who, h2, proxy) as client,
        ):
            assert await client.ask() == 200
            auth["crl"] = signer.revoke(who)
            await proxy.reload(load_text(config(certificates, auth)))
            assert await client.ask() == 421
            if h2:  # GOAWAY, and the last stream's number a second later
                with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                    async with asyncio.timeout(5):
                        while not client.told:
                            assert await client.ask() == 421
            assert client.told
            await eventually(lambda: proxy.connections == 0)

    run(go())
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    details = {line["detail"] for line in lines if line["status"] == 421}
    assert details == {"the client of this connection would not be let in any more"}


@VERDICTS
@pytest.mark.parametrize("h2", [False, True], ids=["h1", "h2"])
def test_it_hears_that_it_is_over_and_is_served_no_more(
    run: Run,
    certificates: Certificates,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    verdict: str,
    h2: bool,
) -> None:
    monkeypatch.setattr("meshcore.downstream.certified._LOOK_NS", 0)
    passed_s = [0]
    now = SimpleNamespace(time=lambda: time.time() + passed_s[0])
    monkeypatch.setattr("meshcore.process.worker.time", now)
    signer = Signer(tmp_path, "one", certificates)
    who = signer.issue("dns:a.example")
    auth: dict[str, Any] = {"ca": signer.ca}

    async def judge(proxy: Proxy) -> None:
        if verdict == "expired":
            passed_s[0] = NINE_DAYS_S + 3_600
        elif verdict == "revoked":
            auth["crl"] = signer.revoke(who)
            await proxy.reload(load_text(config(certificates, auth)))
        else:  # the ordinary drain, which ends by itself
            await proxy.reload(load_text(config(certificates, auth, "127.0.0.2:0")))

    async def go() -> None:
        async with (
            Proxy(load_text(config(certificates, auth))) as proxy,
            asking(who, h2, proxy) as client,
        ):
            assert await client.ask() == 200
            await judge(proxy)
            statuses = []
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                async with asyncio.timeout(5):
                    while True:
                        statuses.append(await client.ask())
            await eventually(lambda: proxy.connections == 0)
            if verdict == "revoked":
                assert client.told
                assert set(statuses) == {421}
            elif verdict == "expired":
                assert client.told
                assert statuses[-1] == 421
                assert statuses == sorted(statuses)  # served until somebody looks, and never again

    run(go())
