"""Durations, sizes, rates, percentages and modes as people write them, as exact integers.

A duration is nanoseconds, a size is bytes, a rate is tokens per a period of nanoseconds, a
percentage is a whole number. Each parser takes what YAML or Python hands over and raises
`ValueError` with the accepted form.
"""

from __future__ import annotations

import math
import re
import stat
from datetime import timedelta
from fractions import Fraction
from typing import Final, NamedTuple

from meshcore.config.hints import HintedError, shown

SECOND: Final = 1_000_000_000
DURATION_UNITS: Final = {
    "ns": 1,
    "us": 1_000,
    "ms": 1_000_000,
    "s": SECOND,
    "m": 60 * SECOND,
    "h": 3_600 * SECOND,
    "d": 86_400 * SECOND,
}
SIZE_UNITS: Final = {
    "B": 1,
    "KiB": 1 << 10,
    "MiB": 1 << 20,
    "GiB": 1 << 30,
    "TiB": 1 << 40,
    "kB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
}
# A year: long enough for anything that is meant, short enough that the core's 64-bit nanoseconds
# cannot overflow when a few of them are added.
MAX_DURATION: Final = 365 * DURATION_UNITS["d"]
# What a signed 64-bit length can hold.
MAX_SIZE: Final = (1 << 63) - 1
# The bits without which a socket is of no use to who made it.
_OWNER: Final = stat.S_IRUSR | stat.S_IWUSR
# One token per nanosecond is as fine as the core's clock.
MAX_RATE: Final = SECOND

_BINARY_UNITS: Final = {u: n for u, n in SIZE_UNITS.items() if u == "B" or u.endswith("iB")}
_LETTERS: Final = "".join({letter for unit in DURATION_UNITS for letter in unit})
_NUMBER = r"(?:\d+(?:\.\d+)?)"
_DURATION_PART = re.compile(rf"({_NUMBER})(ns|us|ms|s|m|h|d)", re.ASCII)
_DURATION = re.compile(rf"(?:{_NUMBER}(?:ns|us|ms|s|m|h|d))+", re.ASCII)
_SIZE = re.compile(rf"({_NUMBER})\s*([A-Za-z]+)", re.ASCII)
_SAMPLE = re.compile(r"(\d{1,3}(?:\.\d{1,4})?)\s*%", re.ASCII)
_PERCENT = re.compile(r"(\d+)\s*%?", re.ASCII)
_PART = re.compile(r"0?\.\d+", re.ASCII)
_MODE = re.compile(r"(?:0o?)?([0-7]{3})", re.ASCII)
_RATE = re.compile(rf"({_NUMBER})/(\d*)(ns|us|ms|s|m|h|d)", re.ASCII)
_LONG_UNIT = r"(ms|milli(?:second)?s?|s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?|d|days?)"
_LONG_DURATION = re.compile(rf"({_NUMBER})\s*{_LONG_UNIT}", re.ASCII)
_LONG_RATE = re.compile(
    rf"({_NUMBER})\s*(?:r|req|requests?)?\s*(?:/|per|p)\s*{_LONG_UNIT}", re.ASCII
)
# A number with this many characters was not meant as a number.
_MAX_TEXT: Final = 64


class Rate(NamedTuple):
    """``tokens`` in each period."""

    tokens: int
    period_ns: int


def parse_duration(value: object) -> int:
    """Nanoseconds of ``30s``, ``250ms``, ``1m30s`` or ``0``; at most a year."""
    if value == 0 and isinstance(value, int) and not isinstance(value, bool):
        return 0
    text = _text(value, "a duration such as 30s, 250ms or 5m")
    if text == "0":
        return 0
    if not _DURATION.fullmatch(text):
        hint = _in_short(_LONG_DURATION, text, "{}{}")
        raise HintedError(f"{shown(value)} is not a duration", hint or "write 30s, 250ms or 1m30s")
    total = sum(
        (Fraction(number) * DURATION_UNITS[unit] for number, unit in _DURATION_PART.findall(text)),
        Fraction(0),
    )
    if total.denominator != 1:
        raise ValueError(f"{shown(value)} is finer than a nanosecond")
    if total > MAX_DURATION:
        raise ValueError(f"{shown(value)} is longer than 365d")
    return int(total)


