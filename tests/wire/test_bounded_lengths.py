"""What a client writes is not forwarded and logged at any length."""

from __future__ import annotations

import json
import re

import pytest

from tests.wire.blame import PROTOCOLS, every_way
from tests.wire.conftest import Run
from tests.wire.either import request
from tests.wire.h2_mesh import Mesh
from tests.wire.test_fields import Labels, through

MOST = "x" * 128
A_NEW_ONE = re.compile(r"[0-9a-f]{32}")


@every_way
def test_a_request_id_is_bounded(run: Run, engine: str, client: str, endpoint: str) -> None:
    async def go() -> None:
        layer = Labels()
        async with through(client, endpoint, engine, layer=layer) as (ask, origin):
            for kept in ("mine", MOST, "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"):
                await ask(request("GET", "/", ("x-request-id", kept)))
                assert origin.asked[-1].fields["x-request-id"] == kept
            for refused in (MOST + "x", "x" * 60_000, "a b", "a\tb", "\u00e9"):
                await ask(request("GET", "/", ("x-request-id", refused)))
                assert A_NEW_ONE.fullmatch(origin.asked[-1].fields["x-request-id"])
                assert "x-request-id" not in layer.shown

    run(go())


@pytest.mark.parametrize("client", PROTOCOLS)
@pytest.mark.parametrize("form", ["json", "text"])
def test_a_line_of_the_log_is_bounded_and_says_what_was_cut(
    run: Run, engine: str, client: str, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def logging(mesh: Mesh) -> Mesh:
        mesh.top["access_log"] = form
        return mesh.listen(limits={"target_bytes": "60KiB"})

    host, path = "h" * 5_000, "/" + "p" * 9_000
    fields = {":authority": host, "x-request-id": MOST}

    async def go() -> None:
        async with through(client, client, engine, mesh=logging) as (ask, _):
            message = request("M" * 5_000, f"{path}?{'q' * 9_000}", *fields.items())
            await ask(message)
            await ask(request("GET", "/plain?q"))

    run(go())
    long, plain = capsys.readouterr().out.splitlines()
    assert len(long.encode()) < 4096
    if form == "json":
        told = json.loads(long)
        assert told["cut"] == ["method", "host", "target"]
        assert told["target"] == f"{path[:933]}…?{'q' * 933}…"
        assert told["host"] == host[:252] + "…"
        assert told["request_id"] == MOST
        assert "cut" not in json.loads(plain)
    else:
        assert long.endswith(' "" cut=method,host,target')
        assert f" {host[:252]}…{path[:933]}…?{'q' * 933}… HTTP/" in long
        assert plain.endswith('" ""')
