"""One address of a client for limits, log, layers and endpoints, over any pair of protocols."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from meshcore import Layer, Proxy, Request
from meshcore.config.load import load_text
from tests.wire.blame import every_way
from tests.wire.conftest import Run
from tests.wire.either import Ask, Service, asking, request, response, service
from tests.wire.h2_mesh import Mesh

NEAR = ["127.0.0.0/8", "10.0.0.0/8"]
FAR = ["10.0.0.0/8"]
HEADERS = {
    "x-forwarded-for": "6.6.6.6, 1.1.1.{}, 10.0.0.1",
    "forwarded": 'for=6.6.6.6, for="1.1.1.{}:4711", for=10.0.0.1;proto=https',
    "x-real-ip": "1.1.1.{}",
}


class Seen(Layer):
    """Notes who asks, and tries to be somebody else."""

    def __init__(self) -> None:
        self.clients: list[str | None] = []

    def on_request(self, request: Request) -> None:
        self.clients.append(request.client)
        for name in HEADERS:
            request.set_header(name, "9.9.9.9")


@asynccontextmanager
async def through(
    client: str, endpoint: str, engine: str, layer: Layer | None, **listener: Any
) -> AsyncIterator[tuple[Ask, Service]]:
    """A client of a proxy that admits one request an hour from each address, and logs."""
    async with service(endpoint, lambda _: response(b"hi")) as origin:
        mesh = Mesh(engine, origin.port).to(endpoint).listen(**listener)
        mesh.top["access_log"] = "json"
        python = [{"python": "a:Seen"}] if layer else []
        mesh.via(layers=[*python, {"client_limit": {"rate": "1/h", "burst": 1}}])
        layers = {"a:Seen": layer} if layer else {}
        async with (
            Proxy(load_text(str(mesh)), layers=layers) as proxy,
            asking(client, proxy.addresses["edge"]) as ask,
        ):
            yield ask, origin


def logged(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [json.loads(line)["client"] for line in capsys.readouterr().out.splitlines()]


@every_way
@pytest.mark.parametrize("header", HEADERS)
def test_the_client_that_a_trusted_proxy_names(
    run: Run,
    engine: str,
    capsys: pytest.CaptureFixture[str],
    client: str,
    endpoint: str,
    header: str,
) -> None:
    layer = Seen()

    async def go() -> None:
        trust = {"trusted": NEAR, "header": header}
        async with through(client, endpoint, engine, layer, client_address=trust) as (ask, _):
            for last, status in ((1, 200), (1, 429), (2, 200)):
                field = (header, HEADERS[header].format(last))
                assert (await ask(request("GET", "/", field))).status == status

    run(go())
    expected = ["1.1.1.1", "1.1.1.1", "1.1.1.2"]
    assert layer.clients == expected
    assert logged(capsys) == expected


@every_way
@pytest.mark.parametrize("header", HEADERS)
def test_a_peer_that_is_not_trusted_names_nobody(
    run: Run,
    engine: str,
    capsys: pytest.CaptureFixture[str],
    client: str,
    endpoint: str,
    header: str,
) -> None:
    layer = Seen()

    async def go() -> None:
        trust = {"trusted": FAR, "header": header}
        async with through(client, endpoint, engine, layer, client_address=trust) as (ask, _):
            for last, status in ((1, 200), (2, 429)):
                fields = [(name, value.format(last)) for name, value in HEADERS.items()]
                assert (await ask(request("GET", "/", *fields))).status == status

    run(go())
    assert layer.clients == ["127.0.0.1"] * 2
    assert logged(capsys) == ["127.0.0.1"] * 2


@every_way
@pytest.mark.parametrize("header", HEADERS)
@pytest.mark.parametrize("trusted", [True, False])
def test_an_endpoint_is_told_the_same_address(
    run: Run, engine: str, client: str, endpoint: str, header: str, trusted: bool
) -> None:
    others = [("x-forwarded-proto", "https"), ("x-forwarded-user", "ann"), ("x-mesh-a", "b")]
    told: dict[str, Callable[[dict[str, str]], bool]]
    if trusted:
        told = {
            "x-forwarded-for": lambda fields: (
                fields["x-forwarded-for"] == "6.6.6.6, 1.1.1.1, 10.0.0.1, 127.0.0.1"
            ),
            "forwarded": lambda fields: (
                fields["x-forwarded-for"] == "1.1.1.1, 127.0.0.1"
                and fields["forwarded"].endswith("for=127.0.0.1;proto=http")
            ),
            "x-real-ip": lambda fields: (
                fields["x-forwarded-for"] == "1.1.1.1, 127.0.0.1"
                and fields["x-real-ip"] == "1.1.1.1"
            ),
        }
    else:
        told = dict.fromkeys(HEADERS, lambda fields: "1.1.1.1" not in str(fields))

    async def go() -> None:
        trust = {"trusted": NEAR if trusted else FAR, "header": header}
        async with through(client, endpoint, engine, None, client_address=trust) as (ask, origin):
            # What the header in use does not say is not to be believed.
            fields = {"x-forwarded-for": "6.6.6.6"} | {header: HEADERS[header].format(1)}
            await ask(request("GET", "/", *fields.items(), *others))
            (asked,) = origin.asked
            assert told[header](asked.fields), asked.fields
            assert (dict(others).items() <= asked.fields.items()) is trusted
            if not trusted:
                assert asked.fields["x-forwarded-for"] == "127.0.0.1"
                assert "6.6.6.6" not in str(asked.fields)

    run(go())


@every_way
@pytest.mark.parametrize("trusted", [True, False])
def test_a_deadline_is_a_trusted_peers_alone(
    run: Run, engine: str, client: str, endpoint: str, trusted: bool
) -> None:
    async def go() -> None:
        trust = {"trusted": NEAR if trusted else FAR}
        async with through(client, endpoint, engine, None, client_address=trust) as (ask, origin):
            got = await ask(request("GET", "/", ("x-mesh-deadline-ms", "0")))
            assert got.status == (504 if trusted else 200)
            assert len(origin.asked) == (0 if trusted else 1)

    run(go())


def test_a_reload_changes_whom_open_connections_speak_for(run: Run) -> None:
    """A network that is taken out of the list is believed nothing from the next request on."""

    def text(trusted: list[str], port: int) -> str:
        return str(Mesh("native", port).listen(client_address={"trusted": trusted}))

    async def go() -> None:
        async with (
            service("http1", lambda _: response(b"hi")) as origin,
            Proxy(load_text(text(NEAR, origin.port))) as proxy,
            asking("http1", proxy.addresses["edge"]) as ask,
        ):
            sent = request("GET", "/", ("x-forwarded-for", "1.1.1.1"))
            await ask(sent)
            await proxy.reload(load_text(text(FAR, origin.port)))
            await ask(sent)
            told = [asked.fields["x-forwarded-for"] for asked in origin.asked]
            assert told == ["1.1.1.1, 127.0.0.1", "127.0.0.1"]

    run(go())
