"""The access log tells of answers, refusals and clients that left."""

from __future__ import annotations

import json
from pathlib import Path
from textwrap import dedent

import pytest

from meshcore.config.load import load_text
from tests.wire.client import Client
from tests.wire.conftest import Run, Serve
from tests.wire.origin import Origin, Visit, response
from tests.wire.test_forward import mesh


def test_every_end_is_one_line(run: Run, serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    async def handler(visit: Visit) -> None:
        if b"/wait" in await visit.head():
            await visit.reader.read()
        await visit.send(response(b"ok"))

    async def go() -> None:
        async with Origin(handler) as origin:
            text = mesh(origin.port, route="match: {path: {prefix: /in}}").replace(
                "version: 1", "version: 1\n    access_log: json"
            )
            async with serve(text) as proxy:
                url = proxy.addresses["edge"]
                async with Client(url) as client:
                    await client.get("/in?a=1", "x-request-id: mine")
                async with Client(url) as client:
                    await client.get("/out")
                async with Client(url) as client:
                    origin.reached.clear()
                    await client.send(b"GET /in/wait HTTP/1.1\r\nhost: a\r\n\r\n")
                    await origin.reached.wait()

    run(go())
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    told = {x["target"]: (x["status"], x["reason"], x["route"], x["attempts"]) for x in lines}
    assert told == {
        "/in?a=1": (200, "", "all", 1),
        "/out": (404, "no_route", "", 0),
        "/in/wait": (0, "client_gone", "all", 1),
    }
    assert lines[0]["request_id"] == "mine"
    assert lines[0]["client"] == "127.0.0.1"


def test_lines_go_to_a_file_by_one_reload_and_to_another_by_the_next(
    run: Run, serve: Serve, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = tmp_path / "first.log", tmp_path / "second.log"

    async def handler(visit: Visit) -> None:
        await visit.head()
        await visit.send(response(b"ok"))

    async def go() -> None:
        async with Origin(handler) as origin:

            def text(log: str) -> str:
                return mesh(origin.port).replace("version: 1", f"version: 1\n    access_log: {log}")

            async with (
                serve(text(f"{{format: json, to: {first}}}")) as proxy,
                Client(proxy.addresses["edge"]) as client,
            ):
                await client.get("/one")
                await proxy.reload(load_text(dedent(text(f"{{to: {second}}}"))))
                await client.get("/two")
                await proxy.reload(load_text(dedent(text("text"))))
                await client.get("/three")

    run(go())
    assert [json.loads(line)["target"] for line in first.read_text().splitlines()] == ["/one"]
    (line,) = second.read_text().splitlines()
    assert "/two HTTP/1.1" in line
    (line,) = capsys.readouterr().out.splitlines()
    assert "/three HTTP/1.1" in line
