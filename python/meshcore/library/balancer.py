"""A balancer for one's own calls to a service of several endpoints."""

from __future__ import annotations

import json
import secrets
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self

from pydantic import ValidationError

from meshcore._core import BalancerCore
from meshcore.config.compile import core_upstream
from meshcore.config.explain import as_value_error
from meshcore.config.upstream import Upstream
from meshcore.library.judging import classes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from meshcore.library.judging import Classes

    Endpoints = Iterable[str | Mapping[str, str | int]]


class EndpointStatus(NamedTuple):
    """What is known of an endpoint."""

    address: str
    weight: int
    in_flight: int
    """Attempts that are not settled."""
    ejected: bool
    """Left out because it failed."""
    draining: bool
    """Left out because you said so."""


class Balancer(BalancerCore):
    """Picks an endpoint for each attempt, and leaves out those that fail.

    ``endpoints`` are addresses (``host:port``, ``[v6]:port``, ``unix:/path``), or mappings with
    ``address`` and ``weight``. ``balance`` is ``least_request`` (the less loaded of two random
    ones), ``round_robin`` or ``random``, all by weight. An endpoint is ejected after ``failures``
    in a row (0: never), for ``eject_for``, longer at each repetition up to ``max_eject_for``, then
    one attempt finds out if it is well; at most ``max_percent`` of the endpoints are out, and
    when fewer than half are left, all are used.

    Use it as ``with balancer.pick() as attempt: call(attempt.address)``: an exception of
    ``failure_on`` is a failure, any other `Exception` a success, what is not an `Exception` says
    nothing, and nor does a refusal of meshcore's; an `ExceptionGroup` counts as what is in it. For
    any thread. Raises `ValueError` for what the proxy's configuration would refuse.
    """

    _rules: dict[str, Any]

    def __new__(
        cls,
        endpoints: Endpoints,
        *,
        balance: Literal["least_request", "round_robin", "random"] = "least_request",
        failures: int = 5,
        failure_on: Classes = Exception,
        clock: Callable[[], int] | None = None,
        **more: Any,
    ) -> Self:
        """All endpoints in. ``more``: ``eject_for``, ``max_eject_for``, ``max_percent``."""
        ejection = {"failures": failures, **more} if failures else "off"
        rules = {"balance": balance, "ejection": ejection}
        seed = secrets.randbits(64)
        failures_are = classes("failure_on", failure_on)
        new = super().__new__(cls, _upstream(rules, endpoints), seed, failures_are, clock)
        new._rules = rules
        return new

    def set_endpoints(self, endpoints: Endpoints) -> None:
        """Other endpoints from now on; those that stay keep what is known of them.

        Attempts under way at those that go are settled as ever. O(endpoints).
        """
        self.replace_endpoints(_upstream(self._rules, endpoints))

    def status(self) -> list[EndpointStatus]:
        """Every endpoint, in the order given. O(endpoints)."""
        return [EndpointStatus(*each) for each in self.endpoints()]


def _upstream(rules: dict[str, Any], endpoints: Endpoints) -> str:
    listed = list(endpoints)
    try:
        model = Upstream.model_validate({**rules, "endpoints": listed})
    except ValidationError as error:
        raise as_value_error(error, Upstream) from None
    addresses = [str(each.address) for each in model.endpoints]
    twice = sorted({each for each in addresses if addresses.count(each) > 1})
    if twice:
        raise ValueError(f"endpoints: given twice: {', '.join(twice)}")
    return json.dumps(core_upstream(model))
