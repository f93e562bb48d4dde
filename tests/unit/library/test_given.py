"""What routes, balancers and shared states are given is judged as a file is, in the same words."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from types import MappingProxyType
from typing import Any

import pytest
import yaml

import meshcore
from meshcore import SharedState


def of_file(section: str, tree: dict[str, Any]) -> list[str]:
    """What `meshcore check` finds wrong in a section, without where."""
    mesh: dict[str, Any] = {
        "version": 1,
        "listeners": {"edge": {"bind": "127.0.0.1:0"}},
        "routes": [{"name": "all", "respond": {"status": 200}, **tree.get("route", {})}],
    }
    if section == "upstream":
        mesh["upstreams"] = {"api": tree}
        mesh["routes"] = [{"name": "all", "upstream": "api"}]
    try:
        meshcore.load_text(yaml.safe_dump(mesh))
    except meshcore.ConfigError as error:
        return [f"{p.message} ({p.hint})" if p.hint else p.message for p in error.problems]
    return []


def of_call(call: Callable[[], object]) -> list[str]:
    try:
        call()
    except ValueError as error:
        return [line.split(": ", 1)[1] for line in str(error).splitlines()]
    return []


ROUTES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"host": "a.example:8080"}, {"match": {"host": "a.example:8080"}}),
    ({"host": []}, {"match": {"host": []}}),
    ({"prefix": "x"}, {"match": {"path": {"prefix": "x"}}}),
    ({"regex": "("}, {"match": {"path": {"regex": "("}}}),
    ({"path": {"exact": "/"}}, {"match": {"path": {"exact": {"exact": "/"}}}}),
    ({"methods": "GET"}, {"match": {"methods": "GET"}}),
    ({"methods": ["get"]}, {"match": {"methods": ["get"]}}),
    ({"headers": {"a": {"exakt": "b"}}}, {"match": {"headers": {"a": {"exakt": "b"}}}}),
    ({"headers": [1]}, {"match": {"headers": [1]}}),
    ({"query": {"a": [1]}}, {"match": {"query": {"a": [1]}}}),
    ({"priority": "high"}, {"priority": "high"}),
    ({"priority": 1 << 31}, {"priority": 1 << 31}),
    ({"prefix": "/v1", "host": ("a", "*.b")}, {"match": {"host": ["a", "*.b"]}}),
]


@pytest.mark.parametrize(("keywords", "route"), ROUTES)
def test_a_route_is_checked_as_in_a_file(keywords: dict[str, Any], route: dict[str, Any]) -> None:
    routes: meshcore.RouteMap[int] = meshcore.RouteMap()
    told = of_call(lambda: routes.insert("all", 1, **keywords))
    assert told == of_file("route", {"route": route})
    assert len(routes) == (0 if told else len(keywords["host"]))


BALANCERS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"failures": -1}, {"ejection": {"failures": -1}}),
    ({"failures": True}, {"ejection": {"failures": True}}),
    ({"failures": "5"}, {"ejection": {"failures": "5"}}),
    ({"eject_for": "soon"}, {"ejection": {"eject_for": "soon"}}),
    ({"eject_for": "0s"}, {"ejection": {"eject_for": "0s"}}),
    ({"max_percent": 200}, {"ejection": {"max_percent": 200}}),
    ({"max_percent": "half"}, {"ejection": {"max_percent": "half"}}),
    ({"balance": "best"}, {"balance": "best"}),
    ({"endpoints": []}, {"endpoints": []}),
    ({"endpoints": "a:1"}, {"endpoints": "a:1"}),
    ({"endpoints": ["a"]}, {"endpoints": ["a"]}),
    (
        {"endpoints": [{"address": "a:1", "wieght": 2}]},
        {"endpoints": [{"address": "a:1", "wieght": 2}]},
    ),
    (
        {"failures": 3, "eject_for": "1s", "max_percent": "20%"},
        {"ejection": {"failures": 3, "eject_for": "1s", "max_percent": "20%"}},
    ),
]


@pytest.mark.parametrize(("keywords", "upstream"), BALANCERS)
def test_a_balancer_is_checked_as_in_a_file(
    keywords: dict[str, Any], upstream: dict[str, Any]
) -> None:
    told = of_call(lambda: meshcore.Balancer(**{"endpoints": ["a:1"], **keywords}))
    assert told == of_file("upstream", {"endpoints": ["a:1"], **upstream})


TOO_MANY: list[tuple[dict[str, Any], str]] = [
    ({"path": "/a", "prefix": "/b"}, r"^path: path and prefix given: a route has one of path, "),
]


@pytest.mark.parametrize(("keywords", "text"), TOO_MANY)
def test_a_route_says_what_was_meant(keywords: dict[str, Any], text: str) -> None:
    routes: meshcore.RouteMap[int] = meshcore.RouteMap()
    for change in (routes.insert, routes.replace):
        with pytest.raises(ValueError, match=text):
            change("all", 1, **keywords)
    good: Any = {"prefix": "/"}
    with pytest.raises(ValueError, match=text):
        routes.insert_all([("good", 1, good), ("all", 1, keywords)])  # type: ignore[list-item]
    assert len(routes) == 0
    with pytest.raises(ValueError, match="name: expected a text, got 5"):
        routes.insert(5, 1)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("keywords", "text"),
    [
        ({"eject_for": -1}, r"^eject_for: -1 is less than no time$"),
        ({"eject_for": float("nan")}, r"^eject_for: nan is not a duration"),
        ({"failures": 0, "eject_for": "soon"}, r"^eject_for: 'soon' is not a duration"),
        ({"endpoints": 5}, r"^endpoints: expected a list, got 5"),
        ({"endpoints": {"a:1": 1}}, r"^endpoints: expected a list, got a mapping"),
    ],
)
def test_a_balancer_says_what_was_meant(keywords: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        meshcore.Balancer(**{"endpoints": ["a:1"], **keywords})


@pytest.mark.parametrize("wrong", ["OSError", 5, [OSError, "x"], [int], None])
def test_failures_are_classes_of_exceptions(wrong: Any) -> None:
    with pytest.raises(TypeError, match="failure_on: expected classes of exceptions, got "):
        meshcore.Balancer(["a:1"], failure_on=wrong)
    with pytest.raises(TypeError, match="clock: expected a function that gives nanoseconds"):
        meshcore.Balancer(["a:1"], clock=5)  # type: ignore[arg-type]


@pytest.mark.parametrize("failure_on", [OSError, [OSError], (ValueError, OSError), {OSError}])
@pytest.mark.parametrize("eject_for", ["1h", 3600, 3600.0, timedelta(hours=1)])
def test_what_python_has_is_taken(failure_on: Any, eject_for: Any) -> None:
    now = 1_000_000_000
    balancer = meshcore.Balancer(
        ["a:1", MappingProxyType({"address": "b:1"})],
        failures=1,
        failure_on=failure_on,
        eject_for=eject_for,
        clock=lambda: now,
    )
    with pytest.raises(TimeoutError), balancer.pick() as attempt:
        raise TimeoutError
    out = attempt.address
    assert {balancer.pick().address for _ in range(20)} == {"a:1", "b:1"} - {out}
    now += 3_601 * 1_000_000_000 * 2
    assert out in {balancer.pick().address for _ in range(20)}


def test_headers_are_any_mapping_and_methods_any_sequence() -> None:
    routes: meshcore.RouteMap[int] = meshcore.RouteMap()
    headers = MappingProxyType({"x-a": MappingProxyType({"present": True})})
    routes.insert("all", 1, headers=headers, methods=("GET",))
    assert routes.lookup("a", "/", "GET", [("x-a", "1")]) is not None
    assert routes.lookup("a", "/", "POST", [("x-a", "1")]) is None
    assert routes.lookup("a", "/", "GET") is None


@pytest.mark.parametrize("wrong", ["", "a\nb", "\udc80", 5, None, b"x"])
def test_a_part_of_a_shared_state_has_a_name_to_print(wrong: Any) -> None:
    state = SharedState()
    for make in (state.token_bucket, state.client_limiter):
        with pytest.raises(ValueError, match=r"is no name of a \w+: a text that can be printed"):
            make(wrong, "1/s")
    with pytest.raises(ValueError, match="is no name of a circuit_breaker"):
        state.circuit_breaker(wrong)
    if wrong is not None:
        with pytest.raises(ValueError, match="is no name of a shared state"):
            SharedState(wrong)
