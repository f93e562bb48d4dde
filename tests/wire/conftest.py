"""A proxy in the test's own loop, on both loops, that must hold nothing when a test ends."""

from __future__ import annotations

import asyncio
import socket
import ssl
import textwrap
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    asynccontextmanager,
    contextmanager,
    nullcontext,
)
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trustme
import uvloop

from meshcore.config.load import load_text
from meshcore.process.proxy import Proxy
from tests.stepped import by_the_loop

Run = Callable[[Coroutine[Any, Any, None]], None]
Serve = Callable[[str], AbstractAsyncContextManager[Proxy]]

LOOPS = {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}
# Less than the test's own limit, which tells less.
WITHIN_S = 150
LOOK_S = 0.005
# Every test of HTTP/2 runs with both engines; the reference needs no second loop.
PAIRS = [("uvloop", "native"), ("asyncio", "native"), ("uvloop", "python")]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Each test on each loop, and with each engine if it asks for one."""
    if "engine" in metafunc.fixturenames:
        metafunc.parametrize(("run", "engine"), PAIRS, indirect=True)
    elif "run" in metafunc.fixturenames:
        metafunc.parametrize("run", list(LOOPS), indirect=True)


@pytest.fixture(autouse=True)
def way(request: pytest.FixtureRequest) -> Iterator[None]:
    """Requests go in few calls, or with ``--stepped`` in steps."""
    with by_the_loop() if request.config.getoption("--stepped") else nullcontext():
        yield


@pytest.fixture
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a coroutine on one of the loops. It has its time: no signal ends uvloop's waiting."""

    async def bounded(work: Coroutine[Any, Any, None]) -> None:
        async with asyncio.timeout(WITHIN_S):
            await work

    def runner(work: Coroutine[Any, Any, None]) -> None:
        with asyncio.Runner(loop_factory=LOOPS[request.param]) as loop:
            loop.run(bounded(work))

    return runner


@pytest.fixture
def engine(request: pytest.FixtureRequest) -> str:
    """The name of an HTTP/2 engine, for listeners and upstreams."""
    return str(request.param)


def trusting(authority: trustme.CA, *alpn: str) -> ssl.SSLContext:
    """What a client believes and speaks that has no certificate."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


class Certificates:
    """One authority, and what it vouches for: `edge.test` and the endpoints of 127.0.0.1."""

    def __init__(self, folder: Path) -> None:
        self._authority = trustme.CA()
        self._pair = self._authority.issue_cert("edge.test", "127.0.0.1")
        self.ca, self.cert, self.key = (str(folder / f"{x}.pem") for x in ("ca", "cert", "key"))
        self._authority.cert_pem.write_to_path(self.ca)
        self._pair.cert_chain_pems[0].write_to_path(self.cert)
        self._pair.private_key_pem.write_to_path(self.key)

    @property
    def listener(self) -> dict[str, str]:
        """The `tls` of a listener."""
        return {"cert": self.cert, "key": self.key}

    def client(self, *alpn: str) -> ssl.SSLContext:
        """For a test's client."""
        return trusting(self._authority, *alpn)

    def origin(self, *alpn: str) -> ssl.SSLContext:
        """For a test's origin."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._pair.configure_cert(context)
        if alpn:
            context.set_alpn_protocols(list(alpn))
        return context


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    """Certificates in files and in contexts."""
    return Certificates(tmp_path)


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is stale is told from a reset by time: of that there is enough, however busy we are."""
    monkeypatch.setattr("meshcore.upstream.socket_state.STALE_NS", 10**10)


@contextmanager
def nobody() -> Iterator[int]:
    """A port at which nobody listens; held, so that it is not given to who asks for any."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


def metric(proxy: Proxy, name: str, **labels: str) -> int:
    """The value of a metric; 0 when it is not there. Of several that match the sum."""
    wanted = [f'{key}="{value}"' for key, value in labels.items()]
    total = 0
    for line in proxy.metrics()[0].decode().splitlines():
        series, _, value = line.rpartition(" ")
        if series.partition("{")[0] == name and all(x in series for x in wanted):
            total += int(value)
    return total


@pytest.fixture
def passed_s(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """One number: how many seconds have passed more, for what tells of ends of certificates."""
    passed = [0.0]
    monkeypatch.setattr("meshcore.process.certificates.CHECK_S", 0.01)
    now = SimpleNamespace(time=lambda: time.time() + passed[0])
    monkeypatch.setattr("meshcore.process.certificates.time", now)
    return passed


async def eventually(met: Callable[[], bool], within_s: float = 5.0) -> None:
    """Wait for what tells nobody that it happens: as long as that of a loop that has its turns,
    since what is waited for is done in the same."""
    for _ in range(round(within_s / LOOK_S)):
        if met():
            return
        await asyncio.sleep(LOOK_S)
    raise TimeoutError


def gauges(proxy: Proxy) -> dict[str, int]:
    """Gauges of what is held for requests, without those that are 0."""
    names = (
        "meshcore_upstream_requests",
        "meshcore_upstream_retries",
        "meshcore_endpoint_requests",
    )
    lines = proxy.metrics()[0].decode().splitlines()
    values = (line.rsplit(" ", 1) for line in lines if line.startswith(names))
    return {name: int(value) for name, value in values if value != "0"}


@pytest.fixture
def serve() -> Serve:
    """A proxy for a YAML text; on leaving, nothing may be in flight."""

    @asynccontextmanager
    async def serving(text: str) -> AsyncIterator[Proxy]:
        proxy = Proxy(load_text(textwrap.dedent(text)))
        await proxy.start()
        try:
            yield proxy
        finally:
            await proxy.stop()
        assert gauges(proxy) == {}
        assert proxy.connections == 0

    return serving
