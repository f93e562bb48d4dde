"""Rules of `allow` that never hold, or that never decide, and layers of it that refuse nothing."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from meshcore.config.client_address import UNIX
from meshcore.config.client_auth import SPIFFE
from meshcore.config.warnings.reach import Budget, Reach
from meshcore.errors import Diagnostic

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from meshcore.config.allow import Allow, AllowRule, Identities
    from meshcore.config.client_auth import ClientAuth
    from meshcore.config.layers import ListenerLayer
    from meshcore.config.listener import Listener
    from meshcore.config.model import Config
    from meshcore.config.path_match import PathMatch
    from meshcore.config.route import Match, Route

# Each rule of a layer is compared with so many before it, and all of them in so many steps: more
# would make the check slow, and only that it says less.
MAX_COMPARED: Final = 100
MAX_STEPS: Final = 1_000_000
# Paths that have another normal form than their text.
_NOT_NORMAL: Final = re.compile(r"%|\\|//|/\.")

_Path = tuple[str | int, ...]


class Placed(NamedTuple):
    """An `allow`, where it stands and which listeners' requests it decides on."""

    path: _Path
    allow: Allow
    listeners: list[Listener]
    match: Match | None = None
    """Of the route that it stands in."""


def layers(config: Config) -> Iterator[Placed]:
    """Every `allow` of the configuration."""
    for name, listener in config.listeners.items():
        for place, layer in enumerate(listener.layers):
            if layer.allow is not None:
                yield Placed(("listeners", name, "layers", place, "allow"), layer.allow, [listener])
    for number, route in enumerate(config.routes):
        for place, layer in enumerate(route.layers):
            if layer.allow is not None:
                path: _Path = ("routes", number, "layers", place, "allow")
                listeners = [config.listeners[name] for name in _served_by(config, route)]
                yield Placed(path, layer.allow, listeners, route.match)


def _served_by(config: Config, route: Route) -> list[str]:
    """The listeners of a route."""
    return [name for name in route.listeners or config.listeners if name in config.listeners]


def rules_without_effect(config: Config) -> Iterator[Diagnostic]:
    """Rules behind one that holds whenever they do. O(rules x the rules before them, at most
    `MAX_COMPARED`), and of what they list O(n log n), at most `MAX_STEPS`."""
    budget = Budget(MAX_STEPS)
    for placed in layers(config):
        rules = placed.allow.rules
        reaches = [Reach(rule) for rule in rules]
        for number, reach in enumerate(reaches):
            before = enumerate(reaches[: min(number, MAX_COMPARED)])
            first = next((n for n, other in before if other.covers(reach, budget)), None)
            if first is not None:
                message = (
                    f"never decides: rules[{first}] {rules[first].name!r} holds whenever it does"
                )
                yield Diagnostic(
                    (*placed.path, "rules", number), message, "by its place in the list"
                )


def rules_that_never_hold(config: Config) -> Iterator[Diagnostic]:
    """Rules of what cannot come: clients without a verified certificate, addresses that no client
    has, and what does not get to their route. O(configuration)."""
    for placed in layers(config):
        asks = [auth for listener in placed.listeners for auth in _auths(listener)]
        for number, rule in enumerate(placed.allow.rules):
            at = (*placed.path, "rules", number)
            if rule.identities is not None:
                yield from _unknown((*at, "identities"), rule.identities, asks)
            yield from _nowhere((*at, "networks"), rule.networks or (), placed.listeners)
            if placed.match is not None:
                yield from _outside(at, rule, placed.match)


def any_methods(config: Config) -> Iterator[Diagnostic]:
    """A star among methods. O(configuration)."""
    for number, route in enumerate(config.routes):
        yield from _star(("routes", number, "match", "methods"), route.match.methods)
    for placed in layers(config):
        for number, rule in enumerate(placed.allow.rules):
            yield from _star((*placed.path, "rules", number, "methods"), rule.methods or ())


def _star(path: _Path, methods: Collection[str]) -> Iterator[Diagnostic]:
    for number, method in enumerate(methods):
        if method == "*":
            message = "* is a method of that name, and does not stand for any"
            yield Diagnostic((*path, number), message, "without methods all are meant")