def time_ns(value: object) -> int:
    """Nanoseconds of what a program hands over: a text as of `parse_duration`, a `timedelta`, or a
    number of seconds, which is rounded to the nanosecond; at most a year."""
    if isinstance(value, timedelta):
        exact = Fraction(value // timedelta(microseconds=1), 1_000_000)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{value} is not a duration: expected seconds, a timedelta or 30s")
        exact = Fraction(value)
    else:
        return parse_duration(value)
    total = round(exact * SECOND)
    if total < 0:
        raise ValueError(f"{shown(value)} is less than no time")
    if total > MAX_DURATION:
        raise ValueError(f"{shown(value)} is longer than 365d: numbers are seconds")
    return total


def given_ns(value: object) -> int:
    """Nanoseconds; a `ValueError` says what would be right, if that can be guessed."""
    try:
        return time_ns(value)
    except HintedError as error:
        hint = f" ({error.hint})" if error.hint else ""
        raise ValueError(f"{error}{hint}") from None


def named_ns(name: str, value: object) -> int:
    """The same; the `ValueError` says of which argument it is."""
    try:
        return given_ns(value)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def parse_size(value: object) -> int:
    """Bytes of ``64KiB``, ``10MB`` or a plain number."""
    if isinstance(value, int) and not isinstance(value, bool):
        size = Fraction(value)
    else:
        text = _text(value, "a size such as 64KiB or 10MB")
        if text.isascii() and text.isdigit():
            size = Fraction(text)
        else:
            match = _SIZE.fullmatch(text)
            if match is None:
                raise ValueError(f"{shown(value)} is not a size: write 64KiB, 10MB or bytes")
            size = Fraction(match[1]) * _size_unit(match[2])
    if size.denominator != 1:
        raise ValueError(f"{shown(value)} is not a whole number of bytes")
    if not 0 <= size <= MAX_SIZE:
        raise ValueError(f"{shown(value)} is not within 0 and {MAX_SIZE} bytes")
    return int(size)


def _size_unit(unit: str) -> int:
    if unit in SIZE_UNITS:
        return SIZE_UNITS[unit]
    letter = unit[0].upper()
    if unit.lower() in {"k", "m", "g", "t", "kb", "kib", "mib", "gib", "tib", "mb", "gb", "tb"}:
        binary, decimal = f"{letter}iB", "kB" if letter == "K" else f"{letter}B"
        raise ValueError(
            f"{unit} may mean two things: write {binary} (2^{SIZE_UNITS[binary].bit_length() - 1})"
            f" or {decimal} (10^{len(str(SIZE_UNITS[decimal])) - 1})"
        )
    raise ValueError(f"unknown unit {shown(unit)}: use one of {', '.join(SIZE_UNITS)}")


def parse_rate(value: object) -> Rate:
    """Tokens and period of ``100/s``, ``6000/m`` or ``5/10s``."""
    text = _text(value, "a rate such as 100/s or 6000/m")
    match = _RATE.fullmatch(text)
    if match is None:
        hint = _in_short(_LONG_RATE, text, "{}/{}")
        raise HintedError(f"{shown(value)} is not a rate", hint or "write 100/s, 6000/m or 5/10s")
    if "." in match[1]:
        raise ValueError(f"{shown(value)} has a fraction: write 1/2s instead of 0.5/s")
    tokens, period = int(match[1]), int(match[2] or 1) * DURATION_UNITS[match[3]]
    if tokens == 0 or period == 0:
        raise ValueError(f"{shown(value)} lets nothing pass: both numbers must be at least 1")
    if period > MAX_DURATION:
        raise ValueError(f"the period of {shown(value)} is longer than 365d")
    if tokens * SECOND > MAX_RATE * period:
        raise ValueError(f"{shown(value)} is faster than {MAX_RATE}/s")
    return Rate(tokens, period)


def parse_mode(value: object) -> int:
    """The permission bits of ``0660``, written as a text or as a number with these digits: the YAML
    that is read here has no octal numbers."""
    text = str(value) if isinstance(value, int | str) and not isinstance(value, bool) else ""
    if not (match := _MODE.fullmatch(text)):
        raise ValueError(f"expected the mode of a file, such as 0600 or 0660, got {shown(value)}")
    mode = int(match[1], 8)
    if mode & _OWNER != _OWNER:
        raise ValueError(f"{text} keeps its owner out: the first digit is 6 or 7")
    return mode


def parse_percent(value: object) -> int:
    """The number of ``80%``, ``80`` or the plain number; from 0 to 100."""
    if isinstance(value, int) and not isinstance(value, bool):
        percent = value
    else:
        match = None
        if isinstance(value, str) and len(value) <= _MAX_TEXT:
            match = _PERCENT.fullmatch(value.strip())
        if match is None:
            hint = "write 80% or 80"
            part = _part_of_one(value)
            if part is not None:
                hint = f"write {round(part * 100)}%"
            raise ValueError(f"{shown(value)} is not a whole percentage: {hint}")
        percent = int(match[1])
    if not 0 <= percent <= 100:
        raise ValueError(f"{shown(value)} is not within 0% and 100%")
    return percent


def parse_sample(value: object) -> int:
    """The parts per million of ``1%``, ``0.01%`` or the whole number ``1``; from 0% to 100%."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = f"{value}%" if value >= 0 else str(value)
    match = None
    if isinstance(value, str) and len(value) <= _MAX_TEXT:
        match = _SAMPLE.fullmatch(value.strip())
    if match is None:
        part = _part_of_one(value)
        hint = "write 1% or 0.01%" if part is None else f"write {part * 100:g}%"
        told = "is not a percentage of at most four digits behind the point"
        raise ValueError(f"{shown(value)} {told}: {hint}")
    per_million = int(Fraction(match[1]) * 10_000)
    if per_million > 1_000_000:
        raise ValueError(f"{shown(value)} is not within 0% and 100%")
    return per_million


def _part_of_one(value: object) -> float | None:
    """What was said as a part of 1 instead of 100."""
    if isinstance(value, str) and len(value) <= _MAX_TEXT and _PART.fullmatch(value.strip()):
        value = float(value)
    return value if isinstance(value, float) and 0 < value <= 1 else None


def _text(value: object, wanted: str) -> str:
    if isinstance(value, str) and len(value) <= _MAX_TEXT:
        return value.strip()
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise ValueError(f"{shown(value)} has no unit: expected {wanted}")
    raise ValueError(f"expected {wanted}, got {shown(value)}")


def _in_short(pattern: re.Pattern[str], text: str, form: str) -> str | None:
    """A hint with the unit as it is written here."""
    found = pattern.fullmatch(text.lower())
    if found is None:
        return None
    unit = "ms" if found[2].startswith("mil") or found[2] == "ms" else found[2][0]
    return f"write {form.format(found[1], unit)}"


def format_duration(ns: int) -> str:
    """The exact spelling with one unit, as large as possible: ``90s``, ``5m``, ``0``."""
    return _with_unit(ns, DURATION_UNITS)


def format_size(size: int) -> str:
    """The exact spelling with one binary unit, as large as possible: ``64KiB``, ``0``."""
    return _with_unit(size, _BINARY_UNITS)


def format_rate(rate: Rate) -> str:
    """``100/s`` or ``5/10s``."""
    period = format_duration(rate.period_ns)
    number = period.rstrip(_LETTERS)
    return f"{rate.tokens}/{period.removeprefix(number) if number == '1' else period}"


def format_percent(percent: int) -> str:
    """``80%``."""
    return f"{percent}%"


def _with_unit(value: int, units: dict[str, int]) -> str:
    if value == 0:
        return "0"
    # Units go from small to large.
    unit, scale = [(unit, scale) for unit, scale in units.items() if value % scale == 0][-1]
    return f"{value // scale}{unit}"


def format_sample(per_million: int) -> str:
    """``1%``, ``0.01%``."""
    whole, rest = divmod(per_million, 10_000)
    return f"{whole}.{rest:04}".rstrip("0").rstrip(".") + "%"
