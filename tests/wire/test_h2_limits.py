"""What is too much of one stream is answered there: its neighbours and their connection go on."""

from __future__ import annotations

import asyncio
import textwrap

import pytest

from meshcore import Proxy
from meshcore.config.load import load_text
from tests.wire.conftest import Run, Serve, eventually, gauges
from tests.wire.h2_client import H2Client
from tests.wire.h2_mesh import Mesh
from tests.wire.h2_origin import Call, H2Origin
from tests.wire.h2_peer import Field, Stream
from tests.wire.test_layers import Probe

LIMITS = {"header_bytes": "4KiB", "headers": 10, "target_bytes": "256B", "body_bytes": "10B"}


async def answer(call: Call) -> None:
    await call.whole()
    await call.answer(b"hi")


async def refused(client: H2Client, stream: Stream, status: int, reason: str) -> None:
    await stream.head()
    assert stream.status == status
    assert stream.fields.get("x-mesh-reason", reason) == reason
    assert (await client.get("/fine")).body == b"hi"


@pytest.mark.parametrize(
    ("path", "fields", "body", "status", "reason"),
    [
        ("/" + "a" * 256, (), b"", 414, "uri_too_long"),
        ("/", tuple((f"x-{n}", "y") for n in range(11)), b"", 431, "headers_too_large"),
        ("/", (("cookie", "a=1"),) * 120, b"", 431, "headers_too_large"),
        ("/", (("cookie", ""),) * 120, b"", 431, "headers_too_large"),
        ("/", (("x", "y" * 5_000),), b"", 431, "headers_too_large"),
        ("/", (("content-length", "11"),), b"01234567890", 413, "body_too_large"),
        ("/", (), b"01234567890", 413, "body_too_large"),
        ("/", (("expect", "200-ok"),), b"", 417, "expectation_failed"),
        ("/%2e%2e/..%2f", (), b"", 400, "bad_request"),
    ],
    ids=["target", "fields", "crumbs", "empty crumbs", "bytes", "length", "body", "expect", "path"],
)
def test_what_is_too_much_is_refused_on_its_stream(
    run: Run,
    serve: Serve,
    engine: str,
    path: str,
    fields: tuple[Field, ...],
    body: bytes,
    status: int,
    reason: str,
) -> None:
    async def go() -> None:
        async with (
            H2Origin(answer) as origin,
            serve(str(Mesh(engine, origin.port).to("h2").listen(limits=LIMITS))) as proxy,
            H2Client(proxy.addresses["edge"]) as client,
        ):
            held = client.ask("/held", method="POST", end=False)
            await origin.reached(1)
            stream = client.ask(path, *fields, method="POST", end=False)
            await stream.send(body, end=bool(body))
            await refused(client, stream, status, reason)
            await held.send(b"0123456789", end=True)
            assert await held.whole() == b"hi"
            assert {call.path for call in origin.calls if call.ended} == {"/held", "/fine"}

    run(go())


def test_crumbs_of_a_cookie_are_one_field(run: Run, serve: Serve, engine: str) -> None:
    """RFC 9113 §8.2.3: a client may send as many as it has, for the sake of compression."""
    crumbs = [f"c{n}={n}" for n in range(60)]
    others = [(f"x-{n}", "y") for n in range(9)]

    async def go() -> None:
        async with (
            H2Origin(answer) as origin,
            serve(str(Mesh(engine, origin.port).to("h2").listen(limits=LIMITS))) as proxy,
            H2Client(proxy.addresses["edge"]) as client,
        ):
            fields = [*others[:4], *(("cookie", crumb) for crumb in crumbs), *others[4:]]
            stream = client.ask("/", *fields)
            assert (await stream.whole(), stream.status) == (b"hi", 200)
            assert origin.calls[0].fields["cookie"] == "; ".join(crumbs)
            await refused(client, client.ask("/", *fields, ("x", "y")), 431, "headers_too_large")

    run(go())


@pytest.mark.parametrize("method", ["TRACE", "CONNECT"])
def test_a_method_that_no_route_allows_is_405(
    run: Run, serve: Serve, engine: str, method: str
) -> None:
    async def go() -> None:
        async with (
            H2Origin(answer) as origin,
            serve(str(Mesh(engine, origin.port).to("h2"))) as proxy,
            H2Client(proxy.addresses["edge"]) as client,
        ):
            if method == "CONNECT":
                stream = client.open((":method", method), (":authority", "a:1"), end=False)
            else:
                stream = client.ask(method=method)
            await refused(client, stream, 405, "method_not_allowed")

    run(go())


