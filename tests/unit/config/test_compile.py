"""What the core and Python's parts are given for a configuration."""

import base64
import json
from pathlib import Path

import pytest
from tests.full_json import FULL, full

from meshcore._core import CodecLimits, ServerCodec
from meshcore.config.compile import compile
from meshcore.config.load import load_file, load_text
from meshcore.config.snapshot import AdminSpec, Http2Spec, UpstreamTlsSpec
from meshcore.config.units import SECOND
from meshcore.errors import CodecError, ConfigError

DATA = Path(__file__).parents[2] / "data"


def test_core_json_is_what_the_core_is_tested_with() -> None:
    # tests/rust/snapshot_json.rs reads the same file with serde.
    assert full() == json.loads(FULL.read_text()), "write it: python -m tests.full_json"


def test_listeners() -> None:
    edge, local = compile(load_file(DATA / "full.yaml")).listeners
    assert (edge.name, edge.host, edge.port, edge.unix_path) == ("edge", "0.0.0.0", 8443, None)
    assert (local.name, local.host, local.port, local.unix_path) == (
        "local",
        "",
        0,
        "/run/mesh.sock",
    )
    assert (edge.http1, local.http1, local.h2) == (True, True, None)
    assert edge.h2 == Http2Spec(
        engine="python",
        streams=200,
        stream_window_bytes=128 << 10,
        connection_window_bytes=2 << 20,
        ping_ns=30 * SECOND,
        ping_timeout_ns=5 * SECOND,
        resets=(2, 4),
        control_frames=(50, 1000),
    )
    assert edge.header_timeout_ns == 10 * SECOND
    assert edge.idle_timeout_ns == 75 * SECOND
    assert edge.tls_handshake_timeout_ns == 5 * SECOND
    assert edge.max_connections == 10_000
    assert (edge.header_bytes, edge.headers, edge.target_bytes) == (65_536, 100, 4_096)
    assert (edge.body_bytes, local.body_bytes) == (10_000_000, None)
    assert (edge.refused, edge.keep_slashes) == (("strict_target",), True)
    usual = ("encoded_slash", "encoded_backslash", "bad_escapes")
    assert (local.refused, local.keep_slashes) == (usual, False)


def test_what_is_refused_has_the_names_of_keys() -> None:
    with pytest.raises(ValueError, match="no key of paths: slashes"):
        CodecLimits().with_paths(["encoded_slash", "slashes"], False)


def test_no_bound_of_time_is_a_year() -> None:
    zero = "{header: 0, idle: 0, tls_handshake: 0}"
    config = load_text(f"version: 1\nlisteners: {{a: {{bind: a:1, timeouts: {zero}}}}}")
    (a,) = compile(config).listeners
    bounds = {a.header_timeout_ns, a.idle_timeout_ns, a.tls_handshake_timeout_ns}
    assert bounds == {365 * 86_400 * SECOND}


def test_upstreams_admin_and_drain() -> None:
    snapshot = compile(load_file(DATA / "full.yaml"))
    api, plain = snapshot.upstreams
    assert api.tls == UpstreamTlsSpec(None, chain_pem=None, key_pem=None)
    assert api.server_name == "api.internal"
    assert (api.connect_timeout_ns, plain.connect_timeout_ns) == (SECOND, 5 * SECOND)
    assert (api.max_connections, api.max_pending) == (100, 200)
    assert (api.header_bytes, api.headers) == (32 << 10, 50)
    assert (plain.header_bytes, plain.headers) == (64 << 10, 100)
    assert (api.pool_idle_ns, api.pool_lifetime_ns) == (30 * SECOND, 3600 * SECOND)
    assert (plain.tls, plain.server_name) == (None, None)
    assert (api.protocol, plain.protocol) == ("auto", "h2")
    assert (api.h2.engine, api.h2.streams, api.h2.ping_ns) == ("python", 50, 600 * SECOND)
    tokens = str(DATA / "admin.token")
    assert snapshot.admin == AdminSpec(
        host="",
        port=0,
        unix_path="/run/mesh-admin.sock",
        mode=0o660,
        token_file=tokens,
        token=b"a-token-of-tests",
        read_only=True,
        hosts=("mesh.example.com", "*.svc.example.com"),
    )
    assert "a-token" not in repr(snapshot)
    assert set(snapshot.files) == {tokens, str(DATA / "ticket.keys")}
    lines = (DATA / "ticket.keys").read_text().splitlines()[1:]
    assert snapshot.ticket_keys == tuple(map(base64.b64decode, lines))
    assert "ticket_keys" not in repr(snapshot)
    assert (snapshot.drain_ns, snapshot.drain_delay_ns) == (12 * SECOND, SECOND)
    assert (snapshot.workers, snapshot.watchdog_ns, snapshot.watch) == (3, 60 * SECOND, True)
    assert (snapshot.segment_max_bytes, snapshot.buffer_total_bytes) == (128 << 20, 32 << 20)


