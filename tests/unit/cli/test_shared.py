"""`meshcore shared` shows what processes share, and opens and closes its breakers."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner, Result

from meshcore import SharedState
from meshcore.cli import main
from meshcore.library import shared_listing


@pytest.fixture
def name() -> Iterator[str]:
    name = f"test-{os.getpid()}-{time.monotonic_ns()}"
    yield name
    SharedState.unlink(name)


def shared(*args: str) -> Result:
    return CliRunner().invoke(main, ["shared", *args])


def listed(name: str) -> dict[str, Any]:
    found = json.loads(shared(name, "--json").stdout)
    return {f"{each['kind']} {each['name']}": (each["rules"], each["state"]) for each in found}


def test_parts_are_listed_with_their_rules_and_how_they_stand(name: str) -> None:
    state = SharedState(name)
    bucket = state.token_bucket("api", "1/h", 5)
    bucket.acquire(2)
    assert not bucket.try_acquire(4)
    clients = state.client_limiter("users", "5/m", 1)
    assert [clients.try_acquire(client) for client in "abb"] == [True, True, False]
    del bucket, clients  # which tells of them
    budget = state.retry_budget("db", "50%", 2)
    breaker = state.circuit_breaker("db, main", failures=3)
    for _ in range(2):
        breaker.acquire().failure()
    found = listed(name)
    rules, stands = found["token_bucket api"]
    assert (rules, stands["remaining"]) == ({"rate": "1/h", "burst": "5"}, 3)
    assert 0 < stands["full_after"] <= 7_200
    assert (stands["admitted"], stands["refused"]) == (1, 1)
    rules, stands = found["client_limiter users"]
    assert rules == {"rate": "1/12s", "burst": "1", "clients": "65536"}
    assert stands == {"busy_clients": 2, "admitted": 2, "refused": 1}
    assert found["retry_budget db"] == (
        {"percent": "50%", "floor": "2"},
        {"calls": budget.calls, "retries": budget.retries},
    )
    rules, stands = found["circuit_breaker db, main"]
    assert (rules["failures"], rules["open_for"]) == ("3", "30s")
    assert (stands["state"], stands["failures_in_row"], stands["failures"]) == ("closed", 2, 2)
    lines = shared(name).stdout.splitlines()
    assert len(lines) == 4
    assert lines[0].startswith("token_bucket api: remaining 3, full_after ")
    assert lines[0].endswith(" (rate 1/h, burst 5)")


def test_a_part_that_was_removed_is_there_no_more(name: str) -> None:
    state = SharedState(name)
    state.token_bucket("x", "1/s")
    state.token_bucket("y", "1/s")
    state.remove("x")
    assert list(listed(name)) == ["token_bucket y"]
    state.token_bucket("x", "2/s")
    assert listed(name)["token_bucket x"][0]["rate"] == "2/s"


@pytest.mark.parametrize(
    "rules",
    [
        {},
        {"failures": 0, "failure_percent": "12%", "min_calls": 7, "window": "90s"},
        {"last_calls": 100, "min_calls": 3, "slow_call": "250ms"},
        {"open_for": "1ms", "max_open_for": "365d", "probes": 3, "probe_timeout": "1d"},
    ],
)
def test_a_breaker_is_opened_and_closed_for_all(name: str, rules: dict[str, Any]) -> None:
    state = SharedState(name)
    breaker = state.circuit_breaker("db", **rules)
    other = state.circuit_breaker("other")
    opened = shared(name, "--breaker", "db", "--open", "5m")
    assert opened.exit_code == 0
    assert opened.stdout.startswith("circuit_breaker db: state open, retry_after ")
    assert (breaker.state, other.state) == ("open", "closed")
    assert 299 < breaker.snapshot().retry_after <= 300
    assert shared_listing.breaker(state, "db")._rules_text == breaker._rules_text
    assert shared(name, "--breaker", "db", "--close").exit_code == 0
    assert breaker.state == "closed"


def test_states_are_listed_and_none_is_made(name: str) -> None:
    asked = shared(name)
    assert (asked.exit_code, asked.stderr) == (
        1,
        f"meshcore: no shared state {name} of this user\n",
    )
    assert name not in shared().stdout.splitlines()
    SharedState(name)
    assert name in shared().stdout.splitlines()
    assert name in json.loads(shared("--json").stdout)
    assert shared(name).stdout == ""


@pytest.mark.parametrize(
    ("args", "code", "told"),
    [
        (["--breaker", "db", "--close"], 1, "no breaker db in the shared state"),
        (["--breaker", "x", "--open", "soon"], 2, "duration"),
        (["--breaker", "x"], 2, "--open DURATION or --close"),
        (["--close"], 2, "--breaker NAME"),
        (["--breaker", "x", "--open", "1s", "--close"], 2, "--open DURATION or --close"),
    ],
)
def test_what_cannot_be_done_is_told(name: str, args: list[str], code: int, told: str) -> None:
    SharedState(name).circuit_breaker("x")
    asked = shared(name, *args)
    assert asked.exit_code == code
    assert told in asked.stderr


def test_what_is_no_name_is_told() -> None:
    asked = shared("../x")
    assert (asked.exit_code, "is no name of a shared state" in asked.stderr) == (2, True)
