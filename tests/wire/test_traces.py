"""Contexts of traces: what is read of a client's, what an endpoint is told, who decides."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from meshcore import Answer, Layer, Request
from tests.wire.blame import PROTOCOLS
from tests.wire.conftest import Run
from tests.wire.either import Message, request
from tests.wire.h2_mesh import Mesh
from tests.wire.test_fields import through

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{SPAN}-01"
OURS = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-0([0-3])")
every_pair = pytest.mark.parametrize(
    ("client", "endpoint"), [(a, b) for a in PROTOCOLS for b in PROTOCOLS]
)


def tracing(mesh: Mesh, *, trusted: bool = True, **keys: Any) -> Mesh:
    """A mesh that takes part in traces; whether clients are believed."""
    mesh.top["tracing"] = keys
    return mesh.listen(client_address={"trusted": ["127.0.0.1"]}) if trusted else mesh


async def told(
    run_through: Any, *fields: tuple[str, str], route: dict[str, Any] | None = None, **keys: Any
) -> dict[str, str]:
    """What an endpoint hears of a request with these fields."""
    client, endpoint, engine = run_through

    def mesh(mesh: Mesh) -> Mesh:
        return tracing(mesh, **keys).via(**(route or {}))

    async with through(client, endpoint, engine, mesh=mesh) as (ask, origin):
        assert (await ask(request("GET", "/", *fields))).status == 200
        return origin.asked[0].fields


def parsed(fields: dict[str, str]) -> tuple[str, str, str]:
    """Trace, span and flags of what an endpoint was told."""
    found = OURS.fullmatch(fields["traceparent"])
    assert found, fields["traceparent"]
    return found[1], found[2], found[3]


@every_pair
def test_a_trace_goes_on_with_another_parent(
    run: Run, engine: str, client: str, endpoint: str
) -> None:
    async def go() -> None:
        way = (client, endpoint, engine)
        state = ("tracestate", "congo=t61rcwkgmze , rojo=00f067aa0ba902b7")
        fields = await told(way, ("traceparent", PARENT), state)
        trace, span, flags = parsed(fields)
        assert (trace, flags) == (TRACE, "1")
        assert span != SPAN
        assert fields["tracestate"] == state[1]

    run(go())


@every_pair
def test_a_trace_begins_here(run: Run, engine: str, client: str, endpoint: str) -> None:
    async def go() -> None:
        way = (client, endpoint, engine)
        fields = await told(way, ("tracestate", "a=1"), sample="100%")
        trace, _, flags = parsed(fields)
        assert flags == "3", "sampled, and of random bits"
        assert fields["x-request-id"] == trace, "one word finds both"
        assert "tracestate" not in fields, "it is of no trace"

    run(go())


def test_without_the_key_all_passes_as_it_came(run: Run, engine: str) -> None:
    said = {"traceparent": "what-ever", "tracestate": "=", "b3": "1", "uber-trace-id": "x"}

    async def go() -> None:
        async with through("http1", "http1", engine) as (ask, origin):
            await ask(request("GET", "/", *said.items()))
            assert said.items() <= origin.asked[0].fields.items()
            await ask(request())
            assert "traceparent" not in origin.asked[1].fields

    run(go())


@pytest.mark.parametrize(
    ("said", "form"),
    [
        ({"b3": f"{TRACE}-{SPAN}-1-05e3ac9a4f6e3b90"}, "b3"),
        ({"x-b3-traceid": TRACE, "x-b3-spanid": SPAN, "x-b3-sampled": "1"}, "x-b3-traceid"),
        ({"uber-trace-id": f"{TRACE}:{SPAN}:0:1"}, "uber-trace-id"),
    ],
)
def test_other_forms_are_read_and_answered_in_kind(
    run: Run, engine: str, said: dict[str, str], form: str
) -> None:
    async def go() -> None:
        fields = await told(("http1", "http1", engine), *said.items())
        trace, span, flags = parsed(fields)
        assert (trace, flags) == (TRACE, "1")
        assert form in fields
        of_form = " ".join(value for name, value in fields.items() if name in {*said, form})
        assert TRACE in of_form
        assert "x-b3-spanid" in fields or span in of_form
        assert SPAN not in of_form, "its parent is the proxy's span now"

    run(go())


def test_every_form_that_is_asked_for_is_written(run: Run, engine: str) -> None:
    async def go() -> None:
        forms = ["b3", "b3multi", "jaeger", "w3c"]
        fields = await told(("http1", "h2", engine), sample="100%", propagate=forms)
        trace, span, _ = parsed(fields)
        parent = fields["x-b3-parentspanid"]
        assert fields["b3"] == f"{trace}-{span}-1-{parent}"
        assert fields["uber-trace-id"] == f"{trace}:{span}:{parent}:1"
        assert (fields["x-b3-traceid"], fields["x-b3-spanid"]) == (trace, span)
        assert fields["x-b3-sampled"] == "1"
        assert parent not in (span, "0" * 16)

    run(go())


@pytest.mark.parametrize(
    "wrong", ["", "00", PARENT.upper(), f"ff{PARENT[2:]}", f"00-{'0' * 32}-{SPAN}-01"]
)
def test_what_is_no_context_begins_another_trace(run: Run, engine: str, wrong: str) -> None:
    async def go() -> None:
        said = [("traceparent", wrong), ("tracestate", "a=1")]
        fields = await told(("http1", "http1", engine), *said)
        trace, _, flags = parsed(fields)
        assert trace != TRACE
        assert flags == "2"
        assert "tracestate" not in fields

    run(go())


def test_a_state_that_is_wrong_spoils_no_trace(run: Run, engine: str) -> None:
    async def go() -> None:
        said = [("traceparent", PARENT), ("tracestate", "a=1,B=2")]
        fields = await told(("http1", "http1", engine), *said)
        assert parsed(fields)[0] == TRACE
        assert "tracestate" not in fields

    run(go())


@pytest.mark.parametrize("sample", ["0%", "100%"])
@pytest.mark.parametrize("flag", ["00", "01"])
@pytest.mark.parametrize("trusted", [True, False])
def test_a_callers_flag_counts_where_the_caller_is_trusted(
    run: Run, engine: str, sample: str, flag: str, trusted: bool
) -> None:
    """Else any client would have all that it asks for sampled, or nothing."""

    async def go() -> None:
        said = ("traceparent", f"{PARENT[:-2]}{flag}")
        way = ("http1", "http1", engine)
        fields = await told(way, said, sample=sample, trusted=trusted)
        trace, _, flags = parsed(fields)
        assert trace == TRACE
        assert flags == (flag[1] if trusted else str(int(sample == "100%")))

    run(go())


@pytest.mark.parametrize("trusted", [True, False])
def test_a_trusted_peer_has_a_request_sampled(run: Run, engine: str, trusted: bool) -> None:
    async def go() -> None:
        said = [("traceparent", f"{PARENT[:-2]}00"), ("x-mesh-trace", "1")]
        fields = await told(("http1", "http1", engine), *said, trusted=trusted)
        assert parsed(fields)[2] == str(int(trusted))
        assert ("x-mesh-trace" in fields) is trusted

    run(go())


def test_a_client_chooses_no_number_by_which_it_is_sampled(run: Run, engine: str) -> None:
    """The highest trace ids are those of the smallest share."""

    async def go() -> None:
        said = ("traceparent", f"00-{'f' * 32}-{SPAN}-01")
        way = ("http1", "http1", engine)
        fields = await told(way, said, sample="0.0001%", trusted=False)
        assert parsed(fields)[2] == "0"

    run(go())


def test_a_route_samples_otherwise(run: Run, engine: str) -> None:
    async def go() -> None:
        way = ("http1", "http1", engine)
        more = await told(way, route={"tracing": {"sample": "100%"}})
        assert parsed(more)[2] == "3"
        less = await told(way, route={"tracing": {"sample": "0%"}}, sample="100%")
        assert parsed(less)[2] == "2"

    run(go())


class Shown(Layer):
    """A layer that remembers."""

    def __init__(self) -> None:
        self.traces: list[tuple[str, str, bool] | None] = []

    def on_request(self, request: Request) -> Answer | None:
        """Look at it."""
        trace = request.trace
        self.traces.append(trace and (trace.trace_id, trace.span_id, trace.sampled))
        return None


def test_layers_and_the_log_know_the_trace(
    run: Run, engine: str, capsys: pytest.CaptureFixture[str]
) -> None:
    layer = Shown()
    fields: list[dict[str, str]] = []

    def mesh(mesh: Mesh) -> Mesh:
        mesh.top["access_log"] = "json"
        return tracing(mesh)

    async def go() -> None:
        async with through("http1", "http1", engine, layer=layer, mesh=mesh) as (ask, origin):
            await ask(request("GET", "/", ("traceparent", PARENT)))
            fields.append(origin.asked[0].fields)

    run(go())
    ((trace, span, sampled),) = [each for each in layer.traces if each]
    assert (trace, sampled) == (TRACE, True)
    assert span not in (SPAN, parsed(fields[0])[1]), "the request's, not the attempt's"
    (line,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert line["trace_id"] == TRACE
    assert line["request_id"] != TRACE, "a trace has many requests"


def test_each_attempt_is_a_span_of_its_own(run: Run, engine: str) -> None:
    answers = iter((503, 200))

    def answer(asked: Message) -> Message:
        return Message({":status": str(next(answers))}, b"hi")

    def mesh(mesh: Mesh) -> Mesh:
        return tracing(mesh, sample="100%").via(retry={"retries": 1, "when": [503]})

    async def go() -> None:
        async with through("http1", "http1", engine, answer, mesh=mesh) as (ask, origin):
            assert (await ask(request())).status == 200
            first, second = (parsed(asked.fields) for asked in origin.asked)
            assert first[0] == second[0]
            assert first[1] != second[1]

    run(go())
