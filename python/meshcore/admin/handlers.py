"""What the admin port answers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import parse_qs

from meshcore._core import Answer
from meshcore.admin.exposition import Exposition
from meshcore.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from meshcore._core import Request
    from meshcore.admin.access import Access

    Later = Coroutine[object, object, Answer]

TEXT: Final = "text/plain; charset=utf-8"
JSON: Final = "application/json"
# At one time: what they change goes one after the other anyway.
MAX_ORDERS: Final = 16


class Subject(Protocol):
    """What the admin port tells about."""

    @property
    def ready(self) -> bool:
        """Whether new requests are taken."""

    def metrics(self, accept: str = "") -> tuple[bytes, str]:
        """All metrics as text, and its content type."""


class Operator(Subject, Protocol):
    """What takes orders. Each returns what is to be told, as plain data, and raises `ConfigError`,
    `LookupError`, `OSError` or `OperationRefusedError`."""

    async def status(self) -> dict[str, Any]:
        """Workers, versions, listeners."""

    async def reload(self) -> dict[str, Any]:
        """Put the file's configuration in force."""

    async def rollback(self, version: int | None) -> dict[str, Any]:
        """Put an earlier one in force."""

    async def upgrade(self) -> dict[str, Any]:
        """Start the program anew and hand over to it."""

    async def set_breaker(self, given: dict[str, str]) -> dict[str, Any]:
        """Open or close a breaker by hand."""

    async def drain(self, listener: str | None, worker: int | None) -> dict[str, Any]:
        """Drain a listener, a worker, or everything."""


class OperationRefusedError(Exception):
    """An order that cannot be carried out now; the text says why."""


class _Order:
    """What a POST asks for, and the parameters that it may have."""

    def __init__(
        self, give: Callable[[dict[str, str]], Coroutine[object, object, Any]], *known: str
    ) -> None:
        self.give = give
        self._known = known

    def parameters(self, request: Request) -> dict[str, str]:
        """What the query says. A drain with a mistake in it must not be one of everything, so
        whatever is not understood raises `ValueError`."""
        if request.chunked or request.header("content-length") not in (None, "0"):
            raise ValueError("parameters are in the query; a body is not read")
        given = {}
        for name, values in parse_qs(request.query or "", keep_blank_values=True).items():
            if name not in self._known:
                known = ", ".join(self._known) or "none"
                raise ValueError(f"unknown parameter {name!r}; known: {known}")
            if len(values) > 1:
                raise ValueError(f"{name} is given twice")
            if not values[0]:
                raise ValueError(f"{name} is empty")
            given[name] = values[0]
        return given


class Handlers:
    """``/healthz``, ``/readyz`` and ``/metrics``; with an operator ``/status`` and orders."""

    def __init__(self, subject: Subject, operator: Operator | None = None) -> None:
        self._subject = subject
        self._exposition = Exposition(subject.metrics)
        self._under_way = 0
        self._get: dict[str, Callable[[Request], Answer | Later]] = {
            "/healthz": lambda _: _text(200, "ok"),
            "/readyz": self._ready,
            "/metrics": lambda asked: self._exposition.answer(asked.header("accept") or ""),
        }
        self._post: dict[str, _Order] = {}
        if operator is not None:
            self._get["/status"] = lambda _: _told(operator.status)
            self._post = {
                "/reload": _Order(lambda _: operator.reload()),
                "/rollback": _Order(lambda g: operator.rollback(_number(g, "version")), "version"),
                "/upgrade": _Order(lambda _: operator.upgrade()),
                "/breaker": _Order(operator.set_breaker, "upstream", "route", "state", "for"),
                "/drain": _Order(
                    lambda g: operator.drain(g.get("listener"), _number(g, "worker")),
                    "listener",
                    "worker",
                ),
            }

    def answer(self, request: Request, access: Access | None) -> Answer | Later:
        """The answer to one request, or the work that brings it; without `access` everything may
        be asked."""
        refusal = access.refusal(request) if access is not None else None
        if refusal is not None:
            return refusal
        path, is_get = request.path, request.method in ("GET", "HEAD")
        if is_get and path in self._get:
            return self._get[path](request)
        if request.method == "POST" and path in self._post:
            return self._order(self._post[path], request)
        allowed = ["GET, HEAD"] * (path in self._get) + ["POST"] * (path in self._post)
        if allowed:
            fields = [("allow", ", ".join(allowed)), ("content-type", TEXT)]
            return Answer(405, fields, f"{', '.join(allowed)} only\n".encode())
        known = ", ".join([*self._get, *(f"POST {order}" for order in self._post)])
        return _text(404, f"try {known}")

    @staticmethod
    def cut_short(request: Request) -> Answer:
        """The answer where there is no time for another one."""
        if request.method != "POST":
            return _text(503, "the program ends")
        told = "not done: the program ends, or another one has taken over"
        return _json(409, {"errors": [told]})

    async def _order(self, order: _Order, request: Request) -> Answer:
        if self._under_way == MAX_ORDERS:
            return _json(503, {"errors": [f"{MAX_ORDERS} orders are under way"]})
        self._under_way += 1
        try:
            return _json(200, await order.give(order.parameters(request)))
        except ConfigError as error:
            return _json(422, {"errors": [str(problem) for problem in error.problems]})
        except (OperationRefusedError, OSError) as error:
            return _json(409, {"errors": [str(error)]})
        except (LookupError, ValueError) as error:
            return _json(400, {"errors": [str(error.args[0] if error.args else error)]})
        finally:
            self._under_way -= 1

    def _ready(self, _: Request) -> Answer:
        return _text(200, "ready") if self._subject.ready else _text(503, "draining")


def _number(given: dict[str, str], name: str) -> int | None:
    text = given.get(name)
    if text is None:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise ValueError(f"{name}: {text!r} is not a number")
    return int(text)


async def _told(tell: Callable[[], Coroutine[object, object, object]]) -> Answer:
    return _json(200, await tell())


def _text(status: int, text: str) -> Answer:
    return Answer(status, [("content-type", TEXT)], f"{text}\n".encode())


def _json(status: int, data: object) -> Answer:
    return Answer(status, [("content-type", JSON)], json.dumps(data).encode() + b"\n")
