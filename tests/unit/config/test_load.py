"""Every problem is told at once, with its place, and a hint where one can be guessed."""

import gc
import time
from pathlib import Path

import pytest

import meshcore
from meshcore.config import document
from meshcore.config.compile import compile
from meshcore.config.load import load_file, load_text
from meshcore.errors import ConfigError

GOOD = "version: 1\nlisteners: {edge: {bind: 127.0.0.1:8080}}\n"


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_text(text, "mesh.yaml")
    return [str(p) for p in caught.value.problems]


def test_the_least_configuration() -> None:
    config = load_text(GOOD)
    assert list(config.listeners) == ["edge"]
    assert config.admin is None


def test_what_is_no_configuration_at_all_is_named() -> None:
    told = r"^text: expected YAML, got .*mesh.yaml.*: load_file reads a file$"
    with pytest.raises(TypeError, match=told):
        load_text(Path("mesh.yaml"))  # type: ignore[arg-type]
    told = r"^config: expected a Config, as meshcore.load_file gives it, got 'mesh.yaml'$"
    with pytest.raises(TypeError, match=told):
        meshcore.Proxy("mesh.yaml")  # type: ignore[arg-type]


def test_everything_wrong_is_told_at_once(tmp_path: Path) -> None:
    file = tmp_path / "mesh.yaml"
    file.write_text(
        """\
version: 1
listeners:
  edge:
    bind: 0.0.0.0:8443
    tls: {cert: edge.pem, key: edge.key}
    layerz: []
    limits: {connections: 0, header_bytes: 64K}
    timeouts: {header: 10, idle: 75s}
routes:
  - name: api
    listeners: [edg]
    match: {path: {prefix: v1}, methods: [get]}
    upstrem: api
  - name: api
    upstream: apii
upstreams:
  api:
    endpoints: [127.0.0.1:9001]
    connect_timeout: 1s
    connect_timeout: 2s
"""
    )
    with pytest.raises(ConfigError) as caught:
        load_file(file)
    missing = "No such file or directory"
    assert [str(p).removeprefix(f"{file}:") for p in caught.value.problems] == [
        f"5:17: listeners.edge.tls.cert: cannot read {tmp_path}/edge.pem: {missing}",
        f"5:32: listeners.edge.tls.key: cannot read {tmp_path}/edge.key: {missing}",
        "6:5: listeners.edge.layerz: unknown key (did you mean layers?)",
        "7:27: listeners.edge.limits.connections: must be greater than or equal to 1, got 0",
        "7:44: listeners.edge.limits.header_bytes: "
        "K may mean two things: write KiB (2^10) or kB (10^3)",
        "8:24: listeners.edge.timeouts.header: "
        "10 has no unit: expected a duration such as 30s, 250ms or 5m",
        "11:17: routes[0].listeners[0]: there is no listener named 'edg' (did you mean edge?)",
        "12:28: routes[0].match.path.prefix: a path begins with /",
        "12:43: routes[0].match.methods[0]: methods are case-sensitive: write GET",
        "13:5: routes[0].upstrem: unknown key (did you mean upstream?)",
        "14:11: routes[1].name: 'api' is the name of routes[0] too",
        "15:15: routes[1].upstream: there is no upstream named 'apii' (did you mean api?)",
        "20:5: upstreams.api: duplicate key 'connect_timeout' (first on line 19)",
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "mesh.yaml:1:1: the document is empty"),
        ("# only a comment\n", "mesh.yaml:1:1: the document is empty"),
        ("a: [1", "mesh.yaml:1:4: the [ that begins here is not closed"),
        ("a: b: c", "mesh.yaml:1:4: a value with a colon and a space in it must be in quotes"),
        ("a: *x", "mesh.yaml:1:4: no anchor named 'x'"),
        ("a: &x [*x]", "mesh.yaml:1:8: a: alias 'x' stands within its own anchor"),
        ("[a]: 1", "mesh.yaml:1:1: a key is a text, not a list or mapping"),
        ("- 1\n--- \n- 2", "mesh.yaml:2:1: more than one document in the file"),
        ("hello", "mesh.yaml:1:1: expected a mapping, got 'hello'"),
        (GOOD + "drain: !!python/name:os.system ''", "is not supported"),
        (GOOD + "drain: !secret x", "mesh.yaml:3:8: tag !secret is not supported"),
        (GOOD + "<<: {drain: 1s}", "merge keys are not supported (write the keys out)"),
        ("version: 2\nlisteners: {a: {bind: a:1}}", "mesh.yaml:1:10: version: must be 1, got 2"),
        ("version: 1", "mesh.yaml:1:1: listeners: required key is missing"),
        ("version: 1\nlisteners: {}", "at least 1"),
        ("version: 1\nlisteners: []", "2:1: listeners: expected a mapping, got a list"),
        ("version: 1\nlisteners: {'a b': {bind: a:1}}", "a name is one word"),
        (GOOD + "upstreams: {u: {}}", "3:13: upstreams.u.endpoints: required key is missing"),
        (
            "version: 1\nlisteners: {a: {bind: unix:/a}}\nadmin: {bind: unix:/a}",
            "3:15: admin.bind: unix:/a is taken by listeners.a",
        ),
        (GOOD + "admin: {bind: a:1, mode: 0600}", "mode is for a unix socket: bind is none"),
        (GOOD + "admin: {bind: unix:/a, mode: 0888}", "expected the mode of a file, such as"),
        (GOOD + "admin: {bind: unix:/a, mode: 66}", "expected the mode of a file, such as"),
        (GOOD + "admin: {bind: unix:/a, mode: on}", "expected the mode of a file, such as"),
        (GOOD + "admin: {bind: unix:/a, mode: 0060}", "expected the mode of a file, such as"),
        (GOOD + "admin: {bind: unix:/a, mode: '0060'}", "0060 keeps its owner out"),
        (GOOD + "admin: {bind: a:1, hosts: ['a:1']}", "a host is matched without its port"),
        (
            GOOD + "admin: {bind: a:1, token_file: /nowhere/x}",
            "admin.token_file: cannot read /nowhere/x: No such file or directory",
        ),
        (GOOD + "admin: {bind: 127.0.0.1:8080}", "127.0.0.1:8080 is taken by listeners.edge"),
        (GOOD + "admin: {bind: 127.0.0.1:99999}", "'99999' is not a port: 0 to 65535"),
        (GOOD + "drain: 1", "1 has no unit"),
        (GOOD + "buffer_total: 5GiB", "buffer_total: must be within 0 and 4GiB"),
        (GOOD + "buffer_total: 64M", "buffer_total: M may mean two things: write MiB"),
        (
            "version: 1\nlisteners: {a: {bind: a:1, limits: {body_bytes_per_second: off}}}",
            "listeners.a.limits.body_bytes_per_second: expected a whole number, got 'off'",
        ),
        (
            GOOD + "upstreams: {u: {endpoints: [b:1], limits: {client_share: 0%}}}",
            "upstreams.u.limits.client_share: 0% lets nothing pass: must be at least 1%",
        ),
        (
            GOOD + "upstreams: {u: {endpoints: [b:1], limits: {client_share: 101}}}",
            "upstreams.u.limits.client_share: 101 is not within 0% and 100%",
        ),
        (
            GOOD + "upstreams: {u: {endpoints: [b:1], limits: {client_share: 0.8}}}",
            "upstreams.u.limits.client_share: 0.8 is not a whole percentage: write 80%",
        ),
        (GOOD + "routes: [{name: r}]", "exactly one of upstream, redirect, respond is needed"),
        (GOOD + "routes: [{name: r, respond: {status: 204, body: x}}]", "204 has no body"),
        (GOOD + "routes: [{name: r, redirect: {}}]", "at least one of scheme, host, port, path"),
        (
            GOOD + "routes: [{name: r, redirect: {host: 'a:1', port: 2}}]",
            "routes[0].redirect: a port is given twice: in host and as port",
        ),
        (GOOD + "routes: [{name: r, respond: {}, match: {path: {}}}]", "none given"),
        (GOOD + "routes: [{name: r, respond: {}, layers: [{}]}]", "none given"),
        (
            GOOD + "routes: [{name: r, respond: {}, match: {path: {regex: /(a}}}]",
            "routes[0].match.path.regex: bad regex: unclosed group",
        ),
        (
            GOOD + "routes: [{name: r, respond: {}, match: {headers: {a: {regex: '(?=a)'}}}}]",
            "routes[0].match.headers.a.regex: bad regex: look-around, including look-ahead",
        ),
        (
            GOOD + "routes: [{name: r, respond: {}, match: {path: {regex: '(a{99}){9999}'}}}]",
            "bad regex: regex compiles to more than 1 MiB",
        ),
        (
            GOOD + "routes: [{name: r, respond: {}, match: {path: {prefix: /a%zz}}}]",
            "routes[0].match.path.prefix: ",
        ),
        (GOOD + "routes: [{name: r, respond: {}, rewrite: {path: /}}]", "needs an upstream"),
        (
            GOOD + "routes: [{name: r, respond: {}, response_headers: {remove: [a]}}]",
            "response_headers needs an upstream",
        ),
        (
            GOOD + "routes: [{name: r, respond: {}, upgrade: [websocket]}]",
            "routes[0]: upgrade needs an upstream",
        ),
        (
            GOOD + "routes: [{name: r, respond: {}, layers: [circuit_breaker: {}]}]",
            "a circuit_breaker needs an upstream",
        ),
        (
            GOOD + "routes: [{name: r, respond: {}, request_headers: {set: {Host: a}}}]",
            "host cannot be changed: use rewrite.host",
        ),
        (
            GOOD + 'routes: [{name: r, respond: {}, request_headers: {set: {a: "b\\r\\nc"}}}]',
            "one line",
        ),
    ],
)
def test_a_single_problem(text: str, problem: str) -> None:
    (only,) = problems(text)
    assert problem in only


