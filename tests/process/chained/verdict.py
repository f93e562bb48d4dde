"""Whether what a client got is an answer to its own request, or an end that may be."""

from __future__ import annotations

from tests.process.chained import own
from tests.process.chained.book import Book, Got
from tests.process.chained.plan import BODILESS, Plan

# What a proxy may say of endpoints that misbehave.
OF_ENDPOINTS = {
    "upstream_connect",
    "upstream_protocol",
    "upstream_refused",
    "upstream_reset",
    "upstream_stale",
}
OF_GUARDS = {"breaker_open", "no_healthy_endpoint"}
GRPC_OF_PROXY = {"13": {"layer_error"}, "14": OF_ENDPOINTS | OF_GUARDS}


def judge(book: Book, plan: Plan, got: Got) -> str:
    """How the request ended, in a word; the book has what is wrong."""
    for head in got.interim:
        if head.get("x-id", plan.name) != plan.name:
            book.fault(plan, f"a foreign interim response: {head}")
    if not got.status:
        outcome = _torn(book, plan, got)
    elif (source := got.fields.get("x-source")) is None:
        outcome = _local(book, plan, got)
    else:
        if got.fields.get("x-id") != plan.name:
            book.fault(plan, f"a foreign head: {got.status} {got.fields}")
        outcome = _theirs(book, plan, got, source)
    book.ended(plan, got, outcome)
    return outcome


def _torn(book: Book, plan: Plan, got: Got) -> str:
    if plan.leaves:
        return "left"
    if got.excused:
        return "behind another's end"
    if plan.nature == "steady":
        book.fault(plan, f"torn: {got.why}, after {got.status} and {len(got.body)} bytes")
    return "torn"


def _theirs(book: Book, plan: Plan, got: Got, source: str) -> str:
    """An endpoint's answer or a layer's: wholly its own, or a beginning of it."""
    if source == own.BUSY:
        status, size = 503, None
    elif source == own.ANSWER:
        status, size = plan.status, _cut_size(plan, got)
        if plan.kind == "tunnel" and plan.speaks == "h1":
            status = 101
    else:
        status, size = 203, None
        if f"{source[-1]}.in.answer" not in " ".join(plan.does):
            book.fault(plan, f"a layer's answer that nobody asked for: {got.fields}")
    if got.status != status:
        book.fault(plan, f"status {got.status} instead of {status}")
    if source.startswith(own.LAYER):
        meant = own.stream(source, plan.name, own.LAYER_BYTES)
    else:
        meant = plan.answered(source)[:size]
    if plan.method == "HEAD" or got.status in BODILESS:
        meant = b""
    if plan.kind == "tunnel" and source == own.ANSWER:
        meant = plan.body()
    is_own = book.compare(plan, f"the body of {source}", got.body, meant)
    # A gRPC response that breaks off ends with a status, as far as that can be said.
    broken = plan.kind == "grpc" and got.trailers.get("grpc-status", "0") != "0"
    if broken or not got.is_whole:
        return _torn(book, plan, got)
    if is_own and len(got.body) != len(meant):
        book.fault(plan, f"whole with {len(got.body)} of {len(meant)} bytes: {got.fields}")
    if source == own.ANSWER:
        _check_echo(book, plan, got)
    return source


def _cut_size(plan: Plan, got: Got) -> int | None:
    """An endpoint whose length is too short has cut the body itself."""
    if plan.fault != "short-length" or "x-short" not in got.fields:
        return None
    return int(got.fields["x-short"])


def _check_echo(book: Book, plan: Plan, got: Got) -> None:
    """What the endpoint says that it read, and the trailers."""
    meant = own.digest(plan.body())
    for where in (got.fields, got.trailers):
        if where.get("x-echo", meant) != meant:
            book.fault(plan, f"the endpoint answered to another body: {where}")
    if got.trailers.get("x-id", plan.name) != plan.name:
        book.fault(plan, f"foreign trailers: {got.trailers}")
    if plan.kind == "grpc" and got.trailers.get("grpc-status") != "0":
        book.fault(plan, f"a gRPC call without its status: {got.trailers}")
    # Behind a length that is too short there may be none: its endpoint has broken off.
    short = "x-short" in got.fields
    if got.fields.get("x-trailers") and "x-id" not in got.trailers and not short:
        book.fault(plan, f"the trailers are lost: {got.trailers}")


def _local(book: Book, plan: Plan, got: Got) -> str:
    """An answer of a proxy's own."""
    reason = got.fields.get("x-mesh-reason", "")
    if not got.is_whole:
        return _torn(book, plan, got)
    allowed: set[str] = set()
    if any("raise" in each for each in plan.does):
        allowed.add("layer_error")
    if plan.nature != "steady":
        allowed |= OF_ENDPOINTS
    if plan.nature == "guarded":
        allowed |= OF_GUARDS
    status = got.fields.get("grpc-status")
    if plan.kind == "grpc" and status is not None and not reason:
        is_fine = bool(allowed & GRPC_OF_PROXY.get(status, set()))
        reason = f"grpc {status}"
    else:
        is_fine = reason in allowed and f'"reason":"{reason}"'.encode() in (
            bytes(got.body) or f'"reason":"{reason}"'.encode()
        )
    if not is_fine:
        book.fault(plan, f"a local answer: {got.status} {got.fields} {bytes(got.body[:200])!r}")
    return reason or "local"
