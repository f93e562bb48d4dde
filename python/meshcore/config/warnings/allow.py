"""Rules of `allow` that never hold, or that never decide."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from meshcore.config.client_address import UNIX
from meshcore.config.client_auth import SPIFFE
from meshcore.config.fault import Fault

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from meshcore.config.allow import Allow, AllowRule, Identities
    from meshcore.config.client_auth import ClientAuth
    from meshcore.config.listener import Listener
    from meshcore.config.model import Config
    from meshcore.config.path_match import PathMatch

# Each rule of a layer is compared with so many before it: more would make the check slow, and only
# that it says less.
MAX_COMPARED: Final = 100

_Path = tuple[str | int, ...]
T = TypeVar("T")


class Placed(NamedTuple):
    """An `allow`, where it stands and which listeners' requests it judges."""

    path: _Path
    allow: Allow
    listeners: list[Listener]


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
                names = [x for x in route.listeners or config.listeners if x in config.listeners]
                yield Placed(path, layer.allow, [config.listeners[name] for name in names])


def rules_without_effect(config: Config) -> Iterator[Fault]:
    """Rules for clients that nobody vouches for, and rules behind one that holds whenever they do.

    O(rules x the rules before them, at most `MAX_COMPARED`)."""
    for path, allow, listeners in layers(config):
        asks = [auth for listener in listeners for auth in _auths(listener)]
        for number, rule in enumerate(allow.rules):
            at = (*path, "rules", number)
            if rule.identities is not None:
                yield from _unknown((*at, "identities"), rule.identities, asks)
            before = enumerate(allow.rules[: min(number, MAX_COMPARED)])
            first = next((n for n, other in before if _covers(other, rule)), None)
            if first is not None:
                name = allow.rules[first].name
                message = f"never decides: rules[{first}] {name!r} holds whenever it does"
                yield Fault(at, message, "by its place in the list")


def _auths(listener: Listener) -> Iterator[ClientAuth]:
    """How clients are verified there, by the names that they ask for."""
    tls = listener.tls
    for each in () if tls is None else (tls, *tls.sni.values()):
        if each.clients is not None:
            yield each.clients


def _unknown(path: _Path, whose: Identities, asks: Collection[ClientAuth]) -> Iterator[Fault]:
    if not asks:
        message = "never holds: no client is asked for a certificate there"
        yield Fault(path, message, "tls: {client_auth: {ca: FILE, …}} of its listeners asks for it")
        return
    if not all(auth.trust_domains for auth in asks):
        return  # some CA vouches for every domain
    known = {domain for auth in asks for domain in auth.trust_domains}
    for number, text in enumerate(whose.spiffe):
        domain = text.removeprefix(SPIFFE).partition("/")[0]
        if domain not in known:
            message = f"never holds: {domain} is in no trust_domains of its listeners"
            yield Fault((*path, "spiffe", number), message, f"known: {', '.join(sorted(known))}")


def _covers(other: AllowRule, rule: AllowRule) -> bool:
    """Whether `other` holds for each request for which `rule` does, as far as that can be seen."""
    return (
        _are_names(other.identities, rule.identities)
        and _all_in(other.networks, rule.networks, _is_within)
        and _all_in(other.methods, rule.methods, str.__eq__)
        and _all_in(other.paths, rule.paths, _is_below)
    )


def _are_names(wide: Identities | None, narrow: Identities | None) -> bool:
    if wide is None or narrow is None:
        return wide is None
    return wide.any is not None or (narrow.any is None and {*narrow.all} <= {*wide.all})


def _all_in(wide: list[T] | None, narrow: list[T] | None, is_in: Callable[[T, T], bool]) -> bool:
    if wide is None or narrow is None:
        return wide is None
    return all(any(is_in(part, whole) for whole in wide) for part in narrow)


def _is_within(part: str, whole: str) -> bool:
    if UNIX in (part, whole):
        return part == whole
    inner, outer = ipaddress.ip_network(part), ipaddress.ip_network(whole)
    if isinstance(inner, ipaddress.IPv4Network):
        return isinstance(outer, ipaddress.IPv4Network) and inner.subnet_of(outer)
    return isinstance(outer, ipaddress.IPv6Network) and inner.subnet_of(outer)


def _is_below(part: PathMatch, whole: PathMatch) -> bool:
    if part == whole:
        return True
    inner = part.exact if part.exact is not None else part.prefix
    if inner is None or whole.prefix is None:
        return False
    outer = whole.prefix.removesuffix("/")
    return inner.removesuffix("/") == outer or inner.startswith(f"{outer}/")
