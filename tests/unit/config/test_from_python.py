"""A configuration without a file."""

import asyncio
import urllib.request
from asyncio import to_thread

import pytest

import meshcore
from meshcore.downstream.deadlines import TICK_S

PLAIN = {
    "version": 1,
    "listeners": {"edge": {"bind": "127.0.0.1:0"}},
    "routes": [{"name": "hello", "respond": {"body": "hello"}}],
}


def get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=10) as response:
        body: bytes = response.read()
        return body


async def test_plain_data_makes_a_proxy() -> None:
    async with meshcore.Proxy(meshcore.Config.model_validate(PLAIN)) as proxy:
        assert await to_thread(get, proxy.addresses["edge"]) == b"hello"


async def test_without_bounds_of_time_a_proxy_serves() -> None:
    bounds = {"header": 0, "idle": 0, "tls_handshake": 0}
    edge = {"bind": "127.0.0.1:0", "timeouts": bounds}
    config = meshcore.Config.model_validate(PLAIN | {"listeners": {"edge": edge}, "drain": 0})
    async with meshcore.Proxy(config) as proxy:
        # Longer than a tick of the deadlines, so that one in the past would have been seen.
        reader, writer = await asyncio.open_connection(*proxy.addresses["edge"][7:].split(":"))
        for _ in range(2):
            await asyncio.sleep(3 * TICK_S)
            writer.write(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 ")
            assert await reader.readexactly(5) == b"hello"
        writer.close()


async def test_a_missing_upstream_is_refused_by_the_proxy() -> None:
    routes = [{"name": "r", "upstream": "none"}]
    config = meshcore.Config.model_validate(PLAIN | {"routes": routes})
    with pytest.raises(meshcore.ConfigError, match="route r: no upstream named none"):
        meshcore.Proxy(config)
