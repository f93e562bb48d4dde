"""Rows of requests that their endpoint, or the way to it, fails; and of those that are cut."""

from __future__ import annotations

import asyncio
import errno
from typing import Any

from h2.settings import SettingCodes

from meshcore.upstream import pool
from meshcore.upstream.dial import Dialer
from tests.wire.conftest import eventually, nobody
from tests.wire.h2_origin import Call
from tests.wire.origin import Visit
from tests.wire.outcomes import PATH, Bench, Place, Row, fine
from tests.wire.outcomes_client import H2Asker
from tests.wire.outcomes_local import after, begin_and_hold, hold, to, via
from tests.wire.tunnel_ends import h1_request, h2_request

PATIENCE = {"retries": 0, "per_try": "100ms"}


def unreachable(bench: Bench) -> None:
    with nobody() as port:
        bench.mesh.upstream["endpoints"] = [f"127.0.0.1:{port}"]


def nameless(bench: Bench) -> None:
    bench.mesh.upstream["endpoints"] = ["nobody.invalid:80"]


async def reset(place: Place) -> None:
    """Reset the connection, or the stream alone."""
    if isinstance(place.side, Visit):
        place.cut()
    else:
        place.side.cancel(2)


async def refuse(place: Place) -> None:
    """Say that nothing was done (RFC 9113 §8.7)."""
    assert isinstance(place.side, Call)
    place.side.cancel(7)


async def talk_nonsense(place: Place) -> None:
    """Answer something that is not HTTP."""
    if isinstance(place.side, Visit):
        await place.side.send(b"HTTP/1.1 200 OK\r\nbad field\r\n\r\n")
    else:
        place.side.send_head((":status", "200"), ("Upper", "case"), end=True)


async def begin_and_cut(place: Place) -> None:
    """End within the response."""
    await place.begin()
    await place.bench.seen.wait()
    place.cut()


async def begin_and_talk_nonsense(place: Place) -> None:
    """Break the rules within the response."""
    await place.begin()
    await place.bench.seen.wait()
    if isinstance(place.side, Visit):
        await place.side.send(b"nonsense\r\n")
    else:
        place.side.send_head((":status", "200"), ("Upper", "case"), end=True)


async def answer_at_length(place: Place) -> None:
    """More of a head than is taken."""
    await place.answer(("x-large", "v" * 3_000))


async def pour(place: Place) -> None:
    """More than anybody takes."""
    await place.begin()
    if isinstance(place.side, Visit):
        while True:
            await place.side.send(b"10000\r\n" + b"x" * 65_536 + b"\r\n")
    await place.side.send(b"x" * 50_000_000)


async def stale(place: Place) -> None:
    """Work once for each connection."""
    await (reset if place.path == PATH else fine)(place)


def outlived(bench: Bench) -> None:
    """A kept connection is one that has outlived its answer, however soon it is asked for."""
    bench.patch.setattr(pool, "HASTY_NS", 0)


async def agree(place: Place) -> None:
    """To a tunnel."""
    if isinstance(place.side, Visit):
        upgrade = "connection: upgrade\r\nupgrade: websocket\r\n"
        accept = "sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
        await place.side.send(f"HTTP/1.1 101 x\r\n{upgrade}{accept}\r\n".encode())
    else:
        place.side.send_head((":status", "200"))
    await place.hold()


async def say_not_found(place: Place) -> None:
    """A status of gRPC that is an error, with the head or behind it."""
    assert isinstance(place.side, Call)
    await place.begin()
    place.side.send_head(("grpc-status", "5"), end=True)


# --- clients ----------------------------------------------------------------------------------


async def watch(bench: Bench) -> None:
    """See the end of a response that has begun."""
    await bench.client.ask(PATH)
    await bench.client.begun()
    bench.seen.set()
    await torn(bench)


def behind_the_head(seconds: float, *fields: tuple[str, str]) -> Any:
    async def client(bench: Bench) -> None:
        await bench.client.ask(PATH, *fields)
        await bench.client.begun()
        bench.later(seconds)
        await torn(bench)

    return client


async def torn(bench: Bench) -> None:
    """A response that has begun is cut; that of a call ends with a status."""
    if bench.speaks == "grpc":
        bench.got = await bench.client.got()
    else:
        await bench.client.torn()


async def leave_early(bench: Bench) -> None:
    await bench.client.ask(PATH)
    await bench.asked.wait()
    await bench.client.leave()


async def leave_late(bench: Bench) -> None:
    await bench.client.ask(PATH)
    await bench.client.begun()
    await bench.client.leave()


async def take_nothing(bench: Bench) -> None:
    await bench.client.ask(PATH)
    bench.client.fall_silent()
    await eventually(bench.is_choked)
    bench.later(400)


async def tunnel(bench: Bench) -> None:
    await bench.client.tunnel(PATH)
    bench.later(400)
    await bench.client.torn()


async def ask_for_a_tunnel(bench: Bench) -> None:
    client = bench.client
    assert isinstance(client, H2Asker)
    client.stream = client.client.open(*h2_request("websocket", path=PATH), end=False)
    bench.got = await client.got()


async def ask_for_a_tunnel_in_part(bench: Bench) -> None:
    """With a body that does not end."""
    await bench.client.raw(h1_request("websocket", ("transfer-encoding", "chunked"), path=PATH))
    bench.got = await bench.client.got()


