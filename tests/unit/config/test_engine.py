"""What the model lets through, the core compiles; what it does not, has a line in the file."""

from pathlib import Path
from typing import Any

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from meshcore._core import Engine
from meshcore.config.compile import compile
from meshcore.config.load import load_file, load_text
from meshcore.config.model import Config
from meshcore.errors import ConfigError

DATA = Path(__file__).parents[2] / "data"

NAMES = st.sampled_from(["a", "b", "c.d/e:1", "x-y_z"])
DURATIONS = st.sampled_from(["1ms", "1s", "90s", "365d"])
HOSTS = st.sampled_from(["*", "a.example", "*.Example.com", "example.*", "[::1]", "10.0.0.1", "a."])
PATHS = st.sampled_from(
    ["/", "/a", "/a/", "/a//b", "/%41", "/a%2fb", "/../x", "/a/./b", "/é", "//"]
)
REGEXES = st.sampled_from(["/a+", "a|b", "[0-9]{1,3}", "(", "(?i)x", r"\d", "a)(b", ".*", r"\pL"])
TEXTS = st.text("aZ0 -;é\"'", max_size=6)


def optional(**keys: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=keys)


def one_of_keys(**keys: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.one_of([st.fixed_dictionaries({key: value}) for key, value in keys.items()])


VALUES = one_of_keys(
    exact=TEXTS, prefix=TEXTS, suffix=TEXTS, contains=TEXTS, regex=REGEXES, present=st.booleans()
)
QUOTAS: dict[str, st.SearchStrategy[Any]] = {
    "rate": st.sampled_from(["1/s", "1000000000/s", "1/365d", "7/13ms", "1/ns"]),
    "burst": st.sampled_from([None, 1, 1 << 20, 1 << 32]),
    "clients": st.sampled_from([1, 100]),
}
BREAKERS = optional(
    failures=st.sampled_from([0, 1, (1 << 20) - 1]),
    failure_percent=st.sampled_from([0, 100]),
    window=DURATIONS,
    open_for=DURATIONS,
    max_open_for=DURATIONS,
    probes=st.sampled_from([1, 1023]),
    on=st.lists(
        st.sampled_from(["connect", "slow", "5xx", 400, 599, "data-loss", 600]), max_size=3
    ),
    slow_call=st.sampled_from([None, 0, "1ms", "365d"]),
)
KEYS = st.one_of(st.sampled_from(["client", "host"]), st.just({"header": "X-Tenant"}))
LISTENER_LAYERS = {
    "client_limit": st.fixed_dictionaries(QUOTAS),
    "limit": st.fixed_dictionaries(QUOTAS, optional={"key": KEYS}),
    "in_flight": st.fixed_dictionaries({"max": st.sampled_from([1, 1 << 32])}),
    "python": st.just("m.n:C"),
}
CHANGES = optional(
    remove=st.lists(st.sampled_from(["server", "X-A"]), max_size=2),
    set=st.dictionaries(st.sampled_from(["x-b", "X-C"]), TEXTS, max_size=2),
    add=st.dictionaries(st.sampled_from(["x-b", "via"]), TEXTS, max_size=2),
)
ROUTE_KEYS = {
    "match": optional(
        host=st.one_of(HOSTS, st.lists(HOSTS, min_size=1, max_size=3)),
        path=one_of_keys(exact=PATHS, prefix=PATHS, regex=REGEXES),
        methods=st.lists(st.sampled_from(["GET", "POST", "M-SEARCH"]), max_size=2),
        headers=st.dictionaries(st.sampled_from(["a", "X-B"]), VALUES, max_size=2),
        query=st.dictionaries(TEXTS, VALUES, max_size=2),
    ),
    "priority": st.sampled_from([-(1 << 31), 0, (1 << 31) - 1]),
    "timeout": DURATIONS,
    "retry": st.one_of(
        st.just("off"),
        optional(
            when=st.lists(st.sampled_from(["refused", "reset", 503, "unavailable", "internal"]))
        ),
    ),
}
AUTHORITIES = st.sampled_from(["a.example", "a:80", "[::1]:80", "10.0.0.1"])
FORWARD = st.fixed_dictionaries(
    {"upstream": st.just("u")},
    optional={
        "request_headers": CHANGES,
        "response_headers": CHANGES,
        "rewrite": optional(path=PATHS, host=AUTHORITIES),
        "upgrade": st.lists(st.sampled_from(["websocket", "connect", "h2c"]), max_size=2),
        "layers": st.lists(one_of_keys(**LISTENER_LAYERS, circuit_breaker=BREAKERS), max_size=3),
    },
)
REDIRECT = st.fixed_dictionaries(
    {
        "redirect": st.fixed_dictionaries(
            {"status": st.sampled_from([301, 308])},
            optional={
                "scheme": st.sampled_from(["http", "https"]),
                "host": AUTHORITIES,
                "path": st.one_of(PATHS, st.sampled_from(["/a?b=c", "/a b", "/a\n", "/?", "/#"])),
            },
        )
    }
)
RESPOND = st.fixed_dictionaries({"respond": optional(body=TEXTS, content_type=TEXTS)})
ROUTES = st.builds(
    lambda keys, action: keys | action,
    optional(**ROUTE_KEYS),
    st.one_of(FORWARD, REDIRECT, RESPOND),
)
UPSTREAMS = st.fixed_dictionaries(
    {"endpoints": st.sampled_from([["a:1"], ["b:1", {"address": "[::1]:2", "weight": 65535}]])},
    optional={
        "balance": st.sampled_from(["least_request", "round_robin", "random"]),
        "circuit_breaker": st.one_of(st.just("off"), BREAKERS),
        "ejection": st.one_of(st.just("off"), optional(failures=st.just(1), eject_for=DURATIONS)),
    },
)
CONFIGS = st.builds(
    lambda layers, routes, upstream: {
        "version": 1,
        "listeners": {"edge": {"bind": "127.0.0.1:0", "layers": layers}},
        "routes": [{"name": f"r{i}", **route} for i, route in enumerate(routes)],
        "upstreams": {"u": upstream},
    },
    st.lists(one_of_keys(**LISTENER_LAYERS), max_size=2),
    st.lists(ROUTES, max_size=3),
    UPSTREAMS,
)


def engine() -> Engine:
    return Engine(seed=1)


def test_the_file_with_every_key_is_compiled() -> None:
    core = engine()
    prepared = core.prepare(compile(load_file(DATA / "full.yaml")).core_json())
    assert {name for name, _ in prepared.upstreams()} == {"api", "plain"}
    core.commit(prepared)
    assert core.python_layers() == [
        'mypkg.layers:AddTenant {"header":"X-Tenant","keep":[1,0.5,true,null]}',
        "mypkg.layers:Tail",
    ]


@settings(max_examples=500)
@given(CONFIGS)
def test_what_loads_is_compiled(data: dict[str, Any]) -> None:
    try:
        config: Config = load_text(yaml.safe_dump(data))
    except ConfigError as error:
        assert all(p.line and p.path for p in error.problems)  # noqa: PT017
    else:
        engine().apply(compile(config).core_json())
