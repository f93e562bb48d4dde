"""What a mesh under test says."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from meshcore.testing.flight import Flight

Field = tuple[str, str]


@dataclass(frozen=True, slots=True)
class RouteMatch:
    """The route that owns a request."""

    name: str
    upstream: str | None
    """Where it forwards to; `None` for one that redirects or answers."""
    host: str
    """Which of its hosts matched, as it is written."""
    path: str | None
    """Its own path: ``prefix /v1``, ``exact /health``, ``regex …``; `None` for any."""


@dataclass(frozen=True, slots=True)
class Sent:
    """A request as an endpoint gets it, in the words of HTTP/1.1."""

    method: str
    target: str
    headers: tuple[Field, ...]
    """Names in lower case, in order."""
    body: bytes
    """As layers made it."""

    def header(self, name: str) -> str | None:
        """The first value of a field."""
        return next((value for key, value in self.headers if key == name.lower()), None)


@dataclass(frozen=True, slots=True)
class Decision:
    """What is done with a request, and why, as it was decided at one moment."""

    action: Literal["forward", "answer", "relay", "cut"]
    """``forward``: it is sent to `endpoint`. ``answer``: it is answered here with `status`, for
    `reason`. ``relay``: the endpoint's response goes to the client. ``cut``: it ended without an
    answer, for `reason`."""
    route: str | None
    """The route's name; `None` if no route was found, or asked for yet."""
    upstream: str | None
    """Where that forwards to."""
    endpoint: str | None
    """The address that was chosen last."""
    attempt: int
    """Which attempt that is, from 1; 0 before any."""
    pause: float
    """Seconds before this attempt, which have passed."""
    status: int | None
    """What the client gets; `None` while there is no answer."""
    reason: str | None
    """The stable code, as in ``x-mesh-reason``; `None` unless it ended here."""
    detail: str
    """What in particular, as in the access log; for reading, may change."""
    decided_by: str | None
    """The part of the configuration that refused it, as far as it is one:
    ``routes[2].layers[0].limit``, ``upstreams.api.circuit_breaker``."""
    rules: tuple[str, ...]
    """What the `allow` layers have found so far, in their order: the name of the rule that matched,
    or ``none``; behind ``shadow:`` if that layer refuses nothing."""
    retry_after: float | None
    """Seconds after which the client is told to come back."""
    headers: tuple[Field, ...]
    """The fields that the client gets, without those of framing."""
    body: bytes
    """The body that the client gets."""
    sent: Sent | None
    """What the endpoint gets."""
    error: BaseException | None
    """What a Python layer raised."""
    _flight: Flight | None = field(repr=False, compare=False)

    @property
    def forwarded(self) -> bool:
        """Whether an endpoint has it, and has not answered yet."""
        return self.action == "forward"

    def header(self, name: str) -> str | None:
        """The first value of a field that the client gets."""
        return next((value for key, value in self.headers if key == name.lower()), None)
