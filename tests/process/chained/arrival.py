"""A request as it reaches an endpoint, in either protocol: whether it was asked, whether all of it
is its own, whether it may come at all; and what the endpoint says to it."""

from __future__ import annotations

from typing import NamedTuple

from tests.process.chained import own
from tests.process.chained.book import Book
from tests.process.chained.plan import BODILESS, Plan

Fields = list[tuple[str, str]]


class Reply(NamedTuple):
    """What an endpoint answers."""

    what: str
    status: int
    fields: Fields
    body: bytes
    trailers: Fields


class Arrival:
    """One attempt of a request that an endpoint has the head of."""

    def __init__(self, book: Book, method: str, path: str, fields: dict[str, str]) -> None:
        self._book = book
        self.body = bytearray()
        self._is_own = True
        self.is_whole = False
        name = path.rpartition("/")[2]
        record = book.records.get(name)
        if record is None or record.plan.path != path:
            book.fault(None, f"an endpoint is asked what nobody asked: {method} {path} {fields}")
            raise ConnectionResetError("nobody's")
        self.plan = plan = record.plan
        self._record = record
        self._meant = plan.body()
        record.arrivals += 1
        self.attempt = record.arrivals
        self.fault = plan.fault if self.attempt <= plan.fault_tries else ""
        book.counts["arrivals"] += 1
        book.met[self.fault] += 1
        if plan.kind != "tunnel" and method != plan.method:
            book.fault(plan, f"it came as {method}")
        for name, value in plan.fields():
            if name != "te" and fields.get(name) != value:
                book.fault(plan, f"the endpoint has {name}: {fields.get(name)!r} for {value!r}")

    def accepted(self) -> None:
        """The endpoint works for this attempt: of what may be done only once, for no other."""
        self._record.processed += 1
        if self.plan.is_unsafe and self._record.processed > 1:
            what = f"it came {self._record.processed} times, by attempt {self.attempt}"
            self._book.fault(self.plan, what)

    def refused(self) -> None:
        """The endpoint says that it did nothing, after all."""
        self._record.processed -= 1

    def took(self, data: bytes) -> None:
        """A piece of the body."""
        at = len(self.body)
        self.body += data
        if self._meant[at : at + len(data)] != data and self._is_own:
            self._is_own = False
            self._book.compare(self.plan, "the request's body", self.body, self._meant)

    def ended(self, trailers: dict[str, str]) -> None:
        """The message is whole, as far as the endpoint can see."""
        plan, self.is_whole = self.plan, True
        if len(self.body) != len(self._meant):
            what = f"the endpoint has {len(self.body)} of {len(self._meant)} bytes as a whole"
            self._book.fault(plan, what)
        if trailers.get("x-id", plan.name) != plan.name:
            self._book.fault(plan, f"a foreign request's trailers: {trailers}")
        if plan.sends.trailers and plan.kind == "plain" and self._meant and "x-id" not in trailers:
            self._book.fault(plan, f"the request's trailers are lost: {trailers}")

    def reply(self) -> Reply:
        """The answer, and what it says of the request so far."""
        plan = self.plan
        what = own.BUSY if self.fault == "busy" else own.ANSWER
        body = plan.answered(what)
        echo = [("x-echo", own.digest(bytes(self.body)))] if self.is_whole else []
        fields: Fields = [("x-id", plan.name), ("x-source", what), *echo]
        fields.append(("x-pad", own.pad(plan.name, plan.pad)))
        trailers: Fields = []
        if plan.kind == "grpc":
            fields.append(("content-type", "application/grpc"))
            trailers = [("grpc-status", "0"), ("x-id", plan.name), *echo]
        elif plan.answer.trailers and plan.answer.chunked and what == own.ANSWER and plan.has_body:
            fields.append(("x-trailers", "1"))
            trailers = [("x-id", plan.name), *echo]
        status = 503 if what == own.BUSY else plan.status
        if plan.method == "HEAD" or status in BODILESS:
            body = b""
        return Reply(what, status, fields, body, trailers)


def pieces_of(data: bytes, count: int) -> list[bytes]:
    """A body in so many pieces, none of them empty."""
    size = max(1, -(-len(data) // count))
    return [data[at : at + size] for at in range(0, len(data), size)]


def short_of(plan: Plan, size: int) -> int:
    """The length that an endpoint gives which gives it wrong."""
    return int(size * plan.fault_at)
