"""The documentation names what there is, and its example works."""

import re
from pathlib import Path

import pytest

from meshcore.config.access_log import AccessLog
from meshcore.config.admin import Admin
from meshcore.config.client_address import ClientAddress, ProxyProtocol
from meshcore.config.http2 import Http2, UpstreamHttp2
from meshcore.config.layers import CircuitBreaker
from meshcore.config.listener import (
    Listener,
    ListenerLimits,
    ListenerProtocols,
    ListenerTimeouts,
    ListenerTls,
)
from meshcore.config.load import load_text
from meshcore.config.model import Config
from meshcore.config.paths import ListenerPaths, RoutePaths
from meshcore.config.route import Match, Retry, Route
from meshcore.config.upstream import Upstream, UpstreamLimits
from meshcore.errors import ConfigError

TEXT = (Path(__file__).parents[3] / "docs" / "configuration.md").read_text()


def test_the_examples_are_configurations() -> None:
    example, *parts = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
    for part in parts:
        load_text(f"version: 1\n{part}")
    with pytest.raises(ConfigError) as caught:
        load_text(example)
    # Only its certificate is not there.
    assert [p.path for p in caught.value.problems] == [
        "listeners.edge.tls.cert",
        "listeners.edge.tls.key",
    ]


@pytest.mark.parametrize(
    "model",
    [
        AccessLog,
        Admin,
        CircuitBreaker,
        ClientAddress,
        Config,
        Http2,
        Listener,
        ListenerLimits,
        ListenerPaths,
        ListenerProtocols,
        ListenerTimeouts,
        ListenerTls,
        Match,
        ProxyProtocol,
        Retry,
        Route,
        RoutePaths,
        Upstream,
        UpstreamHttp2,
        UpstreamLimits,
    ],
)
def test_every_key_is_documented(model: type[Config]) -> None:
    words = {word for code in re.findall(r"`([^`\n]+)`", TEXT) for word in re.findall(r"\w+", code)}
    assert set(model.model_fields) - words == set()
