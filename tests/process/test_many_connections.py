"""Ten thousand clients at once, in a process of its own; when they leave nothing is held."""

from __future__ import annotations

import asyncio
import re
import resource
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.wire.origin import Origin, Visit, response

CLIENTS = 10_000
AT_ONCE = 500
MESH = """
version: 1
drain: 1s
admin: {{bind: "127.0.0.1:0"}}
listeners:
  edge: {{bind: "127.0.0.1:0", limits: {{connections: {clients}}}}}
routes: [{{name: all, upstream: one}}]
upstreams:
  one:
    endpoints: ["127.0.0.1:{port}"]
    limits: {{connections: 64, pending: {clients}, requests: {clients}}}
"""
HELD = re.compile(
    r"^(meshcore_(?:listener_connections|upstream_requests|endpoint_requests)\{.*) ([1-9]\d*)$",
    re.MULTILINE,
)


@asynccontextmanager
async def running(path: Path) -> AsyncIterator[dict[str, int]]:
    """`meshcore run`; the port of each listener by name."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "meshcore", "run", str(path), stderr=asyncio.subprocess.PIPE
    )
    assert process.stderr is not None
    ports: dict[str, int] = {}
    while len(ports) < 2:
        line = (await process.stderr.readline()).decode()
        found = re.search(r"listening http://127\.0\.0\.1:(\d+) \((\w+)\)", line)
        assert found, line
        ports[found[2]] = int(found[1])
    try:
        yield ports
        process.send_signal(signal.SIGTERM)
        _, said = await asyncio.wait_for(process.communicate(), 20)
        assert process.returncode == 0
        assert b"Traceback" not in said
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def held(port: int) -> dict[str, int]:
    """Gauges that are not 0."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /metrics HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
    text = (await reader.read()).decode()
    writer.close()
    assert "meshcore_config_version" in text
    return {name: int(value) for name, value in HELD.findall(text)}


@pytest.fixture(autouse=True)
def descriptors() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < CLIENTS + 1000:
        pytest.fail(f"missing: {CLIENTS + 1000} open files (ulimit -Hn is {hard})")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@pytest.mark.alone
async def test_ten_thousand_clients(tmp_path: Path) -> None:
    hold = asyncio.Event()

    async def answer(visit: Visit) -> None:
        while True:
            if b"/hold" in await visit.head():
                await hold.wait()
            await visit.send(response(b"hi"))

    async with Origin(answer) as origin:
        path = tmp_path / "mesh.yaml"
        path.write_text(MESH.format(clients=CLIENTS, port=origin.port))
        async with running(path) as ports:
            room = asyncio.Semaphore(AT_ONCE)

            async def connect() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
                async with room:
                    reader, writer = await asyncio.open_connection("127.0.0.1", ports["edge"])
                    writer.write(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
                    head = await reader.readuntil(b"\r\n\r\n")
                    assert head.startswith(b"HTTP/1.1 200 ")
                    assert await reader.readexactly(2) == b"hi"
                    return reader, writer

            clients = await asyncio.gather(*(connect() for _ in range(CLIENTS)))
            name = 'meshcore_listener_connections{listener="edge"}'
            assert (await held(ports["admin"]))[name] == CLIENTS
            for _, writer in clients[::2]:
                writer.write(b"GET /hold HTTP/1.1\r\nhost: a\r\n\r\n")
            while (await held(ports["admin"])).get(
                'meshcore_upstream_requests{upstream="one"}', 0
            ) < CLIENTS // 2:
                pass  # each look is a request: the proxy decides how fast this turns
            for _, writer in clients:
                writer.transport.abort()
            while await held(ports["admin"]):
                pass
            hold.set()
