"""What may be said of HTTP/2, and what the parts that speak it are given for it."""

from typing import Any

import pytest

from meshcore.config.compile import compile
from meshcore.config.load import load_text
from meshcore.config.model import Config
from meshcore.config.snapshot import Http2Spec, ListenerSpec, Snapshot, UpstreamSpec
from meshcore.config.units import SECOND
from meshcore.errors import ConfigError

KIB = 1 << 10
MIB = 1 << 20
DEFAULT = Http2Spec(
    engine="native",
    streams=100,
    stream_window_bytes=256 * KIB,
    connection_window_bytes=MIB,
    ping_ns=60 * SECOND,
    ping_timeout_ns=20 * SECOND,
    resets=(100, 200),
    control_frames=(100, 1000),
)
UPSTREAM_DEFAULT = Http2Spec(
    engine="native",
    streams=100,
    stream_window_bytes=256 * KIB,
    connection_window_bytes=MIB,
    ping_ns=360 * SECOND,
    ping_timeout_ns=20 * SECOND,
    resets=(100, 200),
    control_frames=(100, 1000),
)


def text(listener: str = "{}", upstream: str = "") -> str:
    return (
        "version: 1\n"
        f"listeners: {{a: {{bind: a:1, protocols: {listener}}}}}\n"
        f"upstreams: {{u: {{endpoints: [b:1]{upstream}}}}}"
    )


def compiled(listener: str = "{}", upstream: str = "") -> Snapshot:
    return compile(load_text(text(listener, upstream)))


def listener(protocols: str) -> ListenerSpec:
    return compiled(protocols).listeners[0]


def upstream(keys: str) -> UpstreamSpec:
    return compiled(upstream=f", {keys}").upstreams[0]


def spec(**keys: str | int) -> Http2Spec:
    """Of a listener whose `h2` has these keys."""
    written = ", ".join(f"{key}: {value}" for key, value in keys.items())
    found = listener(f"{{h2: {{{written}}}}}").h2
    assert found is not None
    return found


def test_by_default_clients_may_speak_both_and_endpoints_are_spoken_to_in_http1() -> None:
    snapshot = compiled()
    (a,), (u,) = snapshot.listeners, snapshot.upstreams
    assert (a.http1, a.h2) == (True, DEFAULT)
    assert (u.protocol, u.h2) == ("http1", UPSTREAM_DEFAULT)


@pytest.mark.parametrize("word", ["off", "false"])
def test_one_protocol_may_be_off(word: str) -> None:
    assert listener(f"{{http1: {word}}}").http1 is False
    assert listener(f"{{http1: {word}}}").h2 == DEFAULT
    assert listener(f"{{h2: {word}}}").http1 is True
    assert listener(f"{{h2: {word}}}").h2 is None


@pytest.mark.parametrize("word", ["on", "true"])
def test_http1_may_be_said_to_be_on(word: str) -> None:
    assert listener(f"{{http1: {word}}}").http1 is True


def test_every_key_of_a_listener() -> None:
    got = spec(
        engine="python",
        streams=10_000,
        stream_window="16MiB",
        connection_window="1GiB",
        ping=0,
        ping_timeout="1ms",
        resets="10/s",
        control_frames="20/s",
    )
    assert got == Http2Spec(
        "python",
        10_000,
        16 * MIB,
        1 << 30,
        0,
        1_000_000,
        resets=(10, 20),
        control_frames=(20, 1000),
    )


@pytest.mark.parametrize(
    ("rate", "per_second"),
    [("1/365d", 1), ("60/m", 1), ("61/m", 2), ("3/2s", 2), ("1000000000/s", 1_000_000_000)],
)
def test_a_rate_is_rounded_up_to_whole_ones_in_a_second(rate: str, per_second: int) -> None:
    assert spec(resets=rate).resets == (per_second, 2 * per_second)
    assert spec(control_frames=rate).control_frames == (per_second, 1000)


