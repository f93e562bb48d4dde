"""What a mesh under test is made of: its configuration in the core, and where parts of it stand."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from meshcore.config.change import change
from meshcore.config.compile import compile
from meshcore.config.document import MAX_BYTES
from meshcore.config.load import load_bytes
from meshcore.config.model import Config
from meshcore.process.room import alone

if TYPE_CHECKING:
    from meshcore._core import CodecLimits, Engine, Ticket
    from meshcore.config.layers import ListenerLayer
    from meshcore.config.route import Route

# Where the core says a refusal came from that was no layer's: as `Answer::detail`.
_OF_UPSTREAM: Final = {
    "circuit_breaker of the upstream": "circuit_breaker",
    "limits.requests": "limits.requests",
    "limits.client_share": "limits.client_share",
}
_OF_ROUTE: Final = "circuit_breaker of the route"


class Inbound(NamedTuple):
    """What a listener says of a request before the core sees it."""

    limits: CodecLimits
    secure: bool
    """It ends TLS."""


class Parts:
    """A configuration, ready to be asked."""

    def __init__(self, config: Config, seed: int) -> None:
        self.config = config
        snapshot = compile(_without_secrets(config))
        whole = change(None, snapshot)
        self.engine: Engine
        self.engine, prepared, _ = alone(snapshot, seed, lambda e: e.prepare(whole.core))
        self.inbound = {
            spec.name: Inbound(spec.codec_limits(), config.listeners[spec.name].tls is not None)
            for spec in snapshot.listeners
        }
        limits = {spec.name: spec.codec_limits() for spec in snapshot.upstreams}
        self.endpoints: dict[int, str] = {}
        """Addresses by the core's numbers."""
        self.limits: dict[int, CodecLimits] = {}
        """Of responses, likewise."""
        for name, endpoints in prepared.upstreams():
            for number, address in endpoints:
                self.endpoints[number], self.limits[number] = address, limits[name]
        self.engine.commit(prepared)
        self._routes = {route.name: place for place, route in enumerate(config.routes)}

    def listener(self, name: str | None, scheme: str) -> str:
        """Where a request comes in. Raises `ValueError` if that is not said, or nowhere."""
        names = ", ".join(self.inbound)
        if name is not None:
            if name not in self.inbound:
                raise ValueError(f"no listener {name!r}: there is {names}")
            return name
        fitting = [x for x, each in self.inbound.items() if each.secure == (scheme == "https")]
        for found in (list(self.inbound), fitting):
            if len(found) == 1:
                return found[0]
        raise ValueError(f"several listeners: say which by listener=…, one of {names}")

    def route(self, name: str) -> Route:
        """A route by name."""
        return self.config.routes[self._routes[name]]

    def refused_by(self, ticket: Ticket, listener: str, detail: str) -> str | None:
        """The part of the configuration that refused a request: where the core stood then."""
        route = self.route(ticket.route) if ticket.route else None
        if route is not None and detail in _OF_UPSTREAM:
            return f"upstreams.{route.upstream}.{_OF_UPSTREAM[detail]}"
        if route is not None and detail == _OF_ROUTE:
            breakers = (n for n, x in enumerate(route.layers) if x.circuit_breaker is not None)
            return self._layer(route, listener, next(breakers))
        if (stands_at := ticket.stands_at) is None:
            return None
        of_route, place = stands_at
        return self._layer(route if of_route else None, listener, place)

    def _layer(self, route: Route | None, listener: str, place: int) -> str:
        layer: ListenerLayer
        if route is None:
            path, layer = f"listeners.{listener}", self.config.listeners[listener].layers[place]
        else:
            path, layer = f"routes[{self._routes[route.name]}]", route.layers[place]
        kinds = (kind for kind in type(layer).model_fields if getattr(layer, kind) is not None)
        return f"{path}.layers[{place}].{next(kinds)}"


def load(config: str | Path | Config, *, env: bool) -> tuple[Config, Path | None]:
    """A configuration, and the folder of its file; one that is no `Config` is a path, or a text of
    several lines. What is secret is not opened.

    Raises `ConfigError` with every problem, `OSError` if the file cannot be read.
    """
    if isinstance(config, Config):
        return config, None
    if isinstance(config, str) and "\n" in config:
        loaded = load_bytes(config.encode(), "<text>", None, env=env, secrets=False)
        return loaded.config, None
    path = Path(config)
    with path.open("rb") as file:
        raw = file.read(MAX_BYTES + 1)
    loaded = load_bytes(raw, str(path), path.parent, env=env, secrets=False)
    return loaded.config, path.parent


def _without_secrets(config: Config) -> Config:
    """The same decisions, without certificates, keys and tokens: there are no connections."""
    listeners = {n: x.model_copy(update={"tls": None}) for n, x in config.listeners.items()}
    upstreams = {n: x.model_copy(update={"tls": None}) for n, x in config.upstreams.items()}
    return config.model_copy(update={"admin": None, "listeners": listeners, "upstreams": upstreams})
