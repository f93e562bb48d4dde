"""Rows of requests that we answer ourselves: refused, without a place, at the mercy of a layer."""

from __future__ import annotations

import asyncio
from typing import Any

from h2.settings import SettingCodes

from tests.wire.conftest import eventually, metric
from tests.wire.outcomes import PATH, Bench, Place, Row, fine

LARGE = ("x-large", "v" * 2_000)
ONCE = {"rate": "1/m", "burst": 1}


def listen(**keys: Any) -> Any:
    return lambda bench: bench.mesh.listen(**keys)


def via(**keys: Any) -> Any:
    return lambda bench: bench.mesh.via(**keys)


def to(**keys: Any) -> Any:
    return lambda bench: bench.mesh.upstream.update(keys)


def instead(**keys: Any) -> Any:
    """A route that forwards nothing."""
    return lambda bench: setattr(bench.mesh, "route", {"name": "all", **keys})


async def hold(place: Place) -> None:
    """Never answer."""
    await place.hold()


async def begin_and_hold(place: Place) -> None:
    """Answer in part."""
    await place.begin()
    await place.hold()


async def cut_other(place: Place) -> None:
    """Fail what comes before."""
    if place.path == PATH:
        await fine(place)
    else:
        place.cut()


async def hold_other(place: Place) -> None:
    """Keep what comes before."""
    await (fine if place.path == PATH else hold)(place)


# --- clients ----------------------------------------------------------------------------------


def once_before(path: str = "/other") -> Any:
    """Ask for something else first, and take its answer."""

    async def client(bench: Bench) -> None:
        await bench.client.ask(path)
        await bench.client.got()
        await bench.ask()

    return client


def raw(data: bytes) -> Any:
    """Bytes that are no request."""

    async def client(bench: Bench) -> None:
        await bench.client.raw(data)
        bench.got = await bench.client.got()

    return client


def asking(*fields: tuple[str, str], path: str = PATH) -> Any:
    async def client(bench: Bench) -> None:
        await bench.client.ask(path, *fields)
        bench.got = await bench.client.got()

    return client


def options(*fields: tuple[str, str]) -> Any:
    async def client(bench: Bench) -> None:
        await bench.client.options(PATH, *fields)
        bench.got = await bench.client.got()

    return client


def after(seconds: float) -> Any:
    """The endpoint has the request for so long."""

    async def client(bench: Bench) -> None:
        await bench.client.ask(PATH)
        await bench.asked.wait()
        bench.later(seconds)
        bench.got = await bench.client.got()

    return client


async def connect_to_it(bench: Bench) -> None:
    await bench.client.connect()
    bench.got = await bench.client.got()


async def too_much(bench: Bench) -> None:
    await bench.client.ask(PATH, body=b"x", end=False)
    await bench.asked.wait()
    await bench.client.raw(b"14\r\n" + b"x" * 20)
    bench.got = await bench.client.got()


async def nonsense(bench: Bench) -> None:
    await bench.client.ask(PATH, body=b"x", end=False)
    await bench.asked.wait()
    await bench.client.raw(b"zz\r\n")
    bench.got = await bench.client.got()


async def more_than_said(bench: Bench) -> None:
    """Of a body whose length was told: over HTTP/2 that breaks the stream (RFC 9113 §8.1.1)."""
    await bench.client.ask(PATH, ("content-length", "50"), body=b"x", end=False)
    await eventually(lambda: metric(bench.proxy, "meshcore_listener_requests_total") == 1)
    await bench.client.raw(b"x" * 60)
    await bench.client.torn()


async def slowly(bench: Bench) -> None:
    await bench.client.ask(PATH, body=b"x", end=False)
    await bench.asked.wait()
    bench.later(31)
    bench.got = await bench.client.got()


async def in_a_layer(bench: Bench) -> None:
    await bench.client.ask(PATH)
    await bench.probe.at_work.wait()
    bench.later(31)
    bench.got = await bench.client.got()


async def while_draining(bench: Bench) -> None:
    await bench.client.ask(PATH)
    await bench.asked.wait()
    stopping = asyncio.create_task(bench.proxy.stop())
    bench.got = await bench.client.got()
    await stopping


