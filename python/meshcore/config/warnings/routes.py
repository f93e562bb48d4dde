"""Routes that never match, because another one takes all that they ask for.

The order is that of `routing/host_table.rs`: a host pattern owns its requests, so a route competes
only with those of the same pattern; of these the best by priority and specificity wins, or with
`match_order: first` the first of the file. A route is told of when on each of its listeners and
for each of its hosts another one comes first that matches every request of it.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from meshcore.errors import Diagnostic

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from meshcore.config.model import Config
    from meshcore.config.route import Route, ValueMatch

# Of the routes with one path and the same kind of predicate so many are compared: more would make
# the check slow, and only that it says less.
MAX_COMPARED: Final = 100

_EXACT, _PREFIX, _REGEX, _ANY = range(4)

_Test = tuple[str, str, str, str | bool]
"""A predicate: `header` or `query`, the name, the kind of comparison, and with what."""


class _Pattern(NamedTuple):
    kind: int
    text: str


@dataclass(frozen=True, slots=True, eq=False)
class _Entry:
    """A route as it competes."""

    number: int
    name: str
    priority: int
    pattern: _Pattern
    methods: frozenset[str]
    tests: tuple[_Test, ...]
    listeners: frozenset[str]

    def specificity(self) -> tuple[int, ...]:
        length = len(self.pattern.text) if self.pattern.kind == _PREFIX else 0
        return (
            -self.priority,
            self.pattern.kind,
            -length,
            -len(self.tests),
            not self.methods,
            self.number,
        )

    def in_file(self) -> tuple[int, ...]:
        return (-self.priority, self.number)


def unreachable_routes(config: Config) -> Iterator[Diagnostic]:
    """Every route that no request can reach. O(n log n) in the routes of a host."""
    by_order = _listeners_by_order(config)
    found: dict[int, _Entry] = {}
    left: set[int] = set()
    tables: defaultdict[str, list[_Entry]] = defaultdict(list)
    everywhere = frozenset(config.listeners)
    for number, route in enumerate(config.routes):
        entry = _entry(number, route, everywhere)
        for host in dict.fromkeys(route.match.host):
            tables[host].append(entry)
    for entries in tables.values():
        for first, listeners in by_order:
            entries.sort(key=_Entry.in_file if first else _Entry.specificity)
            for entry, taker in _competition(entries, listeners):
                if taker is None:
                    left.add(entry.number)
                else:
                    found.setdefault(entry.number, taker)
    for number in sorted(found.keys() - left):
        yield _diagnostic(config.routes[number], number, found[number])


def _listeners_by_order(config: Config) -> list[tuple[bool, frozenset[str]]]:
    orders: dict[bool, set[str]] = {}
    for name, listener in config.listeners.items():
        orders.setdefault(listener.match_order == "first", set()).add(name)
    return [(first, frozenset(names)) for first, names in orders.items()]


def _entry(number: int, route: Route, everywhere: frozenset[str]) -> _Entry:
    match, path = route.match, route.match.path
    if path is None:
        pattern = _Pattern(_ANY, "")
    elif path.exact is not None:
        pattern = _Pattern(_EXACT, path.exact)
    elif path.prefix is not None:
        pattern = _Pattern(_PREFIX, path.prefix.removesuffix("/"))
    else:
        pattern = _Pattern(_REGEX, path.regex or "")
    fields = (("header", match.headers), ("query", match.query))
    tests = (_test(of, name, value) for of, tests in fields for name, value in tests.items())
    listeners = frozenset(route.listeners) if route.listeners else everywhere
    methods = frozenset(match.methods)
    return _Entry(number, route.name, route.priority, pattern, methods, tuple(tests), listeners)


def _test(of: str, name: str, value: ValueMatch) -> _Test:
    if value.present is not None or value.absent is not None:
        return (of, name, "present", bool(value.present) or value.absent is False)
    for kind in ("exact", "prefix", "suffix", "contains", "regex"):
        text = getattr(value, kind)
        if text is not None:
            return (of, name, kind, text)
    raise AssertionError  # the model has made sure of one


def _competition(
    entries: Iterable[_Entry], listeners: frozenset[str]
) -> Iterator[tuple[_Entry, _Entry | None]]:
    """Each entry that serves some of these listeners, best first, and who takes all of its
    requests there; none: some get through."""
    before = _Before()
    for entry in entries:
        contested = entry.listeners & listeners
        if not contested:
            continue
        taker = before.taker(entry, contested)
        if taker is None:
            before.add(entry)
        yield entry, taker


class _Before:
    """The entries that come first, by path and by one of the predicates that each has."""

    def __init__(self) -> None:
        self._buckets: defaultdict[tuple[_Pattern, object], list[_Entry]] = defaultdict(list)

    def add(self, entry: _Entry) -> None:
        exact = next((test for test in entry.tests if test[2] == "exact"), None)
        key: object = exact or (entry.tests[0][:2] if entry.tests else None)
        bucket = self._buckets[entry.pattern, key]
        if len(bucket) < MAX_COMPARED:
            bucket.append(entry)

    def taker(self, entry: _Entry, listeners: frozenset[str]) -> _Entry | None:
        """Who takes all of its requests at these listeners: the first, if several do together."""
        first = None
        for other in self._candidates(entry):
            if listeners & other.listeners and _covers(other, entry):
                first = first or other
                listeners -= other.listeners
                if not listeners:
                    return first
        return None

    def _candidates(self, entry: _Entry) -> Iterator[_Entry]:
        keys: list[object] = [None, *entry.tests, *dict.fromkeys(test[:2] for test in entry.tests)]
        for pattern in _wider(entry.pattern):
            for key in keys:
                yield from self._buckets.get((pattern, key), ())


def _wider(pattern: _Pattern) -> Iterator[_Pattern]:
    """The patterns that match every path that this one matches, as far as that can be seen."""
    yield pattern
    if pattern.kind in (_EXACT, _PREFIX):
        text = pattern.text
        if pattern.kind == _EXACT:
            yield _Pattern(_PREFIX, text)
        while text:
            text = text.rpartition("/")[0]
            yield _Pattern(_PREFIX, text)
    if pattern.kind != _ANY:
        yield _Pattern(_ANY, "")


def _covers(other: _Entry, entry: _Entry) -> bool:
    """Whether `other` holds for each request for which `entry` does; of their paths it is known."""
    if other.methods and not (entry.methods and entry.methods <= other.methods):
        return False
    return all(any(_implies(own, test) for own in entry.tests) for test in other.tests)


def _implies(own: _Test, test: _Test) -> bool:
    """Whether a value that passes `own` passes `test`. A field that comes twice passes if either
    value does, so what holds of one value is enough."""
    if own[:2] != test[:2]:
        return False
    (kind, value), (wanted, part) = own[2:], test[2:]
    if kind == wanted and value == part:
        return True
    if wanted == "present":
        return part is True and kind != "present"
    if isinstance(value, bool) or isinstance(part, bool):
        return False
    return (
        (wanted == "prefix" and kind in ("exact", "prefix") and value.startswith(part))
        or (wanted == "suffix" and kind in ("exact", "suffix") and value.endswith(part))
        or (wanted == "contains" and kind != "regex" and part in value)
    )


def _diagnostic(route: Route, number: int, taker: _Entry) -> Diagnostic:
    same = _entry(number, route, frozenset())
    is_same = (same.pattern, same.methods, set(same.tests)) == (
        taker.pattern,
        taker.methods,
        set(taker.tests),
    )
    what = "the same" if is_same else "all that it does"
    message = f"never matches: routes[{taker.number}] {taker.name!r} comes first and matches {what}"
    if taker.priority > route.priority:
        return Diagnostic(("routes", number), message, "by its priority")
    return Diagnostic(("routes", number), message, "by its place in the file")
