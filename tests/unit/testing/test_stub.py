"""Stub services, asked over real sockets."""

from __future__ import annotations

import asyncio
import http.client
import socket
import subprocess
import sys
import threading
import time
from contextlib import closing
from importlib.metadata import entry_points
from typing import Any

import pytest

import meshcore
from meshcore.testing import Asked, Reply, StubService, StubServices, stub

MESH = """
version: 1
listeners:
  edge: {{bind: "127.0.0.1:0"}}
routes:
  - {{name: all, upstream: one, retry: {{retries: 1, when: [reset, 503]}}}}
upstreams:
  one: {{endpoints: ["{}"]}}
"""


def get(made: StubService, method: str = "GET", target: str = "/") -> tuple[int, bytes]:
    with closing(http.client.HTTPConnection(made.address, timeout=20)) as client:
        client.request(method, target)
        response = client.getresponse()
        return response.status, response.read()


def test_it_answers_and_records(stub_service: StubServices) -> None:
    stub = stub_service(Reply(201, {"X-Two": "2"}, b"made"))
    with closing(http.client.HTTPConnection(stub.address, timeout=20)) as made:
        for number in range(3):  # on one connection
            made.request("POST", f"/{number}?q", b"body", {"X-One": "1"})
            response = made.getresponse()
            assert (response.status, response.read()) == (201, b"made")
            assert response.headers["x-two"] == "2"
    assert [each.target for each in stub.requests] == ["/0?q", "/1?q", "/2?q"]
    asked = stub.requests[0]
    assert (asked.method, asked.body, asked.header("X-ONE")) == ("POST", b"body", "1")
    assert asked.header("x-three") is None
    assert stub.url == f"http://{stub.address}"


def test_a_chunked_body_is_whole(stub_service: StubServices) -> None:
    stub = stub_service()
    with closing(http.client.HTTPConnection(stub.address, timeout=20)) as made:
        for _ in range(2):
            made.request("PUT", "/", iter([b"one ", b"two"]), encode_chunked=True)
            assert made.getresponse().read() == b""
    assert [each.body for each in stub.requests] == [b"one two"] * 2


def test_answers_come_one_after_the_other(stub_service: StubServices) -> None:
    stub = stub_service([503, Reply(200, body=b"a"), 204])
    assert [get(stub)[0] for _ in range(4)] == [503, 200, 204, 204]
    stub.answer(lambda asked: Reply(body=asked.target.encode()))
    assert get(stub, target="/x") == (200, b"/x")
    assert get(stub, "HEAD") == (200, b"")


def test_a_connection_may_end_without_an_answer(stub_service: StubServices) -> None:
    stub = stub_service([None, 200])
    with pytest.raises(http.client.RemoteDisconnected):
        get(stub)
    assert get(stub)[0] == 200
    assert len(stub.requests) == 2


@pytest.mark.parametrize(
    "head",
    [b"content-length: 99999999999", b"content-length: -1", b"transfer-encoding: chunked"],
)
def test_what_is_too_large_is_refused(
    stub_service: StubServices, head: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stub, "MAX_BODY_BYTES", 8)
    made = stub_service()
    host, _, port = made.address.partition(":")
    with socket.create_connection((host, int(port)), timeout=20) as raw:
        raw.sendall(b"PUT / HTTP/1.1\r\nhost: a\r\n" + head + b"\r\n\r\n9\r\n123456789\r\n")
        answer = b""
        while piece := raw.recv(4096):
            answer += piece
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert made.requests == []


def test_what_is_no_answer_is_an_error() -> None:
    for wrong in (99, True, "200", b"ok", [200, 1], []):
        with pytest.raises(
            ValueError, match=r"(?<!'2') is no answer: expected a status|no answers"
        ):
            StubService(wrong)  # type: ignore[arg-type]
    wrongs: list[tuple[type[Exception], str, dict[str, Any]]] = [
        (ValueError, "^status: expected one from 200 to 599, got '200'$", {"status": "200"}),
        (ValueError, "^status: expected one from 200 to 599, got 600$", {"status": 600}),
        (TypeError, r"^body: expected bytes, got 'text': write text.encode\(\)$", {"body": "text"}),
        (TypeError, "^headers: expected texts, got 'x': 1$", {"headers": {"x": 1}}),
        (TypeError, "^headers: expected a mapping, or pairs of texts, got 'x'$", {"headers": "x"}),
        (ValueError, "^delay: expected seconds, got '1s'$", {"delay": "1s"}),
    ]
    for kind, told, given in wrongs:
        with pytest.raises(kind, match=told):
            Reply(**given)
    with pytest.raises(
        TypeError, match=r"is to answer what is asked: write it as lambda asked: 200$"
    ):
        StubService(lambda: 200)  # type: ignore[arg-type, misc]
    assert list(Reply(headers=iter([("a", "b")])).headers) == [("a", "b")]


def test_what_a_function_raises_fails_the_test() -> None:
    def broken(asked: Asked) -> int:
        raise KeyError("as made")

    with pytest.raises(KeyError, match="as made"), StubService(broken) as made:
        assert get(made) == (500, b"KeyError: 'as made'\n")


def test_a_tests_own_fault_is_the_one_that_is_told() -> None:
    def broken(asked: Asked) -> int:
        raise KeyError("as made")

    def fail() -> None:
        with StubService(broken) as made:
            get(made)
            raise LookupError("of the test")

    with pytest.raises(LookupError, match="of the test"):
        fail()


def test_it_ends_with_open_connections_and_slow_answers() -> None:
    entered = threading.Event()

    def late(asked: Asked) -> Reply:
        entered.set()
        return Reply(delay=60)

    with StubService(late) as slow, StubService() as idle:
        kept = http.client.HTTPConnection(idle.address, timeout=20)
        kept.request("GET", "/")
        assert kept.getresponse().read() == b""
        waiting = http.client.HTTPConnection(slow.address, timeout=20)
        waiting.request("GET", "/")
        assert entered.wait(20)
        began = time.monotonic()
    assert time.monotonic() - began < 20
    assert threading.active_count() < 10
    for each in (kept, waiting):
        each.close()
    with pytest.raises(ConnectionRefusedError):
        get(idle)
    idle.close()


async def test_a_mesh_in_front_of_it(stub_service: StubServices) -> None:
    stub = stub_service([503, None, Reply(body=b"at last")])
    config = meshcore.load_text(MESH.format(stub.address))
    async with meshcore.Proxy(config) as proxy:
        url = proxy.addresses["edge"].removeprefix("http://")

        def ask() -> tuple[int, bytes]:
            with closing(http.client.HTTPConnection(url, timeout=20)) as made:
                made.request("GET", "/")
                response = made.getresponse()
                return response.status, response.read()

        assert (await asyncio.to_thread(ask))[0] == 502
        assert await asyncio.to_thread(ask) == (200, b"at last")
    assert len(stub.requests) == 3
    assert stub.requests[0].header("via") is not None


def test_the_plugin_imports_nothing_of_meshcore() -> None:
    code = (
        "import sys, meshcore_pytest; print([x for x in sys.modules if x.startswith('meshcore')])"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout == "['meshcore_pytest']\n"


def test_pytest_finds_the_fixture_by_itself() -> None:
    found = [x.value for x in entry_points(group="pytest11") if x.name == "meshcore"]
    assert found == ["meshcore_pytest"]