def shadows_alone(config: Config) -> Iterator[Diagnostic]:
    """Layers in shadow with none beside them that refuses: of each listener and route the first.
    O(routes x their listeners)."""
    open_at: dict[_Path, list[str]] = {}
    refusing: set[_Path] = set()
    own = {name: _allows(("listeners", name), x.layers) for name, x in config.listeners.items()}
    for number, route in enumerate(config.routes):
        of_route = _allows(("routes", number), route.layers)
        for name in _served_by(config, route):
            stack = own[name] + of_route
            if not all(allow.shadow for _, allow in stack):
                refusing.update(path for path, _ in stack)
            elif stack:
                path = stack[0][0]
                of = f"of routes[{number}] {route.name!r}"
                at = of if path[0] == "listeners" else f"at listener {name!r}"
                open_at.setdefault(path, []).append(at)
    for path, places in open_at.items():
        where = ""
        if path in refusing:
            more = f" and {len(places) - 1} more" if len(places) > 1 else ""
            where = f" {places[0]}{more}"
        message = f"nothing is refused{where}: every allow is in shadow"
        yield Diagnostic((*path, "shadow"), message, "shadow: off refuses what no rule names")


def _allows(at: _Path, layers: Collection[ListenerLayer]) -> list[tuple[_Path, Allow]]:
    """Those of a list, and where they stand."""
    return [
        ((*at, "layers", place, "allow"), layer.allow)
        for place, layer in enumerate(layers)
        if layer.allow is not None
    ]


def _auths(listener: Listener) -> Iterator[ClientAuth]:
    """How clients are verified there, by the names that they ask for."""
    tls = listener.tls
    for each in () if tls is None else (tls, *tls.sni.values()):
        if each.clients is not None:
            yield each.clients


def _unknown(path: _Path, whose: Identities, asks: Collection[ClientAuth]) -> Iterator[Diagnostic]:
    if not asks:
        message = "never holds: no client is asked for a certificate there"
        yield Diagnostic(
            path, message, "tls: {client_auth: {ca: FILE, …}} of its listeners asks for it"
        )
        return
    if not all(auth.trust_domains for auth in asks):
        return  # some CA vouches for every domain
    known = {domain for auth in asks for domain in auth.trust_domains}
    for number, text in enumerate(whose.spiffe):
        domain = text.removeprefix(SPIFFE).partition("/")[0]
        if domain not in known:
            message = f"never holds: {domain} is in no trust_domains of its listeners"
            yield Diagnostic(
                (*path, "spiffe", number), message, f"known: {', '.join(sorted(known))}"
            )


def _nowhere(
    path: _Path, networks: Collection[str], listeners: Collection[Listener]
) -> Iterator[Diagnostic]:
    """Where the client's address is never one of these. It may be another than that of its socket
    where certificates are verified."""
    if not networks or not listeners or any(_believes(listener) for listener in listeners):
        return
    sockets = [listener.bind.path is not None for listener in listeners]
    if all(sockets) and UNIX not in networks:
        message = "never holds: clients of a unix socket have no address"
        yield Diagnostic(path, message, "unix stands for them all")
    elif not any(sockets) and all(network == UNIX for network in networks):
        yield Diagnostic(path, "never holds: none of its listeners is a unix socket")


def _believes(listener: Listener) -> bool:
    address = listener.client_address
    return bool(address.trusted or address.trusted_hops or listener.proxy_protocol)


def _outside(at: _Path, rule: AllowRule, match: Match) -> Iterator[Diagnostic]:
    """What a route's own rule says of requests that the route does not get."""
    # An upgrade over HTTP/2 has the method CONNECT to rules alone.
    methods = {*(rule.methods or ())}
    if methods and match.methods and methods.isdisjoint({*match.methods, "CONNECT"}):
        message = f"never holds: its route matches {', '.join(match.methods)} alone"
        yield Diagnostic((*at, "methods"), message)
    for number, path in enumerate(rule.paths or ()):
        if match.path is not None and _apart(path, match.path):
            kind = "exact" if match.path.exact is not None else "prefix"
            only = f"{kind}: {getattr(match.path, kind)}"
            message = f"never matches: its route matches {only} alone"
            yield Diagnostic((*at, "paths", number), message)


def _apart(one: PathMatch, other: PathMatch) -> bool:
    """Whether no path is of both, as far as that can be seen."""
    texts = [path.exact if path.exact is not None else path.prefix for path in (one, other)]
    if any(text is None or _NOT_NORMAL.search(text) for text in texts):
        return False
    return not (_leads_to(one, other) or _leads_to(other, one))


def _leads_to(part: PathMatch, whole: PathMatch) -> bool:
    """Whether the path, or the prefix, of the one is among those of the other."""
    text = part.exact if part.exact is not None else part.prefix or ""
    if whole.prefix is None:
        return part.exact == whole.exact
    prefix = whole.prefix.removesuffix("/")
    return text.removesuffix("/") == prefix or text.startswith(f"{prefix}/")
