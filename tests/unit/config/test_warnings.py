"""What is surely a mistake is told with its line, and nothing else is."""

from __future__ import annotations

import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshcore.config.load import load_bytes
from meshcore.config.warnings import warn
from meshcore.config.warnings.hosts import _ask, unresolved_hosts
from meshcore.library.routes import RouteMap

if TYPE_CHECKING:
    from meshcore.config.load import Loaded

HEAD = (
    "version: 1\n"
    "listeners: {edge: {bind: 127.0.0.1:1}, first: {bind: 127.0.0.1:2, match_order: first}}\n"
)
UPSTREAM = "upstreams: {u: {endpoints: ['127.0.0.1:1']}}\n"


def loaded(text: str) -> Loaded:
    return load_bytes(text.encode(), "m", None)


def warnings(text: str) -> list[str]:
    found = loaded(text)
    return [str(problem) for problem in found.placed(warn(found.config))]


def routes(*matches: str, listeners: str = "[edge]") -> str:
    lines = (
        f"- {{name: r{i}, upstream: u, listeners: {listeners}, {match}}}\n"
        for i, match in enumerate(matches)
    )
    # Nobody is to wonder why a listener has no route.
    rest = "- {name: rest, match: {host: rest.example}, upstream: u}\n"
    return f"{HEAD}{UPSTREAM}routes:\n{''.join(lines)}{rest}"


A, AB = "match: {path: {exact: /a}}", "match: {path: {exact: /a/b}}"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (A, A),
        ("priority: 0", "match: {}"),
        ("match: {path: {prefix: /a}}", "match: {path: {prefix: /a/}}"),
        ("match: {path: {regex: /a+}}", "match: {path: {regex: /a+}}"),
        ("match: {methods: [GET, POST]}", "match: {methods: [POST]}"),
        ("match: {headers: {x-a: {prefix: v}}}", "match: {headers: {X-A: v1}}"),
        ("match: {headers: {x-a: {suffix: v}}}", "match: {headers: {x-a: {suffix: av}}}"),
        ("match: {headers: {x-a: {contains: v}}}", "match: {headers: {x-a: {prefix: av}}}"),
        ("match: {headers: {x-a: {present: true}}}", "match: {headers: {x-a: {regex: v}}}"),
        ("match: {headers: {x-a: {absent: true}}}", "match: {headers: {x-a: {present: false}}}"),
        ("match: {query: {q: {present: true}}}", "match: {query: {q: '1'}}"),
        ("priority: 1", AB),
        ("priority: 1, match: {path: {prefix: /}}", AB),
        ("priority: 1, match: {path: {prefix: /a}}", "match: {path: {prefix: /a/b}}"),
        ("priority: 1, match: {host: [a.b, c.d]}", "match: {host: c.d, path: {regex: /x}}"),
        ("match: {host: a.b}", "match: {host: A.b., headers: {}}"),
    ],
)
def test_a_route_that_never_matches(one: str, other: str) -> None:
    (told,) = warnings(routes(one, other))
    assert told.startswith(
        "m:6:3: routes[1]: never matches: routes[0] 'r0' comes first and matches "
    )