async def drained_behind_the_head(bench: Bench) -> None:
    await bench.client.ask(PATH)
    await bench.client.begun()
    stopping = asyncio.create_task(bench.proxy.stop())
    await torn(bench)
    await stopping


async def twice(bench: Bench) -> None:
    await bench.client.ask("/other", body=b"ask")
    await bench.client.got()
    await bench.ask(body=b"ask")


async def ended_with_not_found(bench: Bench) -> None:
    await bench.ask()
    assert bench.got is not None
    assert (bench.got.status, bench.got.grpc) == (200, "5")


def without(what: int) -> Any:
    """The system lacks something."""

    def mesh(bench: Bench) -> None:
        async def fail(dialer: Dialer, *_: object) -> None:
            raise OSError(what, "as asked")

        bench.patch.setattr(Dialer, "connect", fail)

    return mesh


UPSTREAM = [
    Row("connect", "upstream_connect", "answer", "endpoint", "waiting", 502, 14,
        detail="ECONNREFUSED|.*refused.*", mesh=unreachable),
    Row("reset", "upstream_reset", "answer", "endpoint", "asked", 502, 14, detail=".+",
        service=reset),
    Row("protocol", "upstream_protocol", "answer", "endpoint", "asked", 502, 14, detail=".+",
        service=talk_nonsense),
    Row("timeout", "upstream_timeout", "answer", "endpoint", "asked", 504, 4, detail="timeout",
        service=hold, client=after(6), protocols=("h1", "h2")),
    Row("silence", "upstream_idle", "answer", "endpoint", "asked", 504, 4, detail="idle_timeout",
        service=hold, client=after(400), protocols=("grpc",)),
    Row("large answer", "response_too_large", "answer", "proxy", "asked", 502, 14, detail=".+",
        service=answer_at_length, mesh=to(limits={"header_bytes": "2KiB"})),
    Row("refused", "upstream_refused", "answer", "endpoint", "asked", 502, 14, detail=".+",
        service=refuse, protocols=("h2", "grpc")),
    Row("stale", "upstream_stale", "answer", "endpoint", "asked", 502, detail=".+",
        mesh=outlived, service=stale, client=twice, protocols=("h1",)),
    Row("try", "upstream_try_timeout", "answer", "endpoint", "asked", 504, 4, detail="per_try",
        mesh=via(retry=PATIENCE), service=hold, client=after(0.2)),
    Row("name", "upstream_resolve", "answer", "proxy", "waiting", 503, 14, detail=".+",
        mesh=nameless),
    Row("descriptors", "no_resources", "answer", "proxy", "waiting", 503, 14, detail="EMFILE",
        mesh=without(errno.EMFILE)),
    Row("ports", "no_resources", "answer", "proxy", "waiting", 503, 14, detail="EADDRNOTAVAIL",
        mesh=without(errno.EADDRNOTAVAIL)),
    Row("cut", "upstream_reset", "cut", "endpoint", "answering", 200, 14, detail=".+",
        service=begin_and_cut, client=watch),
    Row("protocol behind", "upstream_protocol", "cut", "endpoint", "answering", 200, 14,
        detail=".+", service=begin_and_talk_nonsense, client=watch),
    Row("idle", "upstream_idle", "cut", "endpoint", "answering", 200, 4, detail="idle_timeout",
        service=begin_and_hold, client=behind_the_head(400)),
    Row("deadline behind", "deadline_exceeded", "cut", "client", "answering", 200, 4,
        service=begin_and_hold, client=behind_the_head(6, ("grpc-timeout", "5S")),
        protocols=("grpc",)),
    Row("left", "client_gone", "cut", "client", "asked", 0, detail="(reset by the peer)?",
        service=hold, client=leave_early),
    Row("left behind", "client_gone", "cut", "client", "answering", 200,
        detail="(reset by the peer)?", service=begin_and_hold, client=leave_late),
    Row("untaken", "client_idle", "cut", "client", "answering", 200, detail="idle_timeout",
        service=pour, client=take_nothing),
    Row("tunnel", "tunnel_idle", "cut", "proxy", "tunnel", 101, detail="idle_timeout",
        service=agree, client=tunnel, mesh=via(upgrade=["websocket"]), protocols=("h1",)),
    Row("tunnel", "tunnel_idle", "cut", "proxy", "tunnel", 200, detail="idle_timeout",
        service=agree, client=tunnel, mesh=via(upgrade=["websocket"]), protocols=("h2",)),
    Row("early tunnel", "upgrade_unsupported", "answer", "endpoint", "asked", 501,
        detail="agreed within its body", service=agree, client=ask_for_a_tunnel_in_part,
        mesh=via(upgrade=["websocket"]), protocols=("h1",)),
    Row("no tunnels", "upgrade_unsupported", "answer", "endpoint", "asked", 501,
        detail="the endpoint takes no extended CONNECT", client=ask_for_a_tunnel,
        mesh=via(upgrade=["websocket"]), protocols=("h2",),
        settings={SettingCodes.ENABLE_CONNECT_PROTOCOL: 0}),
    Row("drain behind", "draining", "cut", "proxy", "answering", 200, 14, service=begin_and_hold,
        mesh=lambda bench: bench.mesh.top.update(drain="50ms"), client=drained_behind_the_head),
    Row("answered", "", "passed", "endpoint", "", 200, 0),
    Row("status", "", "passed", "endpoint", "", 200, 5, service=say_not_found,
        client=ended_with_not_found, protocols=("grpc",)),
]  # fmt: skip
