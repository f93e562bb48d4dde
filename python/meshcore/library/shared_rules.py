"""The rules of a shared part, as they stand beside its words: a text that all who share it say."""

from __future__ import annotations

import json
from math import gcd
from typing import TYPE_CHECKING

from meshcore.config.units import SECOND, Rate, format_duration, format_percent, format_rate

if TYPE_CHECKING:
    from collections.abc import Mapping


def limit_text(rate: Rate, burst: int, clients: int | None = None) -> str:
    """Of a bucket, or of a table of so many: equal for equal rules, however they were written."""
    tokens, period_ns = rate
    if tokens * SECOND % period_ns == 0:
        rate = Rate(tokens * SECOND // period_ns, SECOND)
    else:
        rate = Rate(tokens // gcd(*rate), period_ns // gcd(*rate))
    told = {"rate": format_rate(rate), "burst": str(burst)}
    return _text(told if clients is None else {**told, "clients": str(clients)})


def breaker_text(rules: str) -> str:
    """Of a breaker's rules as the core has them."""
    return _text(dict(_said(*rule) for rule in json.loads(rules).items() if rule[1] is not None))


def budget_text(percent: int, floor: int) -> str:
    """Of a retry budget."""
    return _text({"percent": format_percent(percent), "floor": str(floor)})


def difference(part: str, theirs: str, ours: str) -> ValueError:
    """What those say who asked first and what was asked now, where it is not the same."""
    before, now = theirs.split(", "), ours.split(", ")
    there = [rule for rule in before if rule not in now]
    asked = [rule for rule in now if rule not in before]
    return ValueError(
        f"{part} is shared with {', '.join(there)}; asked for was {', '.join(asked)}: say the same "
        "everywhere, or remove() it first"
    )


def _said(name: str, value: object) -> tuple[str, str]:
    if name.endswith("_ns") and isinstance(value, int):
        return name.removesuffix("_ns"), format_duration(value)
    if name.endswith("_percent") and isinstance(value, int):
        return name, format_percent(value)
    return name, str(value)


def _text(rules: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in rules.items())
