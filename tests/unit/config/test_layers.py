"""Layers of one list, and what tells them apart."""

import functools
from typing import Any

import pytest
from pydantic import ValidationError

from meshcore.config.explain import explain
from meshcore.config.layer_key import parse_layer_key
from meshcore.config.layers import ListenerLayer, PythonLayer
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


@pytest.mark.parametrize(
    ("layers", "problem"),
    [
        (
            f"allow: {{rules: [{{name: a, networks: [{', '.join(['10.0.0.1'] * 10_001)}]}}]}}",
            "rules[0].networks: has 10001 items: at most 10000 may be in it",
        ),
        (
            f"allow: {{rules: [{', '.join(['{name: a, methods: [GET]}'] * 1_001)}]}}",
            "rules: has 1001 items: at most 1000 may be in it",
        ),
    ],
)
def test_too_many_of_a_list_are_told_with_how_many_may_be(layers: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_text(mesh("listener", layers), "mesh.yaml")
    (only,) = [str(p) for p in caught.value.problems]
    assert only.endswith(f"layers[0].allow.{problem}")


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


ANY: Any = []


def keys(*layers: str) -> list[str]:
    config = load_text(mesh("route", ", ".join(f"python: {layer}" for layer in layers)))
    return [layer.python.key for layer in config.routes[0].layers if layer.python]


def test_a_layer_in_python_is_told_by_its_class_and_arguments() -> None:
    same = ["a:B", "{class: a:B}", "{class: a:B, with: {}}"]
    assert keys(*same) == ["a:B"] * 3
    one, other = keys("{class: a:B, with: {x: 1, y: z}}", "{class: a:B, with: {y: z, x: 1}}")
    assert one == other == 'a:B {"x":1,"y":"z"}'
    assert parse_layer_key(one) == ("a:B", {"x": 1, "y": "z"})
    assert parse_layer_key("a:B") == ("a:B", {})
    alike = [f"{{class: a:B, with: {{x: {x}}}}}" for x in ("1", "1.0", "'1'", "true", "[1]")]
    assert len(set(keys(*alike))) == 5
    # A class may go by the order of a mapping.
    first, second = (f"{{class: a:B, with: {{x: {{{y}}}}}}}" for y in ("a: 1, b: 2", "b: 2, a: 1"))
    assert len(set(keys(first, second))) == 2


def test_the_order_of_a_mapping_and_any_text_reach_the_class() -> None:
    (key,) = keys('{class: a:B, with: {x: {b: "é \\u2028 \\"", a: null}}}')
    assert key.isascii()
    name, arguments = parse_layer_key(key)
    assert (name, [*arguments["x"].items()]) == ("a:B", [("b", 'é \u2028 "'), ("a", None)])


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({1}, "a file cannot say {1}"),
        ([b"x"], "a file cannot say b'x'"),
        ({"x": {1: 2}}, "keys of mappings must be texts"),
        (float("nan"), "must be finite, got nan"),
        ("x" * (16 << 10), "must be at most 16KiB as JSON"),
        (functools.reduce(lambda inner, _: [inner], range(32), ANY), "nested deeper than 32"),
    ],
)
def test_arguments_that_a_program_gives(value: Any, message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        PythonLayer.model_validate({"class": "a:B", "with": {"x": value}})
    (problem,) = explain(caught.value, PythonLayer)
    assert (problem.path, problem.message) == ("with", message)


@pytest.mark.parametrize("layer", ["a:B", {"class": "a:B", "with": {"x": [1, None]}}])
def test_a_layer_in_python_is_written_as_it_was_read(layer: Any) -> None:
    made = ListenerLayer.model_validate({"python": layer})
    assert made.model_dump(mode="json", exclude_defaults=True) == {"python": layer}