@pytest.mark.parametrize(
    ("one", "other"),
    [
        # The better one is written last.
        ("priority: 0", A),
        ("match: {path: {prefix: /a}}", AB),
        ("match: {path: {prefix: /a}}", "match: {path: {prefix: /a/b}}"),
        ("match: {path: {regex: /.*}}", A),
        (A, "match: {path: {exact: /a}, methods: [GET]}"),
        (A, "match: {path: {exact: /a}, headers: {x: y}}"),
        # Neither has all that the other has.
        (A, AB),
        (A, "match: {host: a.b, path: {exact: /a}}"),
        ("match: {host: '*.b'}", "match: {host: a.b}"),
        ("match: {host: a.b}", "match: {host: [a.b, c.d]}"),
        ("match: {methods: [GET]}", "match: {methods: [GET, POST]}"),
        ("match: {methods: [GET], headers: {x: y}}", "match: {headers: {x: y}}"),
        ("match: {headers: {x: y}}", "match: {headers: {x: z}}"),
        ("match: {headers: {x: {prefix: yy}}}", "match: {headers: {x: y}}"),
        ("match: {headers: {x: y}}", "match: {query: {x: y}}"),
        ("match: {headers: {x: {absent: true}}}", "match: {headers: {x: {present: true}}}"),
        ("match: {headers: {x: {present: true}}}", "match: {headers: {x: {absent: true}}}"),
        ("match: {headers: {x: {regex: a}}}", "match: {headers: {x: a}}"),
        ("priority: 1, match: {path: {prefix: /a}}", "match: {path: {exact: /ab}}"),
        # `OPTIONS *` has no prefix.
        ("priority: 1, match: {path: {prefix: /}}", "match: {}"),
    ],
)
def test_a_route_that_something_reaches(one: str, other: str) -> None:
    assert warnings(routes(one, other)) == []


def test_the_first_of_the_file_takes_what_is_more_specific() -> None:
    (told,) = warnings(routes("match: {}", A, listeners="[first]"))
    assert "routes[1]: never matches: routes[0] 'r0'" in told
    # At a listener that goes by specificity it still has requests.
    assert warnings(routes("match: {}", A, listeners="[edge, first]")) == []


def test_it_may_take_several_routes_to_leave_nothing() -> None:
    text = routes(A, A, A).replace("[edge]", "[first]", 1)
    (told,) = warnings(text.replace("r2, upstream: u, listeners: [edge]", "r2, upstream: u"))
    assert "routes[2]: never matches" in told


PATHS = st.sampled_from(
    [None, {"exact": "/a"}, {"exact": "/a/b"}, {"prefix": "/a"}, {"prefix": "/"}, {"regex": "/a.*"}]
)
TESTS = st.sampled_from(
    [{}, {"x": "v"}, {"x": {"prefix": "v"}}, {"x": {"present": True}}, {"x": {"absent": True}}]
)
ROUTES = st.lists(
    st.fixed_dictionaries(
        {
            "path": PATHS,
            "headers": TESTS,
            "query": TESTS,
            "methods": st.sampled_from([[], ["GET"], ["GET", "POST"]]),
            "host": st.sampled_from([["*"], ["a.b"], ["*", "a.b"]]),
            "priority": st.integers(-1, 1),
        }
    ),
    min_size=2,
    max_size=6,
)


def requests() -> list[tuple[str, str, str, list[tuple[str, str]]]]:
    targets = [p + q for p in ("/", "/a", "/a/b", "/a/c", "/z") for q in ("", "?x=v", "?x=w")]
    return [
        (host, target, method, fields)
        for host in ("a.b", "c.d")
        for target in targets
        for method in ("GET", "POST", "PUT")
        for fields in ([], [("x", "v")], [("x", "vw")], [("x", "w")], [("x", "v"), ("x", "w")])
    ]


@settings(max_examples=200)
@given(ROUTES, st.booleans())
def test_no_request_finds_a_route_that_was_told_of(keys: list[dict[str, Any]], first: bool) -> None:
    """The table of the core is the oracle; file order is one priority for each place."""
    table: RouteMap[int] = RouteMap()
    written = []
    for number, route in enumerate(keys):
        match = {name: route[name] for name in ("host", "headers", "query", "methods")}
        path = route["path"]
        asked = match | ({{"exact": "path"}.get(k, k): v for k, v in path.items()} if path else {})
        priority = route["priority"] * 100 - number if first else route["priority"]
        table.insert(f"r{number}", number, **asked, priority=priority)
        written.append(
            {
                "name": f"r{number}",
                "respond": {},
                "priority": route["priority"],
                "match": match | ({"path": path} if path else {}),
            }
        )
    listener = {"bind": "a:1", "match_order": "first" if first else "specific"}
    text = repr({"version": 1, "listeners": {"e": listener}, "routes": written})
    told = {
        fault.path[1]
        for fault in warn(loaded(text.replace("True", "true")).config)
        if fault.path[0] == "routes"
    }
    found = {hit.value for request in requests() if (hit := table.lookup(*request)) is not None}
    assert not told & found