def test_every_key_of_an_upstream() -> None:
    got = upstream(
        "tls: {}, protocol: auto, h2: {engine: python, streams: 1, stream_window: 65535, "
        "connection_window: 65535, ping: 10m, ping_timeout: 1s}"
    )
    assert got.protocol == "auto"
    assert got.h2 == Http2Spec(
        "python", 1, 65_535, 65_535, 600 * SECOND, SECOND, DEFAULT.resets, DEFAULT.control_frames
    )


def test_h2_needs_no_tls() -> None:
    assert upstream("protocol: h2").tls is None


WINDOW = "must be within 65535 and"


@pytest.mark.parametrize(
    ("protocols", "problem"),
    [
        (
            "{http1: off, h2: off}",
            "listeners.a.protocols: http1 and h2 are both off: at least one must be on",
        ),
        ("{http1: maybe}", "protocols.http1: expected on or off, got 'maybe'"),
        ("{http1: 1}", "protocols.http1: expected on or off, got 1"),
        ("{http1: {}}", "protocols.http1: expected on or off, got a mapping"),
        ("{h2: yes}", "protocols.h2: expected a mapping, got 'yes'"),
        ("{h3: on}", "protocols.h3: unknown key (known: h2, http1)"),
        ("{h2: {stream: 1}}", "protocols.h2.stream: unknown key (did you mean streams?)"),
        ("{h2: {engine: rust}}", "protocols.h2.engine: must be native or python, got 'rust'"),
        ("{h2: {streams: 0}}", "h2.streams: must be greater than or equal to 1, got 0"),
        ("{h2: {streams: 10001}}", "h2.streams: must be less than or equal to 10000, got 10001"),
        ("{h2: {stream_window: 65534}}", f"h2.stream_window: {WINDOW} 16MiB"),
        ("{h2: {stream_window: 16777217}}", f"h2.stream_window: {WINDOW} 16MiB"),
        ("{h2: {connection_window: 65534}}", f"h2.connection_window: {WINDOW} 1GiB"),
        ("{h2: {connection_window: 2GiB}}", f"h2.connection_window: {WINDOW} 1GiB"),
        (
            "{h2: {stream_window: 2MiB}}",
            "h2: connection_window (1MiB) must be at least stream_window (2MiB)",
        ),
        ("{h2: {ping: 60}}", "h2.ping: 60 has no unit"),
        ("{h2: {ping_timeout: 0}}", "h2.ping_timeout: must be at least 1ms"),
        ("{h2: {resets: 0/s}}", "h2.resets: '0/s' lets nothing pass"),
        ("{h2: {control_frames: 5}}", "h2.control_frames: 5 has no unit"),
    ],
)
def test_a_listener_with_a_problem(protocols: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_text(text(protocols))
    (only,) = caught.value.problems
    assert problem in str(only)


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ("protocol: auto", "upstreams.u: protocol: auto needs tls, whose ALPN decides"),
        ("protocol: h3", "u.protocol: must be http1, h2 or auto, got 'h3'"),
        ("h2: off", "u.h2: expected a mapping, got 'off'"),
        ("h2: {streams: 10001}", "h2.streams: must be less than or equal to 10000, got 10001"),
        ("h2: {stream_window: 17MiB}", f"h2.stream_window: {WINDOW} 16MiB"),
        ("h2: {connection_window: 128KiB}", "connection_window (128KiB) must be at least"),
        ("h2: {resets: 1/s}", "u.h2.resets: unknown key"),
    ],
)
def test_an_upstream_with_a_problem(keys: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_text(text(upstream=f", {keys}"))
    (only,) = caught.value.problems
    assert problem in str(only)


def test_what_was_loaded_can_be_dumped_and_loaded_again() -> None:
    config = load_text(
        text("{http1: off, h2: {resets: 5/10s}}", ", protocol: h2, h2: {ping: 0}")
        + "\nroutes: [{name: r, upstream: u, upgrade: [connect], retry: {when: [unavailable]}}]"
    )
    dumped: dict[str, Any] = config.model_dump(mode="json")
    assert dumped["listeners"]["a"]["protocols"]["h2"]["resets"] == "5/10s"
    assert Config.model_validate(dumped) == config
    without = load_text(text("{h2: off}"))
    assert Config.model_validate(without.model_dump(mode="json")) == without
