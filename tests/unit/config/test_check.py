"""Configurations made in Python are checked without a file."""

import pytest

from meshcore.config.check import check
from meshcore.config.load import load_text
from meshcore.config.model import Config
from meshcore.errors import ConfigError

GOOD = {
    "version": 1,
    "listeners": {"edge": {"bind": "127.0.0.1:0"}},
    "routes": [{"name": "r", "upstream": "u"}],
    "upstreams": {"u": {"endpoints": ["127.0.0.1:1"]}},
}


def test_a_good_one_passes() -> None:
    check(Config.model_validate(GOOD))


def test_references_are_checked() -> None:
    config = Config.model_validate(GOOD | {"upstreams": {}})
    with pytest.raises(ConfigError) as caught:
        check(config)
    assert str(caught.value) == "routes[0].upstream: there is no upstream named 'u'"


def test_what_was_loaded_can_be_dumped_and_loaded_again() -> None:
    config = load_text(
        "version: 1\nlisteners: {a: {bind: '[::1]:80', limits: {header_bytes: 8KiB}}}\n"
        "upstreams: {u: {endpoints: [unix:/a], ejection: off, connect_timeout: 1m30s,\n"
        "circuit_breaker: {on: [gateway, 400, slow, data-loss], slow_call: 2s}}}\n"
        "routes: [{name: r, upstream: u, retry: {when: [503]}, layers: [limit: {rate: 5/10s}]}]"
    )
    dumped = config.model_dump(mode="json")
    assert Config.model_validate(dumped) == config