def test_very_many_routes_are_looked_through_in_seconds() -> None:
    lines = "".join(
        f"- {{name: r{i}, respond: {{}}, match: {{path: {{prefix: /v1}}, headers: {{t: v{i}}}}}}}\n"
        for i in range(10_000)
    )
    config = loaded(f"{HEAD}routes:\n{lines}").config
    begun = time.process_time()  # others may be at work beside it
    assert warn(config) == []
    assert time.process_time() - begun < 5


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        (
            "retry: {per_try: 15s}",
            "retry.per_try: never takes effect: timeout (15s) ends the request first "
            "(attempts share that time)",
        ),
        ("timeout: 2s, retry: {per_try: 3s}", "retry.per_try: never takes effect: timeout (2s)"),
        (
            "layers: [circuit_breaker: {open_for: 10s, max_open_for: 5s}]",
            "layers[0].circuit_breaker.max_open_for: never takes effect: open_for (10s) is longer",
        ),
    ],
)
def test_a_time_of_a_route_that_never_takes_effect(keys: str, told: str) -> None:
    (line,) = warnings(routes(keys))
    assert f"routes[0].{told}" in line


@pytest.mark.parametrize(
    "keys",
    [
        "retry: {per_try: 14s}",
        "timeout: 0, retry: {per_try: 1h}",
        "layers: [circuit_breaker: {open_for: 10m}]",  # it is no mistake of theirs
    ],
)
def test_a_time_of_a_route_that_does(keys: str) -> None:
    assert warnings(routes(keys)) == []


def test_a_call_of_grpc_has_no_timeout_but_silence() -> None:
    text = routes("timeout: 2s, idle_timeout: 10s, retry: {per_try: %s}").replace(
        "127.0.0.1:1']", "127.0.0.1:1'], protocol: h2"
    )
    assert warnings(text % "3s") == []
    assert "idle_timeout (10s) ends the request first" in warnings(text % "10s")[0]


@pytest.mark.parametrize("key", ["timeout: 5s", "idle_timeout: 5s", "retry: off"])
def test_what_is_for_requests_that_are_sent_on(key: str) -> None:
    text = f"{HEAD}routes: [{{name: r, respond: {{}}, {key}}}]\n"
    name = key.partition(":")[0]
    (line,) = warnings(text)
    assert f"routes[0].{name}: has no effect: the route asks no upstream" in line


def test_other_times_that_never_take_effect() -> None:
    text = (
        "version: 1\nlisteners: {e: {bind: a:1, timeouts: {tls_handshake: 1s},"
        " limits: {handshakes: 9}}}\n"
        "routes: [{name: r, upstream: u}]\n"
        "upstreams: {u: {endpoints: ['127.0.0.1:1'], ejection: {eject_for: 10m, max_eject_for: 5m},"
        " h2: {ping: 0, ping_timeout: 1s}}}\n"
    )
    assert [line.split(": ", 2)[1] for line in warnings(text)] == [
        "listeners.e.timeouts.tls_handshake",
        "listeners.e.limits.handshakes",
        "upstreams.u.ejection.max_eject_for",
        "upstreams.u.h2.ping_timeout",
    ]


def test_what_nothing_leads_to() -> None:
    text = (
        "version: 1\nlisteners:\n  a: {bind: a:1}\n  b: {bind: a:2}\n"
        "  c: {bind: a:3, layers: [python: m:C]}\n"
        "routes: [{name: r, respond: {}, listeners: [a]}]\n"
        "upstreams:\n  u: {endpoints: ['127.0.0.1:1']}\n"
    )
    assert warnings(text) == [
        "m:4:3: listeners.b: no route serves this listener: every request is answered 404",
        "m:8:3: upstreams.u: no route sends anything to this upstream",
    ]


