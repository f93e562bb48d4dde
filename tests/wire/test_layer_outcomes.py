"""What ends a request while layers look at an answer given here: log and counts tell what its
client is told."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from meshcore import Layer, Proxy, Request, Response
from meshcore.config.load import load_text
from tests.wire.client import Client
from tests.wire.conftest import Run, metric
from tests.wire.h2_client import H2Client
from tests.wire.h2_mesh import Mesh


class Look(Layer):
    """Looks at an answer until it may pass."""

    def __init__(self) -> None:
        self.looks = asyncio.Event()
        self.reasons: list[str | None] = []

    async def on_response(self, request: Request, response: Response) -> None:
        self.reasons.append(response.reason)
        self.looks.set()
        await asyncio.Event().wait()


def logged(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def nowhere(engine: str) -> Mesh:
    """No route takes what is asked."""
    mesh = Mesh(engine, 9).via(match={"host": "b.test"}).listen(layers=[{"python": "a:Layer"}])
    mesh.top |= {"access_log": "json", "drain": "200ms"}
    return mesh


@pytest.mark.parametrize(
    ("client", "fault"), [("http1", "too large"), ("http1", "malformed"), ("h2", "too large")]
)
def test_a_fault_of_the_body(
    run: Run, engine: str, client: str, fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status, reason = (413, "body_too_large") if fault == "too large" else (400, "bad_request")

    async def go() -> None:
        look = Look()
        text = str(nowhere(engine).listen(limits={"body_bytes": 20}))
        async with Proxy(load_text(text), layers={"a:Layer": look}) as proxy:
            url = proxy.addresses["edge"]
            if client == "http1":
                async with Client(url) as h1:
                    head = b"POST / HTTP/1.1\r\nhost: a.test\r\ntransfer-encoding: chunked\r\n\r\n"
                    await h1.send(head)
                    await look.looks.wait()
                    await h1.send(b"40\r\n" if fault == "too large" else b"zz\r\n")
                    assert (await h1.reply()).status == status
            else:
                async with H2Client(url) as h2:
                    stream = h2.open(
                        (":method", "POST"),
                        (":scheme", "http"),
                        (":authority", "a.test"),
                        (":path", "/"),
                        end=False,
                    )
                    await look.looks.wait()
                    await stream.send(b"x" * 64)
                    await stream.head()
                    assert int(stream.status) == status
            told = metric(proxy, "meshcore_local_answers_total", reason=reason)
            assert told == 1
        assert look.reasons == ["no_route"]

    run(go())
    (line,) = logged(capsys)
    assert (line["status"], line["reason"], line["by"]) == (status, reason, "client")


@pytest.mark.parametrize("client", ["http1", "h2"])
def test_the_end_of_a_drain(
    run: Run, engine: str, client: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async def go() -> None:
        look = Look()
        async with Proxy(load_text(str(nowhere(engine))), layers={"a:Layer": look}) as proxy:
            url = proxy.addresses["edge"]
            if client == "http1":
                async with Client(url) as h1:
                    await h1.send(b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n")
                    await look.looks.wait()
                    reply, _ = await asyncio.gather(h1.reply(), proxy.stop())
                    assert reply.status == 503
            else:
                async with H2Client(url) as h2:
                    asking = asyncio.create_task(h2.get())
                    await look.looks.wait()
                    reply2, _ = await asyncio.gather(asking, proxy.stop())
                    assert reply2.status == 503

    run(go())
    (line,) = logged(capsys)
    assert (line["status"], line["reason"], line["by"]) == (503, "draining", "proxy")
