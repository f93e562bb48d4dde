"""The router alone: requests to values of one's own."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import (
    TYPE_CHECKING,
    Any,
    Generic,
    NamedTuple,
    NoReturn,
    TypedDict,
    TypeVar,
    Unpack,
    cast,
)

from pydantic import ValidationError, create_model

from meshcore._core import RoutesCore
from meshcore.config.core_route import matching
from meshcore.config.explain import as_value_error
from meshcore.config.fields import Model
from meshcore.config.path_match import PathMatch
from meshcore.config.route import Match, Route
from meshcore.library import part
from meshcore.library.keywords import check_keywords

if TYPE_CHECKING:
    from collections.abc import Iterator

V = TypeVar("V")


class Requests(TypedDict, total=False):
    """Which requests a route owns: every key that is given must hold."""

    host: str | Sequence[str]
    """``example.com``, ``*.example.com``, ``example.*`` or ``*``, the default; one or several."""
    path: str
    """This path."""
    prefix: str
    """This path and what is below it, by whole segments."""
    regex: str
    """A regular expression over the whole path; matched in linear time."""
    methods: Sequence[str]
    """One of these; any when empty."""
    headers: Mapping[str, str | Mapping[str, str | bool]]
    """Header fields: a text for equality, or one of ``exact``, ``prefix``, ``suffix``,
    ``contains``, ``regex``, ``present``, ``absent``."""
    query: Mapping[str, str | Mapping[str, str | bool]]
    """Query parameters, likewise."""
    priority: int
    """Higher wins before specificity does."""


# The same, as the configuration would validate it; with the paths of a match beside the rest.
_PATHS = {"path": "exact", "prefix": "prefix", "regex": "regex"}
_Given: type[Model] = create_model(
    "Given",
    __base__=Model,
    **cast(
        "dict[str, Any]",
        {
            "name": (str, ...),
            **{name: (info.annotation, info) for name, info in Match.model_fields.items()},
            **{
                name: (PathMatch.model_fields[key].annotation, PathMatch.model_fields[key])
                for name, key in _PATHS.items()
            },
            "priority": (int, Route.model_fields["priority"]),
        },
    ),
)


class RouteEntry(NamedTuple, Generic[V]):
    """A route as it is listed."""

    host: str
    name: str
    value: V


class RouteFound(NamedTuple, Generic[V]):
    """The route that owns a request."""

    name: str
    value: V


class RouteMap(Generic[V]):
    """Routes by host, path, method, header and query; readers never wait for a change.

    Precedence is the proxy's: the most specific host, then priority, exact path, longest prefix,
    regular expression, more predicates, the order of insertion. A host owns its requests: none
    falls through to a less specific host. A route is known by its host and its name. Bad patterns
    raise `ValueError`, which tells all of them; the routes then stay as they were.
    """

    def __init__(self) -> None:
        self._core = RoutesCore()
        self._order = itertools.count()

    def __reduce__(self) -> NoReturn:
        """`TypeError`: its values are objects of this process."""
        part.of_one_process(self)

    def insert(self, name: str, value: V, **requests: Unpack[Requests]) -> None:
        """Add a route. O(routes of its hosts): `insert_all` for many at once.

        Raises `ValueError` if a host has a route of that name.
        """
        self._change("insert", [(name, value, requests)])

    def replace(self, name: str, value: V, **requests: Unpack[Requests]) -> None:
        """Add a route in the place of one of the same host and name, if there is one."""
        self._change("replace", [(name, value, requests)])

    def insert_all(self, routes: Iterable[tuple[str, V, Requests]]) -> None:
        """Add all or none, as one step for readers; each host is compiled once."""
        self._change("insert", routes)

    def remove(self, name: str, host: str | Sequence[str] = "*") -> None:
        """Take a route away. Raises `ValueError` if there is none."""
        hosts = [host] if isinstance(host, str) else host
        self._core.apply([(each, "remove", name, None) for each in hosts])

    def lookup(
        self,
        host: str,
        target: str,
        method: str = "GET",
        headers: Iterable[tuple[str, str]] = (),
    ) -> RouteFound[V] | None:
        """The route that owns a request; ``target`` is the path with its query, ``host`` the host
        with its port if it has one, both as sent.

        Both are normalised first, as in the proxy. Raises `ValueError` for those to which the
        proxy would answer 400. Takes about a microsecond whatever the number of routes.
        """
        found = self._core.lookup(host, target, method, list(headers) if headers else None)
        return None if found is None else RouteFound(found.name, cast("V", found.value))

    def __iter__(self) -> Iterator[RouteEntry[V]]:
        """Every route as it is at this moment, those of a host most specific first."""
        entries = self._core.routes()
        return (RouteEntry(host, name, cast("V", value)) for host, name, value in entries)

    def __len__(self) -> int:
        """How many routes, one with several hosts counted for each. O(routes)."""
        return len(self._core)

    def _change(self, kind: str, routes: Iterable[tuple[str, V, Requests]]) -> None:
        changes: list[tuple[str, str, str, Any]] = []
        for name, value, requests in routes:
            match, priority = _validated(name, requests)
            order = next(self._order) & 0xFFFF_FFFF
            route = json.dumps(matching(name, match, priority, order))
            changes += [(host, kind, route, value) for host in dict.fromkeys(match.host)]
        self._core.apply(changes)


def _validated(name: str, requests: Requests) -> tuple[Match, int]:
    """What is given, and its priority; `ValueError` for what a file may not say either."""
    check_keywords(requests, Requests.__annotations__)
    given: dict[str, Any] = {key: _plain(value) for key, value in requests.items()}
    try:
        found: Any = _Given.model_validate({**given, "name": name})
    except ValidationError as error:
        raise as_value_error(error, _Given) from None
    paths = [key for key in _PATHS if getattr(found, key) is not None]
    if len(paths) > 1:
        raise ValueError(f"{paths[0]}: {' and '.join(paths)} given: a route has one of {_SPELT}")
    path = PathMatch.model_construct(**{_PATHS[key]: getattr(found, key) for key in paths})
    match = {key: getattr(found, key) for key in ("host", "methods", "headers", "query")}
    return Match.model_construct(path=path if paths else None, **match), found.priority


_SPELT = ", ".join(_PATHS)


def _plain(value: object) -> object:
    """Any sequence or mapping as a file has it."""
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str) else value