@pytest.mark.parametrize(
    ("rate", "burst"),
    [("100/s", 100), ("6000/m", 100), ("1/m", 1), ("5/10s", 1), ("3/ms", 3000)],
)
def test_a_burst_is_by_default_what_a_second_brings(rate: str, burst: int) -> None:
    config = load_text(
        f"version: 1\nlisteners: {{a: {{bind: a:1, layers: [limit: {{rate: {rate}}}]}}}}"
    )
    (layer,) = compile(config).resources["listeners"]["a"]["layers"]
    assert layer["limit"]["rate"]["burst"] == burst


def test_defaults_are_those_of_the_core() -> None:
    config = load_text(
        "version: 1\n"
        "listeners: {a: {bind: a:1}}\n"
        "upstreams: {u: {endpoints: [b:1]}}\n"
        "routes: [{name: r, upstream: u}]"
    )
    resources = compile(config).resources
    upstream = resources["upstreams"]["u"]
    # `Breaker::default()` and `Ejection::default()` of `snapshot`, spelt out.
    assert upstream["breaker"] == {
        "failures": 5,
        "failure_percent": 50,
        "min_calls": 20,
        "window_ns": 10 * SECOND,
        "successes": 2,
        "probes": 1,
        "open_for_ns": 30 * SECOND,
        "max_open_for_ns": 300 * SECOND,
        "on": None,
        "slow_call_ns": 0,
        "probe_timeout_ns": 30 * SECOND,
    }
    assert upstream["client_share_percent"] == 80
    assert upstream["ejection"] == {
        "failures": 5,
        "eject_for_ns": 30 * SECOND,
        "max_eject_for_ns": 300 * SECOND,
        "max_percent": 50,
    }
    (route,) = resources["hosts"]["*"]
    assert route["path"] == "any"
    # `Retry::default()`.
    assert route["retry"] == {
        "retries": 1,
        "per_try_ns": 0,
        "connect": True,
        "refused": True,
        "reset": True,
        "statuses": [],
        "grpc_statuses": [],
    }
    assert route["upgrade"] == []
    assert (route["timeout_ns"], route["idle_ns"]) == (15 * SECOND, 300 * SECOND)
    assert route["body_bytes_per_second"] is None
    assert resources["listeners"]["a"]["body_bytes_per_second"] == 500
    assert resources["buffer_total"] == 64 << 20


