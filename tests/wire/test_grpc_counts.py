"""What metrics, the access log and layers say of gRPC calls is what their clients were told."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest

from meshcore import Answer, Layer, Outcome, Proxy, Request, Response, load_text
from tests.wire.conftest import Run, eventually, metric
from tests.wire.h2_client import H2Client
from tests.wire.h2_origin import Call, H2Origin
from tests.wire.test_h2_grpc import EXHAUSTED, HEAD, OK, UNAVAILABLE, begin, mesh, message, unary
from tests.wire.test_h2_grpc import status as status_of

UNKNOWN, NOT_FOUND, FORBIDDEN = "2", "5", "7"
# Each path, and how a call to it ends.
ENDS = {
    "/whole": OK,
    "/torn": UNAVAILABLE,
    "/limited": EXHAUSTED,
    "/direct": UNKNOWN,
    "/forbidden": FORBIDDEN,
    "/moved": UNKNOWN,
    "/replaced": NOT_FOUND,
    "/refused": UNKNOWN,
}


class Judge(Layer):
    """Answers some calls itself, before and behind the service."""

    def __init__(self) -> None:
        self.told: list[Outcome] = []

    async def on_request(self, request: Request) -> Answer | None:
        return Answer(418, [], b"") if request.path == "/refused" else None

    async def on_response(self, request: Request, response: Response) -> Answer | None:
        if request.path == "/replaced":
            return Answer(200, [("grpc-status", NOT_FOUND)], b"")
        return None

    def on_end(self, request: Request, outcome: Outcome) -> None:
        self.told.append(outcome)


async def serve_call(call: Call) -> None:
    await call.whole()
    if call.fields[":path"] == "/torn":
        call.send_head(*HEAD)
        await call.send(message(b"half"))
        await call.visit.round_trip()
        call.visit.abort()
    else:
        call.send_head(*HEAD, ("grpc-status", OK), end=True)


def test_each_call_counts_as_it_was_told(
    run: Run, engine: str, capsys: pytest.CaptureFixture[str]
) -> None:
    judge = Judge()

    async def go() -> None:
        async with H2Origin(serve_call) as origin:
            text = mesh(engine, origin.port).via(layers=[{"python": "a:Judge"}])
            text.top["access_log"] = "json"
            text.beside(
                "limited",
                match={"path": {"exact": "/limited"}},
                upstream="one",
                layers=[{"limit": {"rate": "1/h", "burst": 1}}],
            )
            answers: dict[str, dict[str, Any]] = {
                "direct": {"respond": {}},
                "forbidden": {"respond": {"status": 403}},
                "moved": {"redirect": {"host": "b.test"}},
            }
            for name, keys in answers.items():
                text.beside(name, match={"path": {"exact": f"/{name}"}}, **keys)
            async with (
                Proxy(load_text(str(text)), layers={"a:Judge": judge}) as proxy,
                H2Client(proxy.addresses["edge"]) as client,
            ):
                assert status_of(await unary(client, path="/limited")) == OK
                for path, expected in ENDS.items():
                    assert status_of(await unary(client, path=path)) == expected, path
                left = begin(client, path="/whole")
                left.cancel()
                await eventually(lambda: len(judge.told) == 5)
                counted = {
                    str(code): metric(proxy, "meshcore_route_grpc_total", status=str(code))
                    for code in range(17)
                }
            assert {code: n for code, n in counted.items() if n} == Counter([OK, *ENDS.values()])

    run(go())
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    logged = Counter(str(line["grpc_status"]) for line in lines if "grpc_status" in line)
    assert logged == Counter([OK, *ENDS.values()])
    for outcome, path in zip(
        judge.told, ["/whole", "/torn", "/replaced", "/refused"], strict=False
    ):
        assert str(outcome.grpc_status) == ENDS[path]
    assert judge.told[-1].grpc_status is None
