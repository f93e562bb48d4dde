"""Breakers and ejected endpoints are told of; breakers are opened and closed by hand, for all."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.process.program import Program
from tests.process.test_workers import get, write

TEXT = """
version: 1
admin: {{bind: "127.0.0.1:0"}}
listeners: {{edge: {{bind: "127.0.0.1:0"}}}}
routes:
- {{name: dead, match: {{path: {{prefix: /dead}}}}, upstream: dead, retry: off}}
- name: own
  match: {{path: {{prefix: /own}}}}
  upstream: dead
  retry: off
  layers: [circuit_breaker: {{failures: 0}}]
- {{name: plain, upstream: plain, retry: off}}
upstreams:
  dead: {{endpoints: ["127.0.0.1:{port}"], circuit_breaker: {{failures: 2, open_for: 60s}}}}
  plain:
    endpoints: ["127.0.0.1:{port}", "127.0.0.2:{port}"]
    circuit_breaker: off
    ejection: {{failures: 1, eject_for: 60s}}
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    with socket.socket() as nobody:  # bound, and no listener: connects are refused
        nobody.bind(("127.0.0.1", 0))
        text = TEXT.format(port=nobody.getsockname()[1])
        file = write(tmp_path_factory.mktemp("breakers"), text)
        with Program(file, "--workers", "2") as program:
            program.url()
            yield program
            assert program.stop() == 0


def order(program: Program, query: str) -> tuple[int, Any]:
    address = program.line(r"http://(\S+) \(admin\)")[1]
    connection = http.client.HTTPConnection(address, timeout=30)
    try:
        connection.request("POST", f"/breaker?{query}")
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def cli(program: Program, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "meshcore", words[0], str(program.file), *words[1:]]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def breakers(program: Program) -> dict[tuple[str, str | None], dict[str, Any]]:
    return {(each["upstream"], each["route"]): each for each in program.status()["breakers"]}


def reasons(program: Program, path: str, times: int = 8) -> set[int]:
    """The statuses of requests on connections of their own, so that both workers have some."""
    return {get(program.url() + path)[0] for _ in range(times)}


def test_a_breaker_that_opened_is_told_and_closed_by_hand(program: Program) -> None:
    before = breakers(program)
    assert set(before) == {("dead", None), ("dead", "own")}
    assert {each["state"] for each in before.values()} == {"closed"}
    assert reasons(program, "/dead") == {502, 503}
    told = breakers(program)["dead", None]
    assert told["state"] == "open"
    assert 0 < told["probes_in_s"] <= 60
    assert "breaker of upstream dead: open, probes pass in" in cli(program, "status").stdout
    done = cli(program, "breaker", "--upstream", "dead", "--close")
    assert (done.returncode, "upstream dead is closed" in done.stdout) == (0, True)
    told = breakers(program)["dead", None]
    assert (told["state"], told["probes_in_s"], told["failures"]) == ("closed", None, 0)
    assert get(program.url() + "/dead")[0] == 502, "asked again"
    told = breakers(program)["dead", None]
    assert (told["state"], told["failures_in_row"]) == ("closed", 1)
    assert (told["calls"], told["failures"]) == (1, 1)
    shown = cli(program, "status").stdout
    counted = "1 failure in a row, 1 of the 1 calls in its window failed"
    assert f"breaker of upstream dead: closed, {counted}\n" in shown


def test_a_breaker_is_opened_by_hand_for_all_workers(program: Program) -> None:
    done = cli(program, "breaker", "--route", "own", "--open", "5m")
    assert (done.returncode, "route own is open" in done.stdout) == (0, True)
    assert reasons(program, "/own") == {503}
    told = breakers(program)["dead", "own"]
    assert told["state"] == "open"
    assert 200 < told["probes_in_s"] <= 300
    assert "breaker of route own of upstream dead: open" in cli(program, "status").stdout
    assert order(program, "route=own&state=closed") == (200, {"route": "own", "state": "closed"})
    assert reasons(program, "/own", 1) == {502}
    program.line("the breaker of route own is opened for 5m by hand")
    program.line("the breaker of route own is closed by hand")


def test_ejected_endpoints_are_told(program: Program) -> None:
    program.until(lambda: get(program.url() + "/x")[0] and bool(program.status()["ejected"]))
    (told,) = program.status()["ejected"]
    assert told["upstream"] == "plain"
    assert 0 < told["probed_in_s"] <= 60
    assert f"ejected from upstream plain: {told['endpoint']}" in cli(program, "status").stdout


@pytest.mark.parametrize(
    ("query", "status", "error"),
    [
        ("state=closed", 400, "whose breaker: upstream=NAME"),
        ("upstream=dead&route=own&state=closed", 400, "whose breaker: upstream=NAME"),
        ("upstream=dead", 400, "state=open with for=5m, or state=closed"),
        ("upstream=dead&state=half", 400, "state=open with for=5m, or state=closed"),
        ("upstream=dead&state=closed&for=5m", 400, "state=open with for=5m, or state=closed"),
        ("upstream=dead&state=open", 400, "for how long"),
        ("upstream=dead&state=open&for=0", 400, "for=0: state=closed closes it"),
        ("upstream=dead&state=open&for=5", 400, "5"),
        ("upstream=dead&state=open&for=9999d", 400, "longer than 365d"),
        ("upstream=none&state=closed", 400, "upstream 'none' has no breaker of its own"),
        ("upstream=plain&state=closed", 400, "upstream 'plain' has no breaker of its own"),
        ("route=dead&state=closed", 400, "route 'dead' has no breaker of its own"),
        ("upstream=dead&state=closed&now=1", 400, "unknown parameter 'now'"),
    ],
)
def test_what_is_no_order_changes_nothing(
    program: Program, query: str, status: int, error: str
) -> None:
    got, answer = order(program, query)
    assert got == status
    assert error in answer["errors"][0]


@pytest.mark.parametrize(
    "words",
    [["--close"], ["--upstream", "dead"], ["--upstream", "dead", "--open", "1m", "--close"]],
)
def test_what_is_no_command_says_so(program: Program, words: list[str]) -> None:
    assert cli(program, "breaker", *words).returncode == 2