def test_a_probe_lasts_as_long_as_any_of_its_routes_waits() -> None:
    config = load_text(
        "version: 1\n"
        "listeners: {a: {bind: a:1}}\n"
        "upstreams: {u: {endpoints: [b:1]}, v: {endpoints: [b:2]}, w: {endpoints: [b:3]}}\n"
        "routes:\n"
        "  - {name: r, upstream: u, timeout: 20m, match: {path: {prefix: /r}}}\n"
        "  - {name: s, upstream: u, timeout: 40s, match: {path: {prefix: /s}},\n"
        "     layers: [circuit_breaker: {}]}\n"
        "  - {name: t, upstream: v, timeout: 5s, match: {path: {prefix: /t}},\n"
        "     layers: [circuit_breaker: {}]}\n"
    )
    resources = compile(config).resources
    of_upstreams = {k: x["breaker"]["probe_timeout_ns"] for k, x in resources["upstreams"].items()}
    assert of_upstreams == {"u": 1200 * SECOND, "v": 30 * SECOND, "w": 30 * SECOND}
    of_routes = {
        route["name"]: each["circuit_breaker"]["probe_timeout_ns"]
        for route in resources["hosts"]["*"]
        for each in route["layers"]
    }
    assert of_routes == {"s": 40 * SECOND, "t": 30 * SECOND}


@pytest.mark.parametrize("written", ["35%", '"35"', "35"])
def test_every_percentage_is_written_with_or_without_its_sign(written: str) -> None:
    config = load_text(
        "version: 1\n"
        "listeners: {a: {bind: a:1}}\n"
        "upstreams:\n"
        "  u:\n"
        "    endpoints: [b:1]\n"
        f"    limits: {{client_share: {written}}}\n"
        f"    ejection: {{max_percent: {written}}}\n"
        f"    retry_budget: {{percent: {written}}}\n"
        f"    circuit_breaker: {{failure_percent: {written}}}"
    )
    upstream = compile(config).resources["upstreams"]["u"]
    assert upstream["client_share_percent"] == 35
    assert upstream["ejection"]["max_percent"] == 35
    assert upstream["retry_budget_percent"] == 35
    assert upstream["breaker"]["failure_percent"] == 35
    written_back = config.model_dump(mode="json")["upstreams"]["u"]
    assert written_back["limits"]["client_share"] == "35%"
    assert written_back["ejection"]["max_percent"] == "35%"
    assert written_back["retry_budget"]["percent"] == "35%"
    assert written_back["circuit_breaker"]["failure_percent"] == "35%"


@pytest.mark.parametrize(
    ("when", "refused", "statuses", "grpc_statuses"),
    [
        ("refused", True, [], []),
        ("503, refused", True, [503], []),
        ("unavailable", False, [], [14]),
        ("unavailable, resource-exhausted, internal, cancelled", False, [], [1, 8, 13, 14]),
        ("deadline-exceeded, 504, deadline-exceeded", False, [504], [4]),
        ("", False, [], []),
    ],
)
def test_what_is_tried_again(
    when: str, refused: bool, statuses: list[int], grpc_statuses: list[int]
) -> None:
    config = load_text(
        "version: 1\n"
        "listeners: {a: {bind: a:1}}\n"
        f"routes: [{{name: r, respond: {{}}, retry: {{when: [{when}]}}}}]"
    )
    (route,) = compile(config).resources["hosts"]["*"]
    assert route["retry"]["refused"] is refused
    assert route["retry"]["statuses"] == statuses
    assert route["retry"]["grpc_statuses"] == grpc_statuses


NOTHING = {
    "connect": False,
    "reset": False,
    "timeout": False,
    "slow": False,
    "statuses": [],
    "grpc_statuses": [],
}