def test_two_listeners_with_the_same_address() -> None:
    text = "version: 1\nlisteners:\n  a: {bind: 0.0.0.0:80}\n  b: {bind: 0.0.0.0:80}\n"
    assert problems(text) == [
        "mesh.yaml:4:13: listeners.b.bind: 0.0.0.0:80 is taken by listeners.a"
    ]
    load_text(text.replace(":80}", ":0}"))


def test_an_endpoint_stands_once_in_its_upstream() -> None:
    endpoints = (
        "upstreams: {u: {endpoints: [b:1, 'B:1', {address: b:1}, b:2]}, v: {endpoints: [b:1]}}"
    )
    assert problems(GOOD + endpoints) == [
        f"mesh.yaml:3:{column}: upstreams.u.endpoints[{number}]: b:1 stands there already "
        "(use weight)"
        for number, column in ((1, 34), (2, 41))
    ]


def test_texts_that_yaml_1_1_would_change() -> None:
    config = load_text(
        GOOD
        + "upstreams: {no: {endpoints: [a:1], circuit_breaker: off, ejection: false}}\n"
        + "routes: [{name: on, upstream: no, request_headers: {set: {x-day: 2024-01-01, yes: NO}}}]"
    )
    assert config.upstreams["no"].circuit_breaker is None
    assert config.upstreams["no"].ejection is None
    assert config.routes[0].name == "on"
    assert config.routes[0].request_headers.set == {"x-day": "2024-01-01", "yes": "NO"}


