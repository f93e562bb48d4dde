"""Layers of one list, and what tells them apart."""

import pytest

from meshcore.config.load import load_text
from meshcore.errors import ConfigError


def mesh(place: str, layers: str) -> str:
    listener, route = (layers, "") if place == "listener" else ("", layers)
    return (
        f"version: 1\nlisteners: {{edge: {{bind: 127.0.0.1:8080, layers: [{listener}]}}}}\n"
        f"routes: [{{name: r, respond: {{}}, layers: [{route}]}}]\n"
    )


PLACES = pytest.mark.parametrize(
    ("place", "path"), [("listener", "listeners.edge.layers"), ("route", "routes[0].layers")]
)


@pytest.mark.parametrize(
    ("layers", "problem"),
    [
        (
            "client_limit: {rate: 1/s}, client_limit: {rate: 9/m}",
            "layers 1 and 2 are both client_limit",
        ),
        (
            "limit: {rate: 1/s}, in_flight: {max: 1}, limit: {rate: 9/m}",
            "layers 1 and 3 are both limit",
        ),
        (
            "limit: {rate: 1/s, key: host}, limit: {rate: 9/m, key: {host: true}}",
            "layers 1 and 2 are both limit by host",
        ),
        (
            "limit: {rate: 1/s, key: client}, limit: {rate: 9/m, key: client}",
            "layers 1 and 2 are both limit by client",
        ),
        (
            "limit: {rate: 1/s, key: {header: A}}, "
            "limit: {rate: 9/m, key: {header: a, missing: skip}}",
            "layers 1 and 2 are both limit by header a",
        ),
        ("in_flight: {max: 1}, in_flight: {max: 2}", "layers 1 and 2 are both in_flight"),
    ],
)
@PLACES
def test_two_that_would_share_what_they_count(
    place: str, path: str, layers: str, problem: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load_text(mesh(place, layers), "mesh.yaml")
    (only,) = [str(p) for p in caught.value.problems]
    expected = f"{path}: {problem}, and would share what they count (add name: to one or both)"
    assert only.split(": ", 1)[1] == expected


@PLACES
def test_two_spellings_of_one_key(place: str, path: str) -> None:
    """Else a request charges the one and is known to the service by the other."""
    layers = (
        "limit: {rate: 1/s, key: {header: x-api-key}}, "
        "limit: {rate: 9/m, name: n, key: {header: X_Api-Key}}"
    )
    with pytest.raises(ConfigError) as caught:
        load_text(mesh(place, layers), "mesh.yaml")
    (only,) = [str(p) for p in caught.value.problems]
    assert only.split(": ", 1)[1] == (
        f"{path}: layers 1 and 2 count by x-api-key and x_api-key, which services may read as one "
        "(count by one of them)"
    )


UNSEEN = [
    ("Host", "a request names its host in several ways, this is one of them"),
    ("connection", "connection is about one connection, and taken out before any rule sees it"),
    ("Keep-Alive", "keep-alive is about one connection, and taken out before any rule sees it"),
    ("proxy", "proxy is about one connection, and taken out before any rule sees it"),
    (
        "x_forwarded_for",
        "x_forwarded_for is taken out before any rule sees it: services would read it as "
        "x-forwarded-for (write x-forwarded-for)",
    ),
    (
        "keep_alive",
        "keep_alive is taken out before any rule sees it: services would read it as keep-alive",
    ),
]


@pytest.mark.parametrize(("name", "problem"), UNSEEN)
@PLACES
def test_no_limit_counts_by_what_it_never_sees(
    place: str, path: str, name: str, problem: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load_text(mesh(place, f"limit: {{rate: 1/s, key: {{header: {name}}}}}"), "mesh.yaml")
    (only,) = [str(p) for p in caught.value.problems]
    hint = " (write key: host)" if name == "Host" else ""
    assert only.split(": ", 1)[1] == f"{path}[0].limit.key.header: {problem}{hint}"


@pytest.mark.parametrize(("name", "problem"), UNSEEN)
def test_no_route_matches_by_what_it_never_sees(name: str, problem: str) -> None:
    text = mesh("route", "").replace("name: r", f"name: r, match: {{headers: {{{name}: a}}}}")
    with pytest.raises(ConfigError) as caught:
        load_text(text, "mesh.yaml")
    (only,) = [str(p) for p in caught.value.problems]
    hint = " (use match.host)" if name == "Host" else ""
    assert only.split(": ", 1)[1] == f"routes[0].match.headers.{name}: {problem}{hint}"


@PLACES
def test_a_name_is_one_layers(place: str, path: str) -> None:
    layers = "limit: {rate: 1/s, name: n}, in_flight: {max: 2, name: n}"
    with pytest.raises(ConfigError) as caught:
        load_text(mesh(place, layers), "mesh.yaml")
    (only,) = [str(p) for p in caught.value.problems]
    assert only.split(": ", 1)[1] == f"{path}: layers 1 and 2 have one name, n"


@pytest.mark.parametrize(
    "layers",
    [
        "limit: {rate: 1/s, name: n}, limit: {rate: 1/s}, limit: {rate: 1/s, key: client}",
        "limit: {rate: 1/s, key: {header: a}}, limit: {rate: 1/s, key: {header: b}}",
        "limit: {rate: 1/s, key: client}, client_limit: {rate: 1/s}",
        "client_limit: {rate: 1/s, name: limit}, limit: {rate: 1/s}",
        "python: 'a:B', python: 'a:B'",
    ],
)
@PLACES
def test_what_counts_apart(place: str, path: str, layers: str) -> None:
    config = load_text(mesh(place, layers))
    owner = config.listeners["edge"] if place == "listener" else config.routes[0]
    assert len(owner.layers) > 1, path
