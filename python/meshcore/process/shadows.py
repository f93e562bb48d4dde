"""Layers that refuse nothing, as status shows them: a trial of rules is not to be taken for
the rules themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# How many a status shows.
MOST: Final = 1_000


def overview(resources: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a status that tells of lists of layers with `allow` in shadow; ``resources``
    are those of a snapshot. O(configuration)."""
    told = list(dict.fromkeys(_in_shadow(resources)))
    return {
        "shadows": [{"listener": listener, "route": route} for listener, route in told[:MOST]],
        "shadows_left_out": max(len(told) - MOST, 0),
    }


def _in_shadow(resources: Mapping[str, Any]) -> Iterator[tuple[str | None, str | None]]:
    for name, listener in resources["listeners"].items():
        if _has_shadow(listener):
            yield name, None
    for routes in resources["hosts"].values():
        for route in routes:
            if _has_shadow(route):
                yield None, route["name"]


def _has_shadow(stack: Mapping[str, Any]) -> bool:
    return any(layer["allow"]["shadow"] for layer in stack["layers"] if "allow" in layer)
