"""A request that comes back to us goes round three times, and not until its head is full."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from meshcore import ConfigError, Proxy
from meshcore.config.load import load_text
from tests.wire.blame import PROTOCOLS, TOUCHY, blamed, every_way
from tests.wire.conftest import Run, Serve, metric
from tests.wire.either import asking, request, response, service
from tests.wire.h2_mesh import Mesh
from tests.wire.test_fields import through

LOOP = (508, "loop_detected")
every_protocol = pytest.mark.parametrize("protocol", PROTOCOLS)


def port_of(proxy: Proxy, listener: str = "edge") -> str:
    return proxy.addresses[listener].rpartition(":")[2]


@asynccontextmanager
async def ring(serve: Serve, mesh: Mesh) -> AsyncIterator[Proxy]:
    """A proxy whose endpoint it is itself."""
    async with serve(str(mesh)) as proxy:
        mesh.upstream["endpoints"] = [f"127.0.0.1:{port_of(proxy)}"]
        await proxy.reload(load_text(str(mesh)))
        yield proxy


@every_protocol
@pytest.mark.parametrize("visits", [None, 1, 5])
@pytest.mark.parametrize("name", [None, "edge-7"])
def test_a_ring_ends_after_a_few_visits_and_blames_nobody(
    run: Run, serve: Serve, engine: str, protocol: str, visits: int | None, name: str | None
) -> None:
    via = {"name": name, "max_visits": visits}
    mesh = Mesh(engine, 1).to(protocol, mesh="on", **TOUCHY)
    mesh.top["via"] = {key: value for key, value in via.items() if value is not None}

    async def go() -> None:
        async with ring(serve, mesh) as proxy, asking(protocol, proxy.addresses["edge"]) as ask:
            for number in (1, 2):
                found = await ask(request())
                assert (found.status, found.fields["x-mesh-reason"]) == LOOP
                arrivals = metric(proxy, "meshcore_listener_requests_total")
                assert arrivals == number * ((visits or 3) + 1)
                answers = metric(proxy, "meshcore_local_answers_total", reason="loop_detected")
                assert answers == number
            assert blamed(proxy) == set()

    run(go())


def test_a_loop_is_told_before_it_is_charged(run: Run, serve: Serve) -> None:
    """Else one request in a circle would use up what all have."""
    mesh = Mesh("native", 1).to("http1", mesh="on")
    mesh.listen(layers=[{"limit": {"rate": "1/h", "burst": 3}}])

    async def go() -> None:
        async with ring(serve, mesh) as proxy, asking("http1", proxy.addresses["edge"]) as ask:
            assert (await ask(request())).fields["x-mesh-reason"] == "loop_detected"

    run(go())


@every_way
def test_two_listeners_in_a_row_are_no_loop(
    run: Run, engine: str, client: str, endpoint: str
) -> None:
    """Each has a mark of its own."""
    text: dict[str, Any] = {
        "version": 1,
        "via": {"name": "one.two", "max_visits": 1},
        "listeners": {
            name: {"bind": "127.0.0.1:0", "protocols": {"h2": {"engine": engine}}}
            for name in ("edge", "in/ner")
        },
        "routes": [
            {"name": "in", "listeners": ["edge"], "upstream": "inner"},
            {"name": "out", "listeners": ["in/ner"], "upstream": "origin"},
        ],
    }

    async def go() -> None:
        async with service(endpoint, lambda _: response(b"hi")) as origin:

            def leading(inner: object) -> str:
                ports = {"inner": inner, "origin": origin.port}
                text["upstreams"] = {
                    name: {
                        "endpoints": [f"127.0.0.1:{port}"],
                        "protocol": endpoint,
                        "h2": {"engine": engine},
                    }
                    for name, port in ports.items()
                }
                return json.dumps(text)

            async with Proxy(load_text(leading(1))) as proxy:
                await proxy.reload(load_text(leading(port_of(proxy, "in/ner"))))
                async with asking(client, proxy.addresses["edge"]) as ask:
                    for _ in range(3):
                        assert (await ask(request())).body == b"hi"
            (asked, *_) = origin.asked
            mark = asked.fields["via"]  # the last of two fields
            assert re.fullmatch(r"(1\.1|2) one\.two\+in!ner", mark)

    run(go())


@every_protocol
def test_who_forges_the_mark_hurts_nobody_else(run: Run, engine: str, protocol: str) -> None:
    async def go() -> None:
        async with through(protocol, protocol, engine) as (ask, origin):
            await ask(request())
            mark = origin.asked[0].fields["via"].split()[1]
            assert re.fullmatch(r"meshcore-[0-9a-f]{16}\+edge", mark)
            for via, passes in (
                (f"1.1 {mark}, 1.0 {mark}", True),
                (f"1.1 {mark}, 1.0 {mark} (x), 2 {mark.upper()}", False),
                (f"HTTP/1.1 {mark},2 x,2 {mark},,2 {mark}(x)", False),
                (f"1.1 x (, 1.1 {mark}, 1.1 {mark}, 1.1 {mark}", False),
                (f"1.1 {mark}x, 1.1 x{mark}, {mark}, {mark}, 1.1 {mark}:1", True),
                (", ".join(f"1.1 proxy-{n}" for n in range(500)), True),
            ):
                before = len(origin.asked)
                # No word of a client takes it away.
                listed = [("connection", "via")] if protocol == "http1" else []
                found = await ask(request("GET", "/", ("via", via), *listed))
                assert (found.status == 200) is passes, via
                if not passes:
                    assert (found.status, found.fields["x-mesh-reason"]) == LOOP
                assert len(origin.asked) == before + passes
                assert (await ask(request())).status == 200

    run(go())


def test_the_mark_stays_over_a_reload(run: Run, serve: Serve) -> None:
    async def go() -> None:
        async with service("http1", lambda _: response(b"hi")) as origin:
            mesh = Mesh("native", origin.port)
            async with serve(str(mesh)) as proxy, asking("http1", proxy.addresses["edge"]) as ask:
                await ask(request())
                await proxy.reload(load_text(str(mesh.listen(timeouts={"idle": "60s"}))))
                await ask(request())
                mesh.top["via"] = {"name": "mine"}
                await proxy.reload(load_text(str(mesh)))
                await ask(request())
        first, second, third = (asked.fields["via"] for asked in origin.asked)
        assert first == second
        assert third == "1.1 mine+edge"

    run(go())


@pytest.mark.parametrize("name", ["", "a b", "a/b", "a,b", "-a", "a+b", "x" * 65, "\u00e9"])
def test_what_is_no_pseudonym(name: str) -> None:
    listeners = {"a": {"bind": "a:1"}}
    text = json.dumps({"version": 1, "via": {"name": name}, "listeners": listeners})
    with pytest.raises(ConfigError, match="a pseudonym is one word"):
        load_text(text)
