"""Breakers and ejected endpoints, as status shows them and orders change them."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from meshcore._core import now_ns
from meshcore.config.units import format_duration, parse_duration

if TYPE_CHECKING:
    from meshcore._core import Engine

log = logging.getLogger("meshcore")

# How many of each a status shows; the metrics have all of them.
MOST: Final = 1_000


def overview(engine: Engine, now: int) -> dict[str, Any]:
    """The parts of a status that tell of them: over all workers, as their words are."""
    breakers, of_breakers = engine.breakers(now, MOST)
    ejected, of_ejected = engine.ejected(now, MOST)
    return {
        "breakers": [
            {
                "upstream": upstream,
                "route": route,
                "state": state,
                "probes_in_s": round(left / 1e9, 1) if state == "open" else None,
                "failures_in_row": in_row,
                "calls": calls,
                "failures": failures,
            }
            for upstream, route, state, left, (in_row, calls, failures) in breakers
        ],
        "breakers_left_out": of_breakers - len(breakers),
        "ejected": [
            {"upstream": upstream, "endpoint": endpoint, "probed_in_s": round(left / 1e9, 1)}
            for upstream, endpoint, left in ejected
        ],
        "ejected_left_out": of_ejected - len(ejected),
    }


def set_by_hand(engine: Engine, given: dict[str, str]) -> dict[str, Any]:
    """Open or close a breaker, as the parameters of an order say. Raises `ValueError` for what they
    leave open, `LookupError` for a breaker that is not there."""
    names = [(kind, given[kind]) for kind in ("upstream", "route") if kind in given]
    if len(names) != 1:
        raise ValueError("whose breaker: upstream=NAME, or route=NAME for a route's own")
    (kind, name), state = names[0], given.get("state")
    until = None
    if state == "open":
        if "for" not in given:
            raise ValueError("for how long is it to be open? for=5m")
        if not (open_ns := parse_duration(given["for"])):
            raise ValueError("for=0: state=closed closes it")
        until = now_ns() + open_ns
    elif state != "closed" or "for" in given:
        raise ValueError("state=open with for=5m, or state=closed")
    if not engine.set_breaker(name, of_route=kind == "route", open_until_ns=until):
        raise LookupError(f"{kind} {name!r} has no breaker of its own, or is not there")
    done = f"opened for {format_duration(parse_duration(given['for']))}" if until else "closed"
    log.info("the breaker of %s %s is %s by hand", kind, name, done)
    return {kind: name, "state": state}