@pytest.mark.parametrize(
    ("on", "compiled"),
    [
        ("connect", {"connect": True}),
        ("reset, timeout", {"reset": True, "timeout": True}),
        ("slow", {"slow": True}),
        ("gateway, 504, 400", {"statuses": [400, 502, 503, 504]}),
        ("5xx, gateway, 599, 429", {"statuses": [429, *range(500, 600)]}),
        ("unauthenticated, cancelled, data-loss", {"grpc_statuses": [1, 15, 16]}),
        ("unknown, invalid-argument, not-found", {"grpc_statuses": [2, 3, 5]}),
        ("already-exists, permission-denied", {"grpc_statuses": [6, 7]}),
        ("failed-precondition, aborted, out-of-range", {"grpc_statuses": [9, 10, 11]}),
        ("unimplemented, internal, unavailable", {"grpc_statuses": [12, 13, 14]}),
        ("deadline-exceeded, resource-exhausted", {"grpc_statuses": [4, 8]}),
    ],
)
def test_what_a_breaker_counts(on: str, compiled: dict[str, object]) -> None:
    config = load_text(
        "version: 1\n"
        "listeners: {a: {bind: a:1}}\n"
        "upstreams: {u: {endpoints: [b:1]}}\n"
        "routes: [{name: r, upstream: u, layers: "
        f"[circuit_breaker: {{on: [{on}], slow_call: 3s}}]}}]"
    )
    (route,) = compile(config).resources["hosts"]["*"]
    rules = route["layers"][0]["circuit_breaker"]
    assert rules["on"] == NOTHING | compiled
    assert rules["slow_call_ns"] == 3 * SECOND


def test_a_route_with_two_hosts_stands_under_both_and_once_under_each() -> None:
    config = load_text(
        "version: 1\n"
        "listeners: {a: {bind: a:1}}\n"
        "routes: [{name: r, match: {host: [x, y, X]}, respond: {}}]"
    )
    hosts = compile(config).resources["hosts"]
    assert {host: [r["name"] for r in routes] for host, routes in hosts.items()} == {
        "x": ["r"],
        "y": ["r"],
    }


def test_codec_limits_are_what_the_codec_is_made_with() -> None:
    edge, _ = compile(load_file(DATA / "full.yaml")).listeners
    head = b"GET / HTTP/1.1\r\nhost: a\r\nx: %b\r\n\r\n"
    assert ServerCodec(edge.codec_limits(), False).receive(head % (b"y" * 60_000)) is not None
    with pytest.raises(CodecError):
        ServerCodec(edge.codec_limits(), False).receive(head % (b"y" * 66_000))
    long = b"GET /%b HTTP/1.1\r\nhost: a\r\n\r\n"
    assert ServerCodec(edge.codec_limits(), False).receive(long % (b"y" * 4_095)) is not None
    with pytest.raises(CodecError):
        ServerCodec(edge.codec_limits(), False).receive(long % (b"y" * 4_096))


@pytest.mark.parametrize("mode", ["0660", "'0660'", "660", "0o660", "'660'"])
def test_a_mode_is_read_by_its_digits(mode: str) -> None:
    text = f"version: 1\nlisteners: {{a: {{bind: a:1}}}}\nadmin: {{bind: unix:/a, mode: {mode}}}"
    config = load_text(text)
    admin = compile(config).admin
    assert admin is not None
    assert (admin.mode, config.model_dump(mode="json")["admin"]["mode"]) == (0o660, "0660")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "is empty: it holds the token"),
        (b" \r\n", "is empty: it holds the token"),
        (b"a b", "holds more than a token: one word of visible ASCII characters"),
        (b"a\nb\n", "holds more than a token: one word of visible ASCII characters"),
        ("ä".encode(), "holds more than a token: one word of visible ASCII characters"),
        (b"a\0", "holds more than a token: one word of visible ASCII characters"),
        (b"a" * 4097, "holds more than a token: at most 4096 bytes"),
    ],
)
def test_what_is_no_token(tmp_path: Path, content: bytes, told: str) -> None:
    tokens = tmp_path / "token"
    tokens.write_bytes(b"good\r\n")
    file = tmp_path / "mesh.yaml"
    file.write_text(
        "version: 1\nlisteners: {a: {bind: a:1}}\nadmin: {bind: b:1, token_file: token}"
    )
    config = load_file(file)
    admin = compile(config).admin
    assert admin is not None
    assert admin.token == b"good"
    tokens.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load_file(file)
    assert str(caught.value) == f"{file}:3:32: admin.token_file: {tokens} {told}"
    with pytest.raises(ConfigError) as caught:  # it was changed in between, or made in Python
        compile(config)
    assert str(caught.value) == f"admin.token_file: {tokens} {told}"