def test_an_alias_stands_for_what_its_anchor_holds() -> None:
    config = load_text(
        "version: 1\n"
        "listeners:\n"
        "  a: {bind: a:1, limits: &small {connections: 5}}\n"
        "  b: {bind: a:2, limits: *small}\n"
    )
    assert config.listeners["b"].limits.connections == 5


def test_aliases_that_expand_to_billions_are_refused_at_once() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    begun = time.process_time()
    assert any("aliases expand to too much" in p for p in problems("\n".join(lines)))
    assert time.process_time() - begun < 5


@pytest.mark.parametrize("bracket", ["[", "{a: "])
def test_nesting_is_bounded(bracket: str) -> None:
    at_limit = document.parse(bracket * document.MAX_DEPTH + {"[": "]", "{a: ": "}"}[bracket] * 32)
    assert at_limit.problems == []
    (only,) = problems(bracket * 100_000)
    assert "nested deeper than 32" in only


def test_a_file_is_read_up_to_its_bound(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("meshcore.config.include.MAX_BYTES", len(GOOD))
    file = tmp_path / "mesh.yaml"
    file.write_text(GOOD)
    load_file(file)
    file.write_text(GOOD + " ")
    with pytest.raises(ConfigError, match="larger than"):
        load_file(file)


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    file = tmp_path / "mesh.yaml"
    file.write_bytes(b"version: 1\nx: \xff\n")
    with pytest.raises(ConfigError, match=r":2:1: not UTF-8"):
        load_file(file)
    file.write_bytes(b"version: 1\nx: \x07\n")
    with pytest.raises(ConfigError, match=r":2:4: not YAML"):
        load_file(file)


def test_a_missing_file_is_the_systems_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_file(tmp_path / "none.yaml")


def test_ten_thousand_routes_load_in_ten_seconds() -> None:
    routes = "".join(
        f"""\
  - name: route-{i}
    match: {{host: h{i}.example.com, path: {{prefix: /v{i}}}, methods: [GET]}}
    upstream: u{i % 100}
    timeout: 5s
    layers:
      - limit: {{rate: 100/s, burst: 10}}
"""
        for i in range(10_000)
    )
    upstreams = "".join(f"  u{i}: {{endpoints: [127.0.0.1:{9000 + i}]}}\n" for i in range(100))
    text = f"{GOOD}routes:\n{routes}upstreams:\n{upstreams}"
    begun = time.process_time()  # others may be at work beside it
    snapshot = compile(load_text(text))
    size = len(snapshot.core_json())
    taken = time.process_time() - begun
    assert len(snapshot.resources["hosts"]) == 10_000
    assert size > 1_000_000
    assert taken < 10, f"{taken:.1f} s"
    assert gc.isenabled()


@pytest.mark.parametrize(("rate", "burst"), [("1/365d", 2), ("1/s", 4_503_600)])
def test_a_bucket_that_hardly_refills(rate: str, burst: int) -> None:
    layers = f"routes: [{{name: r, respond: {{}}, layers: [limit: {{rate: {rate}, burst: %d}}]}}]"
    (only,) = problems(GOOD + layers % burst)
    assert "over 52 days to refill" in only


def test_the_slowest_bucket() -> None:
    load_text(
        GOOD + "routes: [{name: r, respond: {}, layers: [limit: {rate: 1/s, burst: 4503599}]}]"
    )


BREAKER = "layers: [circuit_breaker: {%s}]"
ROUTE = GOOD + "upstreams: {u: {endpoints: [b:1]}}\nroutes: [{name: r, upstream: u, %s}]"


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ("upgrade: websocket", "routes[0].upgrade: expected a list, got 'websocket'"),
        ("upgrade: [WebSocket]", "upgrade[0]: write websocket: protocols are in lower case"),
        ("upgrade: [CONNECT]", "upgrade[0]: write connect: protocols are in lower case"),
        ("upgrade: [connect, 'a b']", "routes[0].upgrade[1]: 'a b' is not a name (RFC 9110"),
        ("upgrade: [spdy/]", "upgrade[0]: '' is not a name"),
        ("upgrade: [a/b/c]", "upgrade[0]: 'b/c' is not a name"),
        (
            "upgrade: [h2c]",
            "upgrade[0]: h2c cannot be upgraded to: a plain listener speaks it from the start",
        ),
        ("upgrade: [H2C]", "h2c cannot be upgraded to"),
        (
            f"upgrade: [{', '.join(['a'] * 17)}]",
            "routes[0].upgrade: has 17 items: at most 16 may be in it",
        ),
        (
            "retry: {when: [not-found]}",
            "routes[0].retry.when[0]: expected connect, refused, reset, 5xx, cancelled, "
            "deadline-exceeded, internal, resource-exhausted, unavailable or a status from 400 "
            "to 599, got 'not-found'",
        ),
        ("retry: {when: [14]}", "or a status from 400 to 599, got 14"),
        ("retry: {per_try: 2}", "routes[0].retry.per_try: 2 has no unit"),
        ("retry: {per_try: -1s}", "routes[0].retry.per_try: '-1s' is not a duration"),
        ("retry: {per_tri: 1s}", "routes[0].retry.per_tri: unknown key (did you mean per_try?)"),
        (
            "body_bytes_per_second: -1",
            "routes[0].body_bytes_per_second: must be greater than or equal to 0, got -1",
        ),
        (
            "body_bytes_per_second: 1KiB",
            "routes[0].body_bytes_per_second: expected a whole number, got '1KiB'",
        ),
        ("retry: {when: [conect]}", "got 'conect' (did you mean connect?)"),
        (
            BREAKER % "on: [conect]",
            "routes[0].layers[0].circuit_breaker.on[0]: expected connect, reset, timeout, gateway, "
            "5xx, slow, a status from 400 to 599 or a gRPC status such as unavailable, "
            "got 'conect' (did you mean connect?)",
        ),
        (BREAKER % "on: [data_loss]", "got 'data_loss' (did you mean data-loss?)"),
        (BREAKER % "on: [600]", "as unavailable, got 600"),
        (BREAKER % "on: [ok]", "as unavailable, got 'ok'"),
        (BREAKER % "on: [true]", "as unavailable, got true"),
        (BREAKER % "on: [[500]]", "as unavailable, got a list"),
        (BREAKER % "on: []", "circuit_breaker.on: is empty: at least 1 item must be in it"),
        (
            BREAKER % "on: 500",
            "circuit_breaker.on: expected a list, got 500 (for one, write [500])",
        ),
        (
            BREAKER % f"on: [{', '.join(['500'] * 65)}]",
            "circuit_breaker.on: has 65 items: at most 64 may be in it",
        ),
        (BREAKER % "on: gateway", "circuit_breaker.on: expected a list, got 'gateway' (for one"),
        (
            BREAKER % "on: [slow]",
            "circuit_breaker: on names slow, but no time is slow (add slow_call: 5s)",
        ),
        (BREAKER % "on: [slow], slow_call: 0", "but no time is slow"),
        (BREAKER % "slow_call: 5", "circuit_breaker.slow_call: 5 has no unit"),
        ("per_try: 2s", "routes[0].per_try: unknown key (it is a key of retry)"),
        ("prefix: /", "routes[0].prefix: unknown key (it is a key of match.path"),
        ("retry: {idle_timeout: 1s}", "retry.idle_timeout: unknown key (it is a key of routes[0])"),
        ("match: {access_log: json}", "access_log: unknown key (it is a key of the file itself)"),
        ("layers: [{failures: 2}]", "layers[0].failures: unknown key (it is a key of circuit_br"),
    ],
)
def test_a_route_with_a_problem(keys: str, problem: str) -> None:
    (only,) = problems(ROUTE % keys)
    assert problem in only


def test_what_may_be_upgraded_to() -> None:
    written = ["websocket", "connect", "spdy/3.1", *["a"] * 13]
    assert load_text(ROUTE % f"upgrade: [{', '.join(written)}]").routes[0].upgrade == written