def test_trailers_are_limited_too(run: Run, serve: Serve, engine: str) -> None:
    async def go() -> None:
        async with (
            H2Origin(answer) as origin,
            serve(str(Mesh(engine, origin.port).to("h2"))) as proxy,
            H2Client(proxy.addresses["edge"]) as client,
        ):
            stream = client.ask("/", method="POST", end=False)
            await stream.send(b"body")
            await origin.reached(1)
            stream.send_head(*((f"x-{n}", "y") for n in range(101)), end=True)
            await refused(client, stream, 431, "headers_too_large")

    run(go())


def test_more_streams_under_way_than_the_listener_allows_are_overflow(
    run: Run, serve: Serve, engine: str
) -> None:
    async def hold(call: Call) -> None:
        await call.whole()
        await release.wait()
        await call.answer(b"hi")

    release = asyncio.Event()

    async def go() -> None:
        async with (
            H2Origin(hold) as origin,
            serve(
                str(Mesh(engine, origin.port).to("h2").listen(layers=[{"in_flight": {"max": 3}}]))
            ) as proxy,
            H2Client(proxy.addresses["edge"]) as client,
        ):
            held = [client.ask() for _ in range(3)]
            await origin.reached(3)
            for _ in range(3):
                assert (await client.get()).fields["x-mesh-reason"] == "overflow"
            release.set()
            for stream in held:
                assert await stream.whole() == b"hi"
            assert (await client.get()).status == 200

    run(go())


def test_a_limiter_counts_streams(run: Run, serve: Serve, engine: str) -> None:
    async def go() -> None:
        limit = {"client_limit": {"rate": "1/m", "burst": 3}}
        async with (
            H2Origin(answer) as origin,
            serve(str(Mesh(engine, origin.port).to("h2").listen(layers=[limit]))) as proxy,
            H2Client(proxy.addresses["edge"]) as client,
        ):
            asked = [client.ask() for _ in range(5)]
            for stream in asked:
                await stream.whole()
            assert [x.status for x in asked] == [200, 200, 200, 429, 429]
            assert int(asked[4].fields["retry-after"]) >= 1

    run(go())


# --- layers in Python -------------------------------------------------------------------------


def test_a_layer_that_waits_holds_up_its_own_stream_only(run: Run, engine: str) -> None:
    async def go() -> None:
        probe = Probe()
        async with H2Origin(answer) as origin:
            layers = [{"python": "test:Probe"}]
            text = str(Mesh(engine, origin.port).to("h2").via(layers=layers))
            async with (
                Proxy(load_text(textwrap.dedent(text)), layers={"test:Probe": probe}) as proxy,
                H2Client(proxy.addresses["edge"]) as client,
            ):
                waiting = client.ask("/", ("x-do", "wait"), method="POST", end=False)
                await probe.reached.wait()
                quick = await client.get()
                assert (quick.fields["x-seen"], bytes(quick.body)) == ("200", b"hi")
                answered = await client.get("/", ("x-do", "answer"))
                assert (answered.status, bytes(answered.body)) == (418, b"tea")
                assert len(origin.calls) == 1
                probe.go.set()
                await waiting.send(b"x" * 100_000, end=True)
                assert await waiting.whole() == b"hi"
                assert origin.calls[1].fields["x-tenant"] == "acme"
                assert len(origin.calls[1].body) == 100_000
            assert gauges(proxy) == {}

    run(go())


def test_a_stream_that_is_cancelled_cancels_its_layer(run: Run, engine: str) -> None:
    async def go() -> None:
        probe = Probe()
        async with H2Origin(answer) as origin:
            layers = [{"python": "test:Probe"}]
            text = str(Mesh(engine, origin.port).to("h2").via(layers=layers))
            async with (
                Proxy(load_text(textwrap.dedent(text)), layers={"test:Probe": probe}) as proxy,
                H2Client(proxy.addresses["edge"]) as client,
            ):
                stream = client.ask("/", ("x-do", "wait"))
                await probe.reached.wait()
                stream.cancel()
                await eventually(lambda: probe.cancelled)
                assert (await client.get()).body == b"hi"
                assert len(origin.calls) == 1
            assert gauges(proxy) == {}

    run(go())
