"""A configuration without a file."""

import urllib.request
from asyncio import to_thread

import pytest

import meshcore

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


async def test_a_missing_upstream_is_refused_by_the_proxy() -> None:
    routes = [{"name": "r", "upstream": "none"}]
    config = meshcore.Config.model_validate(PLAIN | {"routes": routes})
    with pytest.raises(meshcore.ConfigError, match="route r: no upstream named none"):
        meshcore.Proxy(config)