@pytest.mark.parametrize(
    ("path", "listeners", "told"),
    [
        ("exact: /@s%2fp", "", "never matches: its listeners refuse %2f in paths (a listener's"),
        (
            "prefix: /a%5C",
            "",
            "its listeners refuse %5C in paths (a listener's paths: {encoded_back",
        ),
        ("prefix: '/a\\b'", "", "refuse \\ in paths"),
        ("exact: /@s%2fp", "keeps", None),
        ("exact: /@s%2fp", "e, keeps", None),
        ("exact: /@s%252f", "", None),
        ("regex: /@s%2Fp", "", None),
    ],
)
def test_paths_that_no_listener_lets_pass(path: str, listeners: str, told: str | None) -> None:
    keeps = "keeps: {bind: b:2, paths: {encoded_slash: keep}}" if listeners else ""
    other = "routes: [{name: other, respond: {}}, " if listeners else "routes: ["
    text = (
        f"version: 1\nlisteners: {{e: {{bind: a:1}}, {keeps}}}\n{other}"
        f"{{name: r, listeners: [{listeners}], match: {{path: {{{path}}}}}, respond: {{}}}}]\n"
    )
    found = [line for line in warnings(text) if ".match.path." in line]
    assert len(found) == (told is not None)
    assert told is None or told in found[0]


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("prefix: /v1/*", "* stands for itself in a path, not for any text (prefix: /v1 matches"),
        ("prefix: /*", "(prefix: / matches what is below it)"),
        ("exact: '/users/{id}/posts'", "{id} stands for itself in a path, not for any text (regex"),
        ("exact: /users/:id", ":id stands for itself"),
    ],
)
def test_a_wildcard_in_a_path(path: str, hint: str) -> None:
    (line,) = warnings(routes(f"match: {{path: {{{path}}}}}"))
    assert hint in line


@pytest.mark.parametrize("path", ["exact: /v1/things:batch", "exact: /a*b", "regex: /v1/.*"])
def test_a_path_that_only_looks_like_it(path: str) -> None:
    assert warnings(routes(f"match: {{path: {{{path}}}}}")) == []


# --- names --------------------------------------------------------------------------------------


def unknown(name: str, *_: object, **__: object) -> None:
    if name.startswith("bad"):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


def test_only_names_are_asked_for_and_each_once() -> None:
    asked = []

    def resolve(name: str, *more: object, **keys: object) -> None:
        asked.append(name)
        unknown(name)

    found = loaded(
        "version: 1\nlisteners: {e: {bind: bad.local:1}, s: {bind: unix:/run/s}}\n"
        "upstreams:\n  u: {endpoints: ['10.0.0.1:1', '[::1]:2', good.local:3, bad.local:4]}\n"
        "  v:\n    endpoints: [bad.v:1, unix:/x]\nadmin: {bind: bad.admin:1}\n"
    )
    lines = [str(each) for each in found.placed(unresolved_hosts(found.config, resolve=resolve))]
    assert sorted(asked) == ["bad.admin", "bad.local", "bad.v", "good.local"]
    assert lines == [
        "m:2:23: listeners.e.bind: bad.local does not resolve: Name or service not known",
        "m:6:17: upstreams.v.endpoints[0]: bad.v does not resolve: Name or service not known",
        "m:7:15: admin.bind: bad.admin does not resolve: Name or service not known",
    ]


def test_a_resolver_that_does_not_answer_is_waited_for_within_a_bound() -> None:
    held = threading.Event()

    def resolve(name: str, *more: object, **keys: object) -> None:
        if name == "slow":
            held.wait(30)
        unknown(name)

    begun = time.monotonic()
    assert _ask(["slow", "good", "bad"], 0.5, resolve) == {
        "slow": "no answer in time",
        "bad": "Name or service not known",
    }
    assert time.monotonic() - begun < 10
    held.set()


def test_names_are_asked_for_together() -> None:
    together = threading.Barrier(20)

    def resolve(*_: object, **__: object) -> None:
        together.wait(20)

    assert _ask(map(str, range(20)), 20.0, resolve) == {}


