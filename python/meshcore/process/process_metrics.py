"""Families of figures that control itself keeps; the core writes them with its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    Labels = tuple[tuple[str, str], ...]


class Family(NamedTuple):
    """One metric, as `Engine.metrics` takes it."""

    name: str
    grows: bool
    """A counter; else a gauge."""
    help: str
    samples: tuple[tuple[Labels, float], ...]


def gauge(name: str, help: str, value: float) -> Family:
    """One figure that goes up and down."""
    return Family(name, False, help, (((), value),))


def counter(name: str, help: str, value: float) -> Family:
    """One that only grows."""
    return Family(name, True, help, (((), value),))


def gauges(name: str, help: str, values: Mapping[Labels, float]) -> Family:
    """Several by their labels."""
    return Family(name, False, help, tuple(values.items()))


def counters(name: str, help: str, values: Mapping[Labels, float]) -> Family:
    """Several that only grow."""
    return Family(name, True, help, tuple(values.items()))
