"""The loop is never blocked by a call that waits: blockbuster raises where one does."""

from __future__ import annotations

import asyncio
import time

import pytest
from blockbuster import BlockingError, blockbuster_ctx

from meshcore import Proxy, load_text
from tests.wire.client import Client
from tests.wire.conftest import Certificates, Run, Serve
from tests.wire.origin import Origin, response
from tests.wire.test_forward import mesh


def test_no_request_waits_for_a_blocking_call(run: Run, serve: Serve) -> None:
    async def go() -> None:
        with blockbuster_ctx():
            with pytest.raises(BlockingError):
                time.sleep(0.001)  # noqa: ASYNC251 - to be caught
            async with Origin(response(b"hi")) as origin:
                text = mesh(origin.port, 1, upstream="circuit_breaker: off")
                async with serve(text + "    access_log: text\n") as proxy:
                    for _ in range(5):
                        async with Client(proxy.addresses["edge"]) as client:
                            for _ in range(3):
                                assert (await client.get()).status == 200
                    proxy.metrics()

    run(go())


def test_no_request_waits_for_a_reload(run: Run, certificates: Certificates) -> None:
    """It reads certificates, and compiles what may be a large file: both beside the loop."""
    plain = mesh(1)
    secure = plain.replace("{bind:", f"{{tls: {certificates.listener}, bind:")
    before, after = load_text(plain), load_text(secure)

    async def go() -> None:
        with blockbuster_ctx():
            async with Proxy(before) as proxy:
                await asyncio.gather(proxy.reload(after), proxy.reload(after))
                assert proxy.config_version == 3
                assert proxy.addresses["edge"].startswith("https:")

    run(go())