def behind_another(seconds: float) -> Any:
    """Another request is under way; this one waits so long."""

    async def client(bench: Bench) -> None:
        await bench.client.ask("/other")
        await bench.asked.wait()
        async with bench.another() as second:
            await second.ask(PATH)
            if seconds:
                await eventually(lambda: metric(bench.proxy, "meshcore_upstream_requests") == 2)
                bench.later(seconds)
            bench.got = await second.got()

    return client


LOCAL = [
    Row("bad head", "bad_request", "refused", "client", "", 400,
        client=raw(b"GET / HTTP/1.1\r\nhost: a\r\nbad field\r\n\r\n"), protocols=("h1",)),
    Row("bad chunk", "bad_request", "answer", "client", "asked", 400, detail=".*chunk.*",
        client=nonsense, service=hold, protocols=("h1",)),
    Row("long body", "bad_request", "cut", "client", "head", 0, detail=".+", attempts=0,
        client=more_than_said, protocols=("h2",)),
    Row("connect", "method_not_allowed", "answer", "client", "head", 405, attempts=0,
        client=connect_to_it, protocols=("h1", "h2")),
    Row("slow head", "request_timeout", "refused", "client", "", 408,
        mesh=listen(timeouts={"header": "100ms"}), client=raw(b"GET / HT"), protocols=("h1",)),
    Row("silent body", "request_timeout", "answer", "client", "asked", 408, detail="body idle",
        mesh=via(body_bytes_per_second=0), client=slowly, service=hold, protocols=("h1", "h2")),
    Row("slow body", "request_timeout", "answer", "client", "asked", 408,
        detail="body slower than its least rate", client=slowly, service=hold,
        protocols=("h1", "h2")),
    Row("large body", "body_too_large", "answer", "client", "asked", 413, 8,
        detail="body too large", mesh=listen(limits={"body_bytes": 10}), client=too_much,
        service=hold),
    Row("long target", "uri_too_long", "refused", "client", "", 414,
        mesh=listen(limits={"target_bytes": "256B"}), client=asking(path="/" + "a" * 300)),
    Row("expectation", "expectation_failed", "refused", "client", "", 417,
        client=asking(("expect", "more"))),
    Row("large head", "headers_too_large", "refused", "client", "", 431,
        mesh=listen(limits={"header_bytes": "1KiB"}), client=asking(LARGE)),
    Row("large head for the endpoint", "headers_too_large", "answer", "client", "asked", 431, 13,
        detail=".+", client=asking(LARGE), protocols=("h2", "grpc"),
        settings={SettingCodes.MAX_HEADER_LIST_SIZE: 1_000}),
    Row("coding", "unknown_transfer_coding", "refused", "client", "", 501,
        client=asking(("transfer-encoding", "gzip")), protocols=("h1",)),
    Row("version", "version_not_supported", "refused", "client", "", 505,
        client=raw(b"PRI * HTTP/3.0\r\n\r\n"), protocols=("h1",)),
    Row("no route", "no_route", "answer", "proxy", "head", 404, 12, attempts=0,
        mesh=via(match={"path": {"exact": "/none"}})),
    Row("limiter", "rate_limited", "answer", "proxy", "head", 429, 8, attempts=0,
        detail="limit of the listener",
        mesh=listen(layers=[{"limit": ONCE}]), client=once_before()),
    Row("limiter of clients", "rate_limited", "answer", "proxy", "head", 429, 8, attempts=0,
        detail="client_limit of the route",
        mesh=via(layers=[{"limit": {"rate": "9/s"}}, {"client_limit": ONCE}]),
        client=once_before()),
    Row("limiter by a field", "rate_limited", "answer", "proxy", "head", 429, 8, attempts=0,
        detail="limit by header x-key of the route",
        mesh=via(layers=[{"limit": ONCE | {"key": {"header": "x-key"}}}]),
        client=once_before()),
    Row("limiter with a name", "rate_limited", "answer", "proxy", "head", 429, 8, attempts=0,
        detail="layer per/host of the listener",
        mesh=listen(layers=[{"limit": ONCE | {"key": "host", "name": "per/host"}}]),
        client=once_before()),
    Row("limiter by host", "rate_limited", "answer", "proxy", "head", 429, 8, attempts=0,
        detail="limit by host of the listener",
        mesh=listen(layers=[{"limit": ONCE | {"key": "host"}}]),
        client=once_before()),
    Row("breaker", "breaker_open", "answer", "proxy", "head", 503, 14, attempts=0,
        detail="circuit_breaker of the upstream",
        mesh=to(circuit_breaker={"failures": 1, "open_for": "30s"}), client=once_before(),
        service=cut_other),
    Row("cap of the upstream", "overflow", "answer", "proxy", "waiting", 503, 14,
        detail="limits.pending", mesh=to(limits={"connections": 1, "pending": 0}),
        client=behind_another(0), service=hold_other,
        settings={SettingCodes.MAX_CONCURRENT_STREAMS: 1}),
    Row("last recipient", "max_forwards", "answer", "client", "head", 200, attempts=0,
        client=options(("max-forwards", "0")), protocols=("h1", "h2")),
    Row("circle", "loop_detected", "answer", "proxy", "head", 508, 9, attempts=0,
        mesh=lambda bench: bench.mesh.top.update(via={"name": "me"}),
        client=asking(("via", "1.1 me+edge, 2 me+edge, 1.1 me+edge"))),
    Row("no number of forwards", "bad_request", "answer", "client", "head", 400, attempts=0,
        detail="invalid max-forwards", client=options(("max-forwards", "-1")),
        protocols=("h1", "h2")),
    Row("cap of the route", "overflow", "answer", "proxy", "head", 503, 14, attempts=0,
        detail="in_flight of the route", mesh=via(layers=[{"in_flight": {"max": 1}}]),
        client=behind_another(0), service=hold_other),
    Row("no rule of the listener", "forbidden", "answer", "proxy", "head", 403, 7, attempts=0,
        detail="allow of the listener",
        mesh=listen(layers=[{"allow": {"rules": [{"name": "a", "identities": "any"}]}}])),
    Row("no rule of the route", "forbidden", "answer", "proxy", "head", 403, 7, attempts=0,
        detail="allow of the route", mesh=via(layers=[{"allow": {"rules": []}}])),
    Row("layer raises", "layer_error", "answer", "proxy", "layers", 500, 13, attempts=0,
        detail="Probe", probe=("raise", "")),
    Row("layer raises behind", "layer_error", "answer", "proxy", "looking", 500, 13,
        detail="Probe", probe=("", "raise")),
    Row("layer waits", "layer_error", "answer", "proxy", "layers", 500, 13, attempts=0,
        detail="a layer took over 30 s", probe=("wait", ""), client=in_a_layer),
    Row("layer waits behind", "layer_error", "answer", "proxy", "looking", 500, 13,
        detail="a layer took over 30 s", probe=("", "wait"), client=in_a_layer),
    Row("layer answers", "layer_response", "answer", "proxy", "layers", 418, 2, attempts=0,
        header=False, probe=("answer", "")),
    Row("redirect", "redirect", "answer", "proxy", "head", 308, 2, attempts=0, header=False,
        mesh=instead(redirect={"status": 308, "path": "/there"})),
    Row("direct response", "direct_response", "answer", "proxy", "head", 403, 7, attempts=0,
        header=False, mesh=instead(respond={"status": 403, "body": "no"})),
    Row("drain", "draining", "answer", "proxy", "asked", 503, 14, service=hold,
        mesh=lambda bench: bench.mesh.top.update(drain="50ms"), client=while_draining),
    Row("queue", "queue_timeout", "answer", "proxy", "waiting", 504, 4, detail="timeout",
        mesh=to(limits={"connections": 1}), client=behind_another(6), service=hold_other,
        protocols=("h1", "h2"), settings={SettingCodes.MAX_CONCURRENT_STREAMS: 1}),
    Row("own deadline", "deadline_exceeded", "answer", "client", "asked", 504, 4, service=hold,
        mesh=listen(client_address={"trusted_hops": 1}),
        client=asking(("x-mesh-deadline-ms", "50"))),
    Row("deadline of a call", "deadline_exceeded", "answer", "client", "asked", 504, 4,
        service=hold, client=asking(("grpc-timeout", "50m")), protocols=("grpc",)),
]  # fmt: skip
