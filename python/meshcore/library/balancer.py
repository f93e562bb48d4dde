"""A balancer for one's own calls to a service of several endpoints."""

from __future__ import annotations

import json
import secrets
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, NoReturn, Self, TypedDict, Unpack

from pydantic import ValidationError

from meshcore._core import BalancerCore
from meshcore.config.compile import core_upstream
from meshcore.config.explain import as_value_error
from meshcore.config.upstream import Ejection, Upstream
from meshcore.library import part
from meshcore.library.classifying import classes
from meshcore.library.keywords import check_keywords
from meshcore.library.times import Time, as_written, check_clock

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshcore.library.classifying import Classes

Endpoints = Iterable[str | Mapping[str, str | int]]
_TIMES: Final = ("eject_for", "max_eject_for")


class Ejecting(TypedDict, total=False):
    """When an endpoint that failed is left out; what is not given is as in the configuration."""

    eject_for: Time
    """The first time out (``30s``): a text, seconds or a `timedelta`."""
    max_eject_for: Time
    """The longest time out (``5m``); it grows with each repetition."""
    max_percent: int | str
    """Most of the endpoints that may be out (``50%``)."""


_KEYWORDS: Final = ("balance", "clock", "failure_on", "failures", *Ejecting.__annotations__)


class EndpointStatus(NamedTuple):
    """What is known of an endpoint."""

    address: str
    weight: int
    in_flight: int
    """Attempts that are not settled."""
    ejected: bool
    """Left out because it failed."""
    draining: bool
    """Left out because you said so, while another one is not."""


class Balancer(BalancerCore):
    """Picks an endpoint for each attempt, and leaves out those that fail.

    ``endpoints`` are addresses (``host:port``, ``[v6]:port``, ``unix:/path``), or mappings with
    ``address`` and ``weight``. ``balance`` is ``least_request`` (the less loaded of two random
    ones), ``round_robin`` or ``random``, all by weight. An endpoint is ejected after ``failures``
    in a row (0: never), for ``eject_for``, longer at each repetition up to ``max_eject_for``, then
    one attempt finds out if it is well; at most ``max_percent`` of the endpoints are out, and
    when fewer than half are left, all are used. Those that drain are left out while one does not.

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
        **ejecting: Unpack[Ejecting],
    ) -> Self:
        """All endpoints in."""
        check_keywords(ejecting, _KEYWORDS)
        check_clock(clock)
        never = failures == 0 and not isinstance(failures, bool)
        ejection = _ejection({**ejecting} if never else {"failures": failures, **ejecting})
        rules = {"balance": balance, "ejection": "off" if never else ejection}
        upstream, failures_are = _upstream(rules, endpoints), classes("failure_on", failure_on)
        new = super().__new__(cls, upstream, secrets.randbits(64), failures_are, clock)
        new._rules = rules
        return new

    def __init_subclass__(cls) -> None:
        part.check_subclass(cls)

    def __repr__(self) -> str:
        return part.shown(self, f"{len(self.status())} endpoints")

    def __reduce__(self) -> NoReturn:
        """`TypeError`: what it knows of its endpoints is of this process."""
        part.of_one_process(self)

    def set_endpoints(self, endpoints: Endpoints) -> None:
        """Other endpoints from now on; those that stay keep what is known of them.

        Attempts under way at those that go are settled as ever. O(endpoints).
        """
        self.replace_endpoints(_upstream(self._rules, endpoints))

    def status(self) -> list[EndpointStatus]:
        """Every endpoint, in the order given. O(endpoints)."""
        return [EndpointStatus(*each) for each in self.endpoints()]


def _ejection(given: dict[str, Any]) -> dict[str, Any]:
    written, wrong = as_written(given, _TIMES)
    try:
        Ejection.model_validate(written)
    except ValidationError as error:
        raise as_value_error(error, Ejection, wrong) from None
    if wrong:
        raise ValueError("\n".join(wrong))
    return written


def _upstream(rules: dict[str, Any], endpoints: Endpoints) -> str:
    listed: Any = endpoints
    if isinstance(endpoints, Iterable) and not isinstance(endpoints, str | dict):
        listed = [dict(each) if isinstance(each, Mapping) else each for each in endpoints]
    try:
        model = Upstream.model_validate({**rules, "endpoints": listed})
    except ValidationError as error:
        raise as_value_error(error, Upstream) from None
    addresses = [str(each.address) for each in model.endpoints]
    twice = sorted(each for each, times in Counter(addresses).items() if times > 1)
    if twice:
        raise ValueError(f"endpoints: given twice: {', '.join(twice)}")
    return json.dumps(core_upstream(model))
