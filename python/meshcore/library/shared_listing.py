"""What a `SharedState` has in it: its parts, their rules, and how they stand."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from meshcore.library.breaker import CircuitBreaker
from meshcore.library.limiters import ClientLimiter, TokenBucket
from meshcore.library.retry import RetryBudget
from meshcore.library.shared import DIRECTORY, KINDS, SharedState, path_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from meshcore._core import Words
    from meshcore.library.limited import BucketSnapshot, ClientLimiterSnapshot

# Rules of a breaker that are counts; the others are said with their unit.
_COUNTS: Final = frozenset({"failures", "min_calls", "last_calls", "successes", "probes"})


class SharedPart(NamedTuple):
    """A part of a state, as it stands now."""

    kind: str
    name: str
    rules: dict[str, str]
    """As the first to ask gave them."""
    state: dict[str, Any]
    """What of it is counted or left; of a table of clients what all have in common."""


def names_of_states() -> list[str]:
    """Those of this user's states."""
    prefix = path_of("_").removeprefix(f"{DIRECTORY}/").removesuffix("_")
    names = (each.removeprefix(prefix) for each in os.listdir(DIRECTORY) if each.startswith(prefix))
    return sorted(names)


def existing(name: str) -> SharedState:
    """The state of this name; `FileNotFoundError` if there is none."""
    os.stat(path_of(name), follow_symlinks=False)
    return SharedState(name)


def parts(state: SharedState) -> Iterator[SharedPart]:
    """Every part, by kind and name. O(parts)."""
    words = state._file.words
    for kind in KINDS:
        for name in words.names(kind):
            found = words.find(kind, name)
            if found is not None:
                part, rules = found[0], _rules(found[1])
                yield SharedPart(kind, name, rules, _state(kind, name, rules, part))


def breaker(state: SharedState, name: str) -> CircuitBreaker:
    """The breaker of this name, by the rules that it has; `KeyError` if there is none."""
    found = state._file.words.find("circuit_breaker", name)
    if found is None:
        raise KeyError(name)
    return _breaker(name, _rules(found[1]), found[0])


def _rules(text: str) -> dict[str, str]:
    return dict(rule.split(" ", 1) for rule in text.split(", "))


def _breaker(name: str, rules: dict[str, str], words: Words) -> CircuitBreaker:
    given: Any = {rule: int(value) if rule in _COUNTS else value for rule, value in rules.items()}
    # One that counts by calls has no time for it, and the other way round.
    del given["last_calls" if given["last_calls"] == 0 else "window"]
    return CircuitBreaker(name=name, words=words, **given)


def _state(kind: str, name: str, rules: dict[str, str], words: Words) -> dict[str, Any]:
    if kind == "token_bucket":
        bucket = TokenBucket(rules["rate"], int(rules["burst"]), words=words).snapshot()
        totals = _totals(bucket)
        return {"remaining": bucket.remaining, "full_after": bucket.reset_after, **totals}
    if kind == "client_limiter":
        room = int(rules["clients"])
        limiter = ClientLimiter(rules["rate"], int(rules["burst"]), clients=room, words=words)
        clients = limiter.snapshot()
        return {"busy_clients": clients.busy_clients, **_totals(clients)}
    if kind == "circuit_breaker":
        # A breaker's totals are each process's own.
        told = ("state", "retry_after", "failures_in_row", "calls", "failures")
        snapshot = _breaker(name, rules, words).snapshot()
        return {each: getattr(snapshot, each) for each in told}
    if kind == "retry_budget":
        budget = RetryBudget(rules["percent"], int(rules["floor"]), words=words)
        return {"calls": budget.calls, "retries": budget.retries}
    return {}


def _totals(seen: BucketSnapshot | ClientLimiterSnapshot) -> dict[str, int]:
    return {"admitted": seen.total_admitted, "refused": seen.total_refused}
