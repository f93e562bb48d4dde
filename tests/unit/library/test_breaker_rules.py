"""A breaker's rules are judged when it is made, in the words of `meshcore check`."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import meshcore
from meshcore.config.units import MAX_DURATION
from meshcore.errors import ConfigError
from meshcore.library.breaker_model import by_model
from meshcore.library.breaker_rules import core_rules, quickly
from tests.unit.library.breakers import Make, both

WRONG: list[tuple[str, Any, str]] = [
    ("probes", 0, "must be greater than or equal to 1, got 0"),
    ("probes", 1024, "must be less than or equal to 1023, got 1024"),
    ("successes", 0, "must be greater than or equal to 1, got 0"),
    ("failures", -1, "must be greater than or equal to 0, got -1"),
    ("failures", 1 << 20, "must be less than or equal to 1048575"),
    ("failures", True, "expected a whole number, got true"),
    ("failure_percent", 101, "101 is not within 0% and 100%"),
    ("failure_percent", "half", "'half' is not a whole percentage"),
    ("min_calls", 0, "must be greater than or equal to 1, got 0"),
    ("min_calls", 1.5, "expected a whole number, got 1.5"),
    ("window", "0", "must be at least 1ms"),
    ("window", "10", "'10' is not a duration"),
    ("open_for", "0s", "must be at least 1ms"),
    ("open_for", "366d", "'366d' is longer than 365d"),
    ("max_open_for", None, "expected a duration such as 30s, 250ms or 5m, got nothing"),
]


@both
@pytest.mark.parametrize(("name", "value", "told"), WRONG)
def test_what_is_no_rule(make: Make, name: str, value: Any, told: str) -> None:
    with pytest.raises(ValueError, match=f"^{name}: {told}"):
        make(**{name: value})


@pytest.mark.parametrize(("name", "value", "told"), WRONG)
def test_check_says_the_same(name: str, value: Any, told: str) -> None:
    written = {True: "true", None: "null"}.get(value, f'"{value}"')
    text = f"""
        version: 1
        listeners: {{edge: {{bind: "127.0.0.1:0"}}}}
        upstreams:
          u:
            endpoints: ["127.0.0.1:1"]
            circuit_breaker: {{{name}: {value if isinstance(value, int | float) else written}}}
        routes: [{{name: r, upstream: u}}]
    """
    with pytest.raises(ConfigError) as caught:
        meshcore.load_text(textwrap.dedent(text).replace("True", "true"))
    assert f"circuit_breaker.{name}: {told}" in str(caught.value)


@both
def test_every_rule_that_is_none_is_told(make: Make) -> None:
    with pytest.raises(ValueError, match=r"(?s)probes: .*\nwindow: |window: .*\nprobes: "):
        make(probes=0, window="0")


@both
@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("open_for_ns", "did you mean open_for?"),
        ("faliures", "did you mean failures?"),
        ("slow_call_ns", ""),
        ("on", "here it is failure_on"),
        ("nonsense", "no keyword nonsense$"),
    ],
)
def test_a_rule_that_there_is_not(make: Make, name: str, told: str) -> None:
    with pytest.raises(
        TypeError, match=f"no keyword {name}.*{told}" if "no keyword" not in told else told
    ):
        make(**{name: 1})


@pytest.mark.parametrize("seconds", ["90s", "1m30s", 90, 90.0, timedelta(minutes=1, seconds=30)])
@pytest.mark.parametrize("name", ["window", "open_for", "max_open_for", "probe_timeout"])
def test_times_as_programs_have_them(name: Any, seconds: Any) -> None:
    given: Any = {name: seconds}
    assert f'"{name}_ns": 90000000000' in core_rules(given)


@both
@pytest.mark.parametrize(
    ("value", "told"),
    [
        (0, "must be at least 1ms"),
        (-1, "less than no time"),
        (float("nan"), "nan is not a duration"),
        (30_000_000_000, "numbers are seconds"),
        (True, "got true"),
    ],
)
def test_times_that_are_none(make: Make, value: Any, told: str) -> None:
    with pytest.raises(ValueError, match=f"^open_for: .*{told}"):
        make(open_for=value)


@both
@pytest.mark.parametrize(
    ("value", "told"), [(1.9, "must be at least 2s"), ("25h", "must be at most 1d")]
)
def test_the_bounds_of_a_probes_time(make: Make, value: Any, told: str) -> None:
    with pytest.raises(ValueError, match=f"^probe_timeout: {told}"):
        make(probe_timeout=value)


@both
@pytest.mark.parametrize("given", [OSError, [OSError], (OSError, KeyError), {OSError}])
def test_failures_as_one_class_or_several(make: Make, given: Any) -> None:
    breaker = make(failures=1, failure_on=given)
    with pytest.raises(ValueError, match="x"), breaker:
        raise ValueError("x")
    assert breaker.state == "closed"
    with pytest.raises(ConnectionError), breaker:
        raise ConnectionError
    assert breaker.state == "open"


@both
@pytest.mark.parametrize("given", ["OSError", [1], [OSError, None], OSError(), int])
def test_failures_that_are_no_classes(make: Make, given: Any) -> None:
    with pytest.raises(TypeError, match="failure_on: expected classes of exceptions, got"):
        make(failure_on=given)


def test_no_failure_at_all() -> None:
    with pytest.raises(ValueError, match="failure_on: is empty"):
        meshcore.CircuitBreaker(failure_on=[])


WHOLE = st.sampled_from([-1, 0, 1, 7, 1023, 1024, (1 << 20) - 1, 1 << 20, True, 1.0, "3", None])
TIMES: Any = st.one_of(
    st.sampled_from(["0", "1ms", "999us", "2s", "1999ms", "1d", "25h", "365d", "366d", "3", None]),
    st.sampled_from([0, 0.001, 0.0009, 2, 86400, 86401, -1, float("nan"), True, b"1s"]),
    st.sampled_from([timedelta(0), timedelta(seconds=2), timedelta(days=366)]),
    st.integers(0, MAX_DURATION).map(lambda ns: f"{ns}ns"),
)
PARTS = st.sampled_from([0, 50, "50%", "50", 100, 101, "101%", "half", True, 0.5, None])
RULES: Any = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(("failures", "min_calls", "successes", "probes"), WHOLE),
        **dict.fromkeys(
            ("window", "open_for", "max_open_for", "slow_call", "probe_timeout"), TIMES
        ),
        "failure_percent": PARTS,
    },
)


@given(rules=RULES)
def test_what_is_seen_to_be_right_at_once_is_what_the_model_makes_of_it(rules: Any) -> None:
    at_once = quickly(rules)
    try:
        modelled = by_model(rules)
    except ValueError:
        assert at_once is None
        return
    if at_once is not None:
        assert {**by_model({}), **at_once} == modelled
    else:
        # The rest may take its time: it is right, and oddly written.
        assert None in rules.values() or "last_calls" in rules or "3" in rules.values()


def test_right_rules_load_no_model() -> None:
    program = (
        "import sys, meshcore\n"
        "meshcore.CircuitBreaker(failures=3, failure_percent='20%', open_for=2, window='5s')\n"
        "assert not {'pydantic', 'yaml'} & sys.modules.keys(), sys.modules.keys()\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
