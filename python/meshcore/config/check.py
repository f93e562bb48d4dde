"""What one key cannot know of another: references, addresses, certificates.

Works on plain data, also on data that the model refuses, so that all problems are told at once:
whatever has not the right shape is the model's to report and is passed over here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from meshcore.config.access_log import check_access_log
from meshcore.config.address import parse_address
from meshcore.config.admin import check_admin
from meshcore.config.certificates import check_certificates
from meshcore.config.hints import nearest
from meshcore.config.ticket_keys import check_ticket_keys
from meshcore.errors import ConfigError, Diagnostic, path_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from meshcore.config.model import Config

__all__ = ["check", "check_data"]


def check(config: Config) -> None:
    """Look at a configuration that was made in Python. Raises `ConfigError`. O(configuration)."""
    problems = check_data(config.model_dump(mode="json", exclude_defaults=True), None)
    if config.include:  # a file's were read with it
        problems.append(Diagnostic(("include",), "only a file includes others"))
    if problems:
        raise ConfigError(problems)


def check_data(data: object, folder: Path | None, *, secrets: bool = True) -> list[Diagnostic]:
    """Every problem between the parts of plain data; files begin at `folder`. Without ``secrets``
    none is opened."""
    listeners, upstreams = _mapping(data, "listeners"), _mapping(data, "upstreams")
    problems = [
        *_nothing(data),
        *_binds(data, listeners),
        *_endpoints(upstreams),
        *_routes(data, listeners, upstreams),
    ]
    if secrets:
        problems += check_certificates(listeners, upstreams, folder)
        problems += check_admin(_mapping(data, "admin"), folder)
        if isinstance(data, dict):
            problems += check_ticket_keys(data.get("ticket_keys"), folder)
            problems += check_access_log(data.get("access_log"), folder)
    return problems


def _nothing(data: object) -> Iterator[Diagnostic]:
    """Keys without a value. Most models would take their default, which may let all clients pass
    that the key was to stop: its value was commented out, or an empty variable's. O(data)."""
    places: list[tuple[tuple[str | int, ...], object]] = [((), data)]
    for path, value in places:
        within: Iterable[tuple[Any, object]]
        if isinstance(value, dict):
            within = value.items()
        elif isinstance(value, list):
            within = enumerate(value)
        else:
            continue
        for key, each in within:
            if each is None:
                message = "expected a value, got nothing"
                yield Diagnostic((*path, key), message, "leave the key out for its default")
            elif isinstance(each, dict | list) and (path[-1:], key) != (("python",), "with"):
                places.append(((*path, key), each))


def _mapping(data: object, key: str) -> dict[str, Any]:
    found = data.get(key) if isinstance(data, dict) else None
    return found if isinstance(found, dict) else {}


def _binds(data: object, listeners: dict[str, Any]) -> Iterator[Diagnostic]:
    taken: dict[object, str] = {}
    places: list[tuple[tuple[str, ...], dict[str, Any]]] = [
        (("listeners", name, "bind"), _mapping(listeners, name)) for name in listeners
    ]
    places.append((("admin", "bind"), _mapping(data, "admin")))
    for path, owner in places:
        try:
            address = parse_address(owner.get("bind"))
        except ValueError:
            continue
        # Port 0 is another one each time.
        if address.path is None and address.port == 0:
            continue
        if address in taken:
            yield Diagnostic(path, f"{address} is taken by {taken[address]}")
        taken.setdefault(address, path_text(path[:-1]))


def _endpoints(upstreams: dict[str, Any]) -> Iterator[Diagnostic]:
    for name, upstream in upstreams.items():
        endpoints = upstream.get("endpoints") if isinstance(upstream, dict) else None
        taken: set[object] = set()
        for number, endpoint in enumerate(endpoints if isinstance(endpoints, list) else []):
            text = endpoint.get("address") if isinstance(endpoint, dict) else endpoint
            try:
                address = parse_address(text)
            except ValueError:
                continue
            if address in taken:
                path = ("upstreams", name, "endpoints", number)
                yield Diagnostic(path, f"{address} stands there already", "use weight")
            taken.add(address)


def _routes(
    data: object, listeners: dict[str, Any], upstreams: dict[str, Any]
) -> Iterator[Diagnostic]:
    routes = data.get("routes") if isinstance(data, dict) else None
    if not isinstance(routes, list):
        return
    names: dict[str, int] = {}
    for number, route in enumerate(routes):
        if not isinstance(route, dict):
            continue
        name = route.get("name")
        if isinstance(name, str) and names.setdefault(name, number) != number:
            first = path_text(("routes", names[name]))
            yield Diagnostic(("routes", number, "name"), f"{name!r} is the name of {first} too")
        upstream = route.get("upstream")
        if isinstance(upstream, str) and upstream not in upstreams:
            message = f"there is no upstream named {upstream!r}"
            hint = nearest(upstream, upstreams)
            yield Diagnostic(("routes", number, "upstream"), message, hint)
        yield from _served(number, route.get("listeners"), listeners)


def _served(number: int, served: object, listeners: dict[str, Any]) -> Iterator[Diagnostic]:
    if not isinstance(served, list):
        return
    for place, name in enumerate(served):
        if isinstance(name, str) and name not in listeners:
            path = ("routes", number, "listeners", place)
            message = f"there is no listener named {name!r}"
            yield Diagnostic(path, message, nearest(name, listeners))
