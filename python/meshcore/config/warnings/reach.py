"""How far rules of `allow` reach: whether one holds whenever another does."""

from __future__ import annotations

import ipaddress
from bisect import bisect_right
from functools import cached_property
from typing import TYPE_CHECKING, Final, TypeVar

from meshcore.config.client_address import UNIX
from meshcore.config.client_auth import SPIFFE

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from meshcore.config.allow import AllowRule, Identities
    from meshcore.config.path_match import PathMatch

# Of IPv4 addresses, which lie among those of IPv6 as the core sees them (RFC 4291 §2.5.5.2).
_MAPPED: Final = 0xFFFF << 32


class Budget:
    """So many steps all comparisons have together: behind them each says that it does not know."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def spend(self, steps: int = 1) -> bool:
        """Whether that many were left."""
        self.left -= steps
        return self.left >= 0


class Reach:
    """What a rule lets pass, made ready to be compared: each key when it is first asked for."""

    def __init__(self, rule: AllowRule) -> None:
        self.rule = rule

    # In this order they are compared: what takes longest comes last. Each key of a rule is here.

    @cached_property
    def methods(self) -> _Words | None:
        """By which methods."""
        return None if self.rule.methods is None else _Words(self.rule.methods)

    @cached_property
    def identities(self) -> _Holders | None:
        """By whose certificate."""
        return None if self.rule.identities is None else _Holders(self.rule.identities)

    @cached_property
    def paths(self) -> _Paths | None:
        """Which paths."""
        return None if self.rule.paths is None else _Paths(self.rule.paths)

    @cached_property
    def networks(self) -> _Ranges | None:
        """From where. O(n log n)."""
        return None if self.rule.networks is None else _Ranges(self.rule.networks)

    def covers(self, other: Reach, budget: Budget) -> bool:
        """Whether this one holds for each request for which the other does, as far as that can be
        seen. O(n log n) in the items of both rules, with a step of the budget for each."""
        return (
            _covers(self.methods, other.methods, budget)
            and _covers(self.identities, other.identities, budget)
            and _covers(self.paths, other.paths, budget)
            and _covers(self.networks, other.networks, budget)
        )


class _Words:
    def __init__(self, words: Iterable[str]) -> None:
        self._words = frozenset(words)

    def covers(self, other: _Words, budget: Budget) -> bool:
        return budget.spend(len(other._words)) and other._words <= self._words


class _Holders:
    """Names of certificates: those that are as they are, and forms with ``*``."""

    def __init__(self, whose: Identities) -> None:
        self._any = whose.any is not None
        self._names = frozenset(whose.all)
        self._forms = [name for name in whose.spiffe if "*" in name]

    def covers(self, other: _Holders, budget: Budget) -> bool:
        if self._any or other._any:
            return self._any
        return all(
            budget.spend() and (name in self._names or self._has(name, budget))
            for name in other._names
        )

    def _has(self, name: str, budget: Budget) -> bool:
        if not name.startswith(SPIFFE):
            return False
        parts = name.split("/")
        return any(budget.spend() and _fits(form.split("/"), parts) for form in self._forms)


def _fits(form: Sequence[str], parts: Sequence[str]) -> bool:
    """Whether each ID of the second form is one of the first."""
    if form[-1] == "**":
        form, rest = form[:-1], parts[len(form) - 1 :]
        if not rest:
            return False
        parts = parts[: len(form)]
    return len(form) == len(parts) and all(
        wanted == part or (wanted == "*" and part != "**")
        for wanted, part in zip(form, parts, strict=True)
    )


class _Paths:
    def __init__(self, paths: Iterable[PathMatch]) -> None:
        self._same = frozenset((path.exact, path.prefix, path.regex) for path in paths)
        self._prefixes = frozenset(
            path.prefix.removesuffix("/") for path in paths if path.prefix is not None
        )

    def covers(self, other: _Paths, budget: Budget) -> bool:
        return all(
            budget.spend() and (path in self._same or self._leads_to(*path, budget))
            for path in other._same
        )

    def _leads_to(
        self, exact: str | None, prefix: str | None, regex: str | None, budget: Budget
    ) -> bool:
        """Whether it is below one of these prefixes. O(segments)."""
        text = exact if exact is not None else prefix
        if text is None or not self._prefixes:
            return False
        text = text.removesuffix("/")
        while budget.spend():
            if text in self._prefixes:
                return True
            if not text:
                return False
            text = text.rpartition("/")[0]
        return False


class _Ranges:
    """Networks as the core has them: first and last of each range, in order, none touching the
    next; and ``unix``."""

    def __init__(self, networks: Iterable[str]) -> None:
        self._texts = frozenset(networks)
        ranges = sorted(_range(text) for text in self._texts if text != UNIX)
        self._firsts: list[int] = []
        self._lasts: list[int] = []
        for first, last in ranges:
            if self._lasts and first <= self._lasts[-1] + 1:
                self._lasts[-1] = max(self._lasts[-1], last)
            else:
                self._firsts.append(first)
                self._lasts.append(last)

    def covers(self, other: _Ranges, budget: Budget) -> bool:
        if UNIX in other._texts and UNIX not in self._texts:
            return False
        if not budget.spend(len(other._texts)):
            return False
        return other._texts <= self._texts or all(
            self._has(first, last) for first, last in zip(other._firsts, other._lasts, strict=True)
        )

    def _has(self, first: int, last: int) -> bool:
        behind = bisect_right(self._firsts, first)
        return behind > 0 and last <= self._lasts[behind - 1]


def _range(text: str) -> tuple[int, int]:
    network = ipaddress.ip_network(text)
    base = _MAPPED if network.version == 4 else 0
    first = base + int(network.network_address)
    return first, first + network.num_addresses - 1


T = TypeVar("T", _Words, _Holders, _Paths, _Ranges)


def _covers(wide: T | None, narrow: T | None, budget: Budget) -> bool:
    if wide is None or narrow is None:
        return wide is None
    return wide.covers(narrow, budget)