def test_nothing_is_said_of_names_that_nobody_was_asked_for() -> None:
    held = threading.Event()
    found = _ask(map(str, range(1_000)), 0.2, lambda *_, **__: held.wait(30))
    assert 0 < len(found) <= 32
    held.set()


# --- fields of proxies --------------------------------------------------------------------------

TRUSTING = "client_address: {trusted: [10.0.0.0/8]}"
HOPS = "client_address: {trusted_hops: 1}"


def listening(keys: str, route: str = "", *, layers: str = "") -> str:
    listeners = f"listeners: {{edge: {{bind: '127.0.0.1:1', {keys}{layers}}}}}\n"
    return f"version: 1\n{listeners}{UPSTREAM}routes: [{{name: r, upstream: u, {route}}}]\n"


def limited(header: str, more: str = "") -> str:
    return f"layers: [{{limit: {{rate: 1/s, key: {{header: {header}{more}}}}}}}]"


@pytest.mark.parametrize(
    ("keys", "route", "message"),
    [
        ("", limited("x-forwarded-for"), "all requests share one bucket: x-forwarded-for is taken"),
        ("", limited("forwarded", ", missing: skip"), "no request is counted: forwarded is taken"),
        ("", limited("x-forwarded-host", ", missing: reject"), "every request is refused: x-forw"),
        (TRUSTING, limited("x-forwarded-for"), "every client chooses its bucket: x-forwarded-for"),
        (HOPS, limited("x-forwarded-for"), "every client chooses its bucket: x-forwarded-for"),
        ("", limited("x-real-ip"), "every client chooses its bucket: it can write x-real-ip"),
        ("", "match: {headers: {x-forwarded-for: 10.0.0.1}}", "never holds: x-forwarded-for is"),
        ("", "match: {headers: {X-Mesh-Identity: {present: true}}}", "never holds: x-mesh-identi"),
        ("", "match: {headers: {forwarded: {absent: true}}}", "always holds: forwarded is taken"),
        ("", "match: {headers: {x-real-ip: 10.0.0.1}}", "every client can write this field"),
    ],
)
def test_a_field_that_no_peer_may_write(keys: str, route: str, message: str) -> None:
    (line,) = warnings(listening(keys, route))
    assert message in line
    assert "client_address" in line


def test_a_limiter_of_a_listener_by_such_a_field() -> None:
    (line,) = warnings(listening("", layers=limited("x-forwarded-for")))
    assert line.startswith("m:2:")
    assert "listeners.edge.layers[0].limit.key: all requests share one bucket" in line


@pytest.mark.parametrize(
    ("keys", "route"),
    [
        (TRUSTING, limited("x-real-ip")),
        (TRUSTING, limited("x-forwarded-host")),
        ("", limited("x-api-key")),
        ("", "layers: [{limit: {rate: 1/s, key: client}}]"),
        (TRUSTING, "match: {headers: {x-forwarded-proto: https}}"),
        (TRUSTING, "match: {headers: {x-real-ip: 10.0.0.1}}"),
        (HOPS, "match: {headers: {x-forwarded-for: 10.0.0.1}}"),
    ],
)
def test_a_field_that_a_trusted_peer_may_write(keys: str, route: str) -> None:
    assert warnings(listening(keys, route)) == []


@pytest.mark.parametrize(
    ("upstream", "warned"),
    [
        ("{endpoints: ['10.0.0.1:80', '10.0.0.1:443']}", True),
        ("{endpoints: ['10.0.0.1:443'], tls: {}}", False),
        ("{endpoints: ['10.0.0.1:8443', 'unix:/a']}", False),
    ],
)
def test_the_port_of_https_without_tls(upstream: str, warned: bool) -> None:
    lines = warnings(
        "version: 1\nlisteners: {edge: {bind: 127.0.0.1:1}}\n"
        f"upstreams: {{u: {upstream}}}\nroutes: [{{name: r, upstream: u}}]\n"
    )
    assert len(lines) == warned
    assert all("endpoints[1]: 10.0.0.1:443 is the port of HTTPS" in line for line in lines)
