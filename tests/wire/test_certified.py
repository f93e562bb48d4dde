"""Open connections end with what their client came in by: its certificate, and who is admitted."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from meshcore import Layer, Proxy, Request
from meshcore.config.load import load_text
from tests.wire.conftest import Certificates, Run, eventually
from tests.wire.either import request
from tests.wire.h2_mesh import Mesh
from tests.wire.identities import Holder, Signer
from tests.wire.test_identity import BOTH, from_

NINE_DAYS_S = 9 * 86_400


class Held(Layer):
    """Holds a request for `/held` until it may go on."""

    def __init__(self) -> None:
        self.came, self.goes = asyncio.Event(), asyncio.Event()

    async def on_request(self, request: Request) -> None:
        if request.path == "/held":
            self.came.set()
            await self.goes.wait()


@pytest.fixture
def signer(tmp_path: Path, certificates: Certificates) -> Signer:
    return Signer(tmp_path, "one", certificates)


def mesh(certificates: Certificates, auth: dict[str, Any]) -> str:
    tls: dict[str, Any] = {**certificates.listener, "client_auth": auth}
    made = Mesh("native", 1).listen(tls=tls, layers=[{"python": "test:Held"}])
    made.route.pop("upstream")
    made.route["respond"] = {"body": "hi"}
    return str(made)


@BOTH
def test_connections_of_an_expired_certificate_are_drained(
    run: Run,
    certificates: Certificates,
    signer: Signer,
    monkeypatch: pytest.MonkeyPatch,
    protocol: str,
) -> None:
    """What was asked for is answered."""
    monkeypatch.setattr("meshcore.downstream.certified._LOOK_NS", 0)
    passed_s = [0]
    now = SimpleNamespace(time=lambda: time.time() + passed_s[0])
    monkeypatch.setattr("meshcore.process.worker.time", now)

    async def go() -> None:
        held = Held()
        config = load_text(mesh(certificates, {"ca": signer.ca, "mode": "request"}))
        async with (
            Proxy(config, layers={"test:Held": held}) as proxy,
            from_(signer.issue("dns:a.example"), protocol, proxy) as busy,
            from_(signer.issue("dns:b.example"), protocol, proxy) as idle,
            from_(certificates, protocol, proxy) as nobody,
        ):
            for ask in (busy, idle, nobody):
                assert (await ask(request())).status == 200
            asked = asyncio.ensure_future(busy(request(path="/held")))
            await held.came.wait()
            passed_s[0] = NINE_DAYS_S - 3_600
            await asyncio.sleep(1.5)  # longer than until the next look
            assert proxy.connections == 3
            passed_s[0] = NINE_DAYS_S + 3_600
            await eventually(lambda: proxy.connections == 2)
            held.goes.set()
            answer = await asked
            assert answer.status == 200
            if protocol == "http1":
                assert answer.fields["connection"] == "close"
            await eventually(lambda: proxy.connections == 1)
            assert (await nobody(request())).status == 200  # who has none has none that ends

    run(go())


@BOTH
def test_connections_that_a_reload_admits_no_more_are_drained(
    run: Run, certificates: Certificates, signer: Signer, protocol: str
) -> None:
    async def go() -> None:
        one, other = signer.issue("dns:a.example"), signer.issue("dns:b.example")
        auth: dict[str, Any] = {"ca": signer.ca}
        layers = {"test:Held": Held()}
        async with (
            Proxy(load_text(mesh(certificates, auth)), layers=layers) as proxy,
            from_(one, protocol, proxy) as revoked,
            from_(other, protocol, proxy) as stays,
        ):
            for ask in (revoked, stays):
                assert (await ask(request())).status == 200
            auth["crl"] = signer.revoke(one)
            await proxy.reload(load_text(mesh(certificates, auth)))
            await eventually(lambda: proxy.connections == 1)
            assert (await stays(request())).status == 200
            auth["match"] = {"san": "dns:c.example"}
            await proxy.reload(load_text(mesh(certificates, auth)))
            await eventually(lambda: proxy.connections == 0)

    run(go())


def test_only_those_that_are_open_are_kept(
    run: Run, certificates: Certificates, signer: Signer
) -> None:
    async def once(proxy: Proxy, who: Holder) -> None:
        async with from_(who, "http1", proxy) as ask:
            assert (await ask(request())).status == 200

    async def go() -> None:
        config = load_text(mesh(certificates, {"ca": signer.ca}))
        async with Proxy(config, layers={"test:Held": Held()}) as proxy:
            assert proxy._worker is not None
            listener = proxy._worker.listeners["edge"]
            async with from_(signer.issue("dns:a.example"), "http1", proxy) as ask:
                assert (await ask(request())).status == 200
                assert len(listener.certified) == 1
            await once(proxy, signer.issue("dns:b.example"))
            await eventually(lambda: len(listener.certified) == 0)

    run(go())
