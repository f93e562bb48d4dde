"""What a limit counts by cannot be varied by whoever is counted."""

from __future__ import annotations

import pytest

from meshcore import ConfigError, Proxy
from meshcore.config.load import load_text
from tests.wire.client import Client
from tests.wire.conftest import Run, Serve
from tests.wire.h2_client import H2Client
from tests.wire.h2_mesh import Mesh
from tests.wire.origin import Origin, response

PLACES = pytest.mark.parametrize("place", ["listener", "route"])
CLIENTS = pytest.mark.parametrize("speaks", ["http1", "h2"])


def limited(engine: str, port: int, place: str, key: object) -> Mesh:
    layers = [{"limit": {"rate": "1/h", "burst": 2, "key": key}}]
    mesh = Mesh(engine, port)
    return mesh.listen(layers=layers) if place == "listener" else mesh.via(layers=layers)


async def statuses(
    proxy: Proxy, speaks: str, *asked: list[tuple[str, str]], host: str = "a.test"
) -> list[int]:
    """Of one request for each list of fields."""
    url, found = proxy.addresses["edge"], []
    if speaks == "h2":
        async with H2Client(url) as client:
            for fields in asked:
                stream = client.open(
                    (":method", "GET"),
                    (":scheme", "http"),
                    (":path", "/"),
                    (":authority", host),
                    *fields,
                )
                await stream.whole()
                found.append(stream.status)
        return found
    for fields in asked:
        async with Client(url) as one:
            lines = "".join(f"{name}: {value}\r\n" for name, value in fields)
            await one.send(f"GET / HTTP/1.1\r\nhost: {host}\r\n{lines}\r\n".encode())
            found.append((await one.reply()).status)
    return found


@PLACES
@CLIENTS
def test_a_second_field_is_no_other_bucket(
    run: Run, serve: Serve, engine: str, speaks: str, place: str
) -> None:
    twice = [("x-api-key", "a"), ("x-api-key", "b")]

    async def go() -> None:
        async with Origin(response(b"hi")) as origin:
            mesh = limited(engine, origin.port, place, {"header": "x-api-key"})
            async with serve(str(mesh)) as proxy:
                assert await statuses(proxy, speaks, twice, twice[:1], twice[:1], twice[:1]) == [
                    400,
                    200,
                    200,
                    429,
                ]
            mesh = limited(engine, origin.port, place, {"header": "x-api-key", "multiple": "join"})
            async with serve(str(mesh)) as proxy:
                joined = [("x-api-key", "a, b")]
                assert await statuses(proxy, speaks, twice, joined, twice, twice[:1]) == [
                    200,
                    200,
                    429,
                    200,
                ]

    run(go())


@PLACES
@CLIENTS
@pytest.mark.parametrize(
    ("missing", "expected"),
    [
        (None, [200, 200, 429]),
        ("share", [200, 200, 429]),
        ("skip", [200, 200, 200]),
        ("reject", [400, 400, 400]),
    ],
)
def test_requests_without_the_field(
    run: Run,
    serve: Serve,
    engine: str,
    speaks: str,
    place: str,
    missing: str | None,
    expected: list[int],
) -> None:
    async def go() -> None:
        key = {"header": "x-api-key"} | ({"missing": missing} if missing else {})
        async with (
            Origin(response(b"hi")) as origin,
            serve(str(limited(engine, origin.port, place, key))) as proxy,
        ):
            assert await statuses(proxy, speaks, [], [], []) == expected

    run(go())


@CLIENTS
@pytest.mark.parametrize(
    "host", ["a.test..", "a.test...", "a..test", ".a.test", ".", "..", "a.test..:80", ".:80"]
)
def test_a_host_with_an_empty_label_is_none(
    run: Run, serve: Serve, engine: str, speaks: str, host: str
) -> None:
    """It would be one host for routes and another for limits, or for who reads it next."""

    async def go() -> None:
        async with Origin(response(b"hi")) as origin:
            mesh = Mesh(engine, origin.port).via(match={"host": "*"})
            async with serve(str(mesh)) as proxy:
                assert await statuses(proxy, speaks, [], host=host) == [400]
            assert not origin.seen

    run(go())


@PLACES
@CLIENTS
@pytest.mark.parametrize(
    "spellings",
    [
        ["a.test", "A.test", "a.test.", "a.test:80", "a.TEST.:8080"],
        ["[2001:db8::1]", "[2001:DB8:0:0::1]", "[2001:db8:0:0:0:0:0:1]:80"],
        ["[::ffff:1.2.3.4]", "[::ffff:102:304]"],
    ],
)
def test_every_spelling_of_a_host_is_one(
    run: Run, serve: Serve, engine: str, speaks: str, place: str, spellings: list[str]
) -> None:
    """For limits and for routes."""

    async def go() -> None:
        async with Origin(response(b"hi")) as origin:
            mesh = limited(engine, origin.port, place, "host")
            async with serve(str(mesh)) as proxy:
                found = [
                    (await statuses(proxy, speaks, [], host=host))[0]
                    for host in [*spellings, spellings[0]]
                ]
                assert found == [200, 200] + [429] * (len(spellings) - 1)
            mesh = Mesh(engine, origin.port).via(match={"host": spellings[0]})
            async with serve(str(mesh)) as proxy:
                for host in spellings:
                    assert await statuses(proxy, speaks, [], host=host) == [200]
                assert await statuses(proxy, speaks, [], host="b.test") == [404]

    run(go())


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("{header: a, missing: drop}", "must be share, skip or reject, got 'drop'"),
        ("{header: a, multiple: first}", "must be reject or join, got 'first'"),
        ("{client: true, missing: skip}", "missing and multiple are for a header"),
        ("{header: a, host: true}", "exactly one of header, client, host"),
    ],
)
def test_keys_that_mean_nothing(key: str, message: str) -> None:
    text = "version: 1\nlisteners: {a: {bind: 'a:1', layers: [{limit: {rate: 1/s, key: %s}}]}}"
    with pytest.raises(ConfigError, match=message):
        load_text(text % key)
