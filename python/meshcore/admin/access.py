"""Who may ask what of the admin port.

Health, readiness and metrics are public: probes and scrapers are many, and none of them
should hold a token that can end the program. For all else the rules here hold, in their order.
"""

from __future__ import annotations

import hmac
import ipaddress
from typing import TYPE_CHECKING, Final

from meshcore._core import Answer

if TYPE_CHECKING:
    from collections.abc import Iterable

    from meshcore._core import Request
    from meshcore.config.snapshot import AdminSpec

OPEN: Final = frozenset({"/healthz", "/readyz", "/metrics"})
"""What every client may read."""

_CHALLENGE: Final = 'Bearer realm="meshcore"'


class Access:
    """The rules of one address. ``is_near``: only programs of this machine reach it."""

    def __init__(self, spec: AdminSpec, *, is_near: bool) -> None:
        self._spec = spec
        self._is_near = is_near

    def refusal(self, request: Request) -> Answer | None:
        """The answer to who may not ask this; none: it may be asked."""
        if request.path in OPEN:
            return None
        orders = request.method not in ("GET", "HEAD")
        if self._spec.unix_path is None:  # no page in a browser reaches a unix socket
            if not is_known(request.host, self._spec.hosts):
                return _no("this port is asked by its address, localhost or a name of admin.hosts")
            if orders and is_from_page(request):
                return _no("orders come without an origin: a page in a browser may give none")
        if self._spec.token is not None:
            if not shows(request, self._spec.token):
                return _who(request)
        elif not self._is_near:
            return _no(
                "other machines reach this address: without admin.token_file it tells "
                f"{', '.join(sorted(OPEN))} alone"
            )
        if orders and self._spec.read_only:
            return _no("admin.read_only is on: orders are taken elsewhere")
        return None


def is_known(host: str, names: Iterable[str]) -> bool:
    """Whether a request is for a name that is ours. A page whose name was bound anew to our
    address (DNS rebinding) shows that name; an address cannot be bound to another."""
    if host == "localhost" or host.endswith(".localhost"):  # RFC 6761 §6.3
        return True
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return any(_fits(host, name) for name in names)
    return True


def _fits(host: str, name: str) -> bool:
    if name == "*":
        return True
    if name.startswith("*."):
        return host.endswith(name[1:])
    if name.endswith(".*"):
        return host.startswith(name[:-1])
    return host == name


def is_from_page(request: Request) -> bool:
    """Whether a page in a browser sent this: it can send an order to any address, but not without
    one of these fields."""
    site = request.header("sec-fetch-site")
    return request.header("origin") is not None or site not in (None, "none")


def shows(request: Request, token: bytes) -> bool:
    """Whether a request has the token, in a time that does not tell how much of it is right."""
    given = [value for name, value in request.headers() if name == "authorization"]
    scheme, _, credentials = given[0].partition(" ") if len(given) == 1 else ("", "", "")
    is_right = hmac.compare_digest(credentials.strip(" ").encode(errors="replace"), token)
    return is_right and scheme.lower() == "bearer"  # RFC 9110 §11.1: in any case


def _who(request: Request) -> Answer:
    # RFC 6750 §3.1: an error only for who showed something.
    wrong = request.header("authorization") is not None
    challenge = f'{_CHALLENGE}, error="invalid_token"' if wrong else _CHALLENGE
    return _refused(401, "show the token of admin.token_file", ("www-authenticate", challenge))


def _no(text: str) -> Answer:
    return _refused(403, text)


def _refused(status: int, text: str, *more: tuple[str, str]) -> Answer:
    fields = [("content-type", "text/plain; charset=utf-8"), *more]
    return Answer(status, fields, f"{text}\n".encode())
