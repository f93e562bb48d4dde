"""Durations, sizes and rates: exact, with units, and written back as they can be read."""

import math
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshcore.config.units import (
    MAX_DURATION,
    MAX_RATE,
    MAX_SIZE,
    SECOND,
    Rate,
    format_duration,
    format_percent,
    format_rate,
    format_sample,
    format_size,
    parse_duration,
    parse_percent,
    parse_rate,
    parse_sample,
    parse_size,
    time_ns,
)


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("30s", 30 * SECOND),
        ("250ms", 250_000_000),
        ("1m30s", 90 * SECOND),
        ("1.5s", 1_500_000_000),
        ("365d", MAX_DURATION),
        ("0", 0),
        (0, 0),
        ("0s", 0),
    ],
)
def test_durations(text: object, ns: int) -> None:
    assert parse_duration(text) == ns


@pytest.mark.parametrize(
    "text", [5, 1.5, True, None, "", "5", "5 s", "-1s", "5x", "0.1ns", "366d", "1" * 70 + "s", "٣s"]
)
def test_what_is_no_duration(text: object) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("value", "ns"),
    [
        ("1m30s", 90_000_000_000),
        ("0", 0),
        (0, 0),
        (30, 30_000_000_000),
        (1.5, 1_500_000_000),
        (0.1, 100_000_000),
        (timedelta(milliseconds=250), 250_000_000),
        (timedelta(days=365), MAX_DURATION),
        (timedelta(days=365).total_seconds(), MAX_DURATION),
    ],
)
def test_times_of_programs(value: object, ns: int) -> None:
    assert time_ns(value) == ns


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (True, "got true"),
        (None, "got nothing"),
        ("30", "not a duration"),
        (-1, "less than no time"),
        (timedelta(seconds=-1), "less than no time"),
        (30_000_000_000, "longer than 365d: numbers are seconds"),
        (timedelta.max, "longer than 365d"),
        (math.inf, "inf is not a duration"),
        (math.nan, "nan is not a duration"),
    ],
)
def test_what_is_no_time_of_a_program(value: object, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        time_ns(value)


@given(st.integers(0, MAX_DURATION))
def test_a_time_is_the_same_in_seconds(ns: int) -> None:
    assert abs(time_ns(ns / 1e9) - ns) <= max(1, ns >> 52)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("64KiB", 65_536),
        ("10MB", 10**7),
        ("1.5KiB", 1536),
        (1500, 1500),
        ("0", 0),
        ("1 GiB", 1 << 30),
    ],
)
def test_sizes(text: object, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", [-1, True, 1.5, "64K", "64kib", "x", "0.5B", str(MAX_SIZE + 1), "1PB"]
)
def test_what_is_no_size(text: object) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("100/s", Rate(100, SECOND)),
        ("6000/m", Rate(6000, 60 * SECOND)),
        ("5/10s", Rate(5, 10 * SECOND)),
        (f"{MAX_RATE}/s", Rate(MAX_RATE, SECOND)),
    ],
)
def test_rates(text: str, rate: Rate) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize(
    "text", ["100", 100, "0/s", "1/0s", "0.5/s", "1/366d", "2/ns", "a/s", "/s"]
)
def test_what_is_no_rate(text: object) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_rate(text)


@pytest.mark.parametrize(
    ("text", "percent"),
    [("80%", 80), ("80 %", 80), ("80", 80), (80, 80), ("100%", 100), (1, 1), ("0%", 0), (0, 0)],
)
def test_percentages(text: object, percent: int) -> None:
    assert parse_percent(text) == percent


@pytest.mark.parametrize(
    "text",
    [101, -1, "101%", "-1%", "80.5%", 0.8, True, None, "", "%", "80%%", "٨%", "8" * 70],
)
def test_what_is_no_percentage(text: object) -> None:
    with pytest.raises(ValueError, match=r"write 80%( or 80)?$|within 0% and 100%"):
        parse_percent(text)


@pytest.mark.parametrize("text", [0.8, "0.8", ".8", " 0.80 "])
def test_a_part_of_one_is_told_as_a_percentage(text: object) -> None:
    with pytest.raises(ValueError, match=r"is not a whole percentage: write 80%$"):
        parse_percent(text)


@given(st.integers(0, 100))
def test_a_percentage_is_written_as_it_is_read(percent: int) -> None:
    assert parse_percent(format_percent(percent)) == percent


@given(st.integers(0, MAX_DURATION))
def test_a_duration_is_written_as_it_is_read(ns: int) -> None:
    assert parse_duration(format_duration(ns)) == ns


@given(st.integers(0, MAX_SIZE))
def test_a_size_is_written_as_it_is_read(size: int) -> None:
    assert parse_size(format_size(size)) == size


@given(st.integers(1, 10**6), st.integers(10**6, MAX_DURATION))
def test_a_rate_is_written_as_it_is_read(tokens: int, period: int) -> None:
    assert parse_rate(format_rate(Rate(tokens, period))) == Rate(tokens, period)


@pytest.mark.parametrize(
    ("text", "per_million"),
    [("1%", 10_000), ("0.01%", 100), ("0.0001 %", 1), ("100%", 1_000_000), (0, 0), (5, 50_000)],
)
def test_samples(text: object, per_million: int) -> None:
    assert parse_sample(text) == per_million


@pytest.mark.parametrize("text", ["", "1", "0.00001%", "-1%", -1, True, None, "1.%", ".5%", "a%"])
def test_what_is_no_sample(text: object) -> None:
    with pytest.raises(ValueError, match="is not a percentage of at most four digits"):
        parse_sample(text)


def test_a_sample_is_told_how_to_be_written() -> None:
    with pytest.raises(ValueError, match=r"write 1%$"):
        parse_sample(0.01)
    with pytest.raises(ValueError, match="is not within 0% and 100%"):
        parse_sample("101%")


@pytest.mark.parametrize("per_million", [0, 1, 100, 10_000, 12_345, 1_000_000])
def test_a_sample_is_written_as_it_is_read(per_million: int) -> None:
    assert parse_sample(format_sample(per_million)) == per_million
