"""Every way in which a request can end: what the client gets, what is counted, what is logged."""

from __future__ import annotations

import json

import pytest

from meshcore._core import Reason
from tests.wire.conftest import Run, Serve
from tests.wire.h2_mesh import Mesh
from tests.wire.origin import Origin, response
from tests.wire.outcomes import Row, check, each
from tests.wire.outcomes_client import asking
from tests.wire.outcomes_local import LOCAL
from tests.wire.outcomes_upstream import UPSTREAM

# No request of a test ends so.
NEVER = {
    "no_healthy_endpoint": "an upstream has endpoints, and when all are ejected all are used",
    "internal_error": "a fault of ours that we know of would be mended",
    "upstream_status": "of an attempt: another follows, or its response is passed on",
    "answered": "told as no reason",
    "misdirected": "over TLS alone: tests/wire/test_misdirected.py",
}


def test_every_reason_has_its_row_or_none_for_a_reason() -> None:
    rows = {row.reason for row in LOCAL + UPSTREAM if row.reason}
    assert rows.isdisjoint(NEVER)
    assert rows | set(NEVER) == {reason.name.lower() for reason in Reason}


@pytest.mark.parametrize(("row", "speaks"), each(LOCAL + UPSTREAM))
def test_an_end_is_told_to_the_client_the_metrics_and_the_log(
    run: Run,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    row: Row,
    speaks: str,
) -> None:
    check(run, capsys, monkeypatch, row, speaks)


@pytest.mark.parametrize("speaks", ["h1", "h2", "grpc"])
def test_one_client_address_for_the_log_and_the_limiter(
    run: Run, serve: Serve, capsys: pytest.CaptureFixture[str], speaks: str
) -> None:
    """Of a proxy in front of us that is trusted; else the socket's, whatever a client writes."""
    sent = [("1.1.1.1, 9.9.9.9", 200), ("2.2.2.2, 9.9.9.9", 429), ("8.8.8.8", 200)]
    for hops, expected in ((1, sent), (0, [(field, 429) for field, _ in sent])):

        async def go(hops: int = hops, expected: list[tuple[str, int]] = expected) -> None:
            async with Origin(response(b"hi")) as origin:
                mesh = Mesh("native", origin.port)
                mesh.listen(client_address={"trusted_hops": hops})
                mesh.listen(layers=[{"client_limit": {"rate": "1/h", "burst": 1}}])
                mesh.top["access_log"] = "json"
                async with serve(str(mesh)) as proxy, asking(speaks, proxy) as client:
                    if not hops:
                        await client.ask("/")
                        await client.got()
                    for forwarded, status in expected:
                        await client.ask("/it", ("x-forwarded-for", forwarded))
                        got = await client.got()
                        if speaks == "grpc" and status == 429:
                            assert got.grpc == "8"
                        else:
                            assert got.status == status

        run(go())
        lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        told = [line["client"] for line in lines if line["target"] == "/it"]
        behind = ["9.9.9.9", "9.9.9.9", "8.8.8.8"]
        assert told == (behind if hops else ["127.0.0.1"] * 3)
