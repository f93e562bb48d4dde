"""The router alone decides as the proxy does, and changes without a reader noticing."""

from __future__ import annotations

import gc
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest

import meshcore


def routes() -> meshcore.RouteMap[int]:
    made: meshcore.RouteMap[int] = meshcore.RouteMap()
    made.insert("all", 0)
    made.insert("v1", 1, host=["a.example", "*.b.example"], prefix="/v1")
    made.insert("exact", 2, host="a.example", path="/v1/orders", methods=["GET"])
    made.insert("regex", 3, host="a.example", regex="/v[0-9]+/items")
    made.insert(
        "canary",
        4,
        host="a.example",
        prefix="/v1",
        headers={"x-canary": "1"},
        query={"debug": {"present": True}},
    )
    return made


@pytest.mark.parametrize(
    ("host", "target", "method", "headers", "name"),
    [
        ("other", "/", "GET", [], "all"),
        ("a.example", "/v1/orders", "GET", [], "exact"),
        ("A.EXAMPLE", "/v1/orders", "POST", [], "v1"),
        ("x.b.example", "/v1", "GET", [], "v1"),
        ("a.example", "/v2/items", "GET", [], "regex"),
        ("a.example", "/v1/x?debug=", "GET", [("X-Canary", "1")], "canary"),
        ("a.example", "/v1/x", "GET", [("X-Canary", "1")], "v1"),
        ("a.example", "/none", "GET", [], None),
        ("a.example", "/x/../v1/orders", "GET", [], "exact"),
    ],
)
def test_the_owner_of_a_request(
    host: str, target: str, method: str, headers: list[tuple[str, str]], name: str | None
) -> None:
    found = routes().lookup(host, target, method, headers)
    assert (found and found.name) == name


def test_a_route_comes_and_goes() -> None:
    made = routes()
    assert len(made) == 6
    with pytest.raises(ValueError, match="v1"):
        made.insert("v1", 9, host="a.example", path="/x")
    made.replace("v1", 9, host="a.example", path="/x")
    found = made.lookup("a.example", "/x")
    assert found == ("v1", 9)
    made.remove("v1", host=["a.example", "*.b.example"])
    assert made.lookup("a.example", "/x") is None
    with pytest.raises(ValueError, match="v1"):
        made.remove("v1", host="a.example")
    assert {(entry.host, entry.name) for entry in made} == {
        ("*", "all"),
        ("a.example", "exact"),
        ("a.example", "regex"),
        ("a.example", "canary"),
    }


def test_all_or_none() -> None:
    made: meshcore.RouteMap[int] = meshcore.RouteMap()
    with pytest.raises(ValueError, match="twin"):
        made.insert_all([("one", 1, {"path": "/a"}), ("twin", 2, {}), ("twin", 3, {})])
    assert len(made) == 0
    made.insert_all((f"r{i}", i, {"prefix": f"/{i}"}) for i in range(5000))
    assert made.lookup("any", "/4711/x") == ("r4711", 4711)


@pytest.mark.parametrize(
    ("requests", "text"),
    [
        ({"path": "/a", "prefix": "/b"}, "^path: path and prefix given"),
        ({"regex": "("}, "^regex: bad regex"),
        ({"host": "a.*.b"}, "host"),
        ({"path": "no-slash"}, "^path: a path begins with /"),
    ],
)
def test_what_is_wrong_is_said(requests: dict[str, object], text: str) -> None:
    made: meshcore.RouteMap[int] = meshcore.RouteMap()
    with pytest.raises(ValueError, match=text):
        made.insert("bad", 1, **requests)  # type: ignore[arg-type]
    assert len(made) == 0


def test_a_path_that_the_proxy_refuses_is_refused() -> None:
    with pytest.raises(ValueError, match="path"):
        routes().lookup("a.example", "/%00")


def test_readers_see_a_whole_table_while_writers_change_it() -> None:
    made: meshcore.RouteMap[str] = meshcore.RouteMap()
    made.insert("fixed", "here", path="/fixed")

    def write(number: int) -> None:
        for i in range(50):
            made.insert(f"{number}-{i}", "x", path=f"/{number}/{i}")
            made.remove(f"{number}-{i}")

    def read() -> bool:
        return all(made.lookup("h", "/fixed") == ("fixed", "here") for _ in range(5000))

    with ThreadPoolExecutor(4) as pool:
        writers = [pool.submit(write, number) for number in range(2)]
        readers = [pool.submit(read) for _ in range(2)]
        assert all(each.result() for each in readers)
        for each in writers:
            each.result()
    assert len(made) == 1


def test_a_removed_value_is_let_go() -> None:
    class Handler: ...

    made: meshcore.RouteMap[Handler] = meshcore.RouteMap()
    handler = Handler()
    alive = weakref.ref(handler)
    made.insert("one", handler)
    del handler
    assert alive() is not None
    made.remove("one")
    gc.collect()
    assert alive() is None


HOSTS = ["api.example", "*.api.example", "[2001:db8::1]", "api_x.example"]


@pytest.mark.parametrize(
    ("host", "owner"),
    [
        ("api.example:8080", "api.example"),
        ("API.Example:443", "api.example"),
        ("api.example.", "api.example"),
        ("api.example.:80", "api.example"),
        ("v1.api.example:8080", "*.api.example"),
        ("[2001:DB8:0::1]:80", "[2001:db8::1]"),
        ("[2001:db8::1]", "[2001:db8::1]"),
        ("api_x.example:1", "api_x.example"),
        ("other.example:80", "*"),
        ("", "*"),
    ],
)
def test_a_host_is_matched_as_the_proxy_does(host: str, owner: str) -> None:
    routes: meshcore.RouteMap[str] = meshcore.RouteMap()
    for each in ("*", *HOSTS):
        routes.insert(each, each, host=each)
    found = routes.lookup(host, "/")
    assert found is not None
    assert found.value == owner


@pytest.mark.parametrize(
    "host", ["a:", "a:x", "a:65536", "u@a", "::1", "[::1", "a b", "a/b", "http://a", "ä", "a,b"]
)
def test_a_host_to_which_the_proxy_would_answer_400_is_an_error(host: str) -> None:
    routes: meshcore.RouteMap[str] = meshcore.RouteMap()
    routes.insert("all", "all")
    with pytest.raises(ValueError, match=r"host .*: (invalid|port|bytes)"):
        routes.lookup(host, "/")


def test_fields_may_hold_octets_as_layers_see_them() -> None:
    routes: meshcore.RouteMap[str] = meshcore.RouteMap()
    routes.insert("all", "all", headers={"x-a": "1"})
    found = routes.lookup("a.example", "/", "GET", [("x-odd", "caf\udce9"), ("x-a", "1")])
    assert found is not None
    with pytest.raises(UnicodeEncodeError):
        routes.lookup("a.example", "/", "GET", [("x-odd", "\ud800")])
