"""Revocation lists are read beside the loop once they are in force, by a proxy and by control."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from meshcore import Proxy
from meshcore._core import tls_listing
from meshcore.config.compile import compile
from meshcore.config.load import load_text
from meshcore.process.operations import Operations
from tests.wire.conftest import Certificates, Run, eventually
from tests.wire.identities import Signer
from tests.wire.test_identity import mesh
from tests.wire.test_revocation import DAY

ENDS = "meshcore_crl_next_update_seconds"


@pytest.fixture
def readers(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The threads that have read lists."""
    readers: list[int] = []

    def noted(*given: bytes) -> Any:
        readers.append(threading.get_ident())
        return tls_listing(*given)

    monkeypatch.setattr("meshcore.process.unlisted.tls_listing", noted)
    return readers


@pytest.fixture
def signer(tmp_path: Path, certificates: Certificates) -> Signer:
    return Signer(tmp_path, "one", certificates)


def test_a_list_that_has_run_out_is_logged_once_and_read_beside_the_loop(
    run: Run,
    certificates: Certificates,
    signer: Signer,
    readers: list[int],
    caplog: pytest.LogCaptureFixture,
    passed_s: list[float],
) -> None:

    config = load_text(str(mesh(certificates, {"ca": signer.ca, "crl": signer.revoke()}, 1)))

    async def go() -> None:
        async with Proxy(config) as proxy:
            await eventually(lambda: bool(readers))
            proxy.metrics()
            await asyncio.sleep(0.1)  # time for several looks
            assert caplog.messages == []
            passed_s[0] = DAY.total_seconds() + 60
            await eventually(lambda: bool(caplog.messages))
            await asyncio.sleep(0.1)
            (line,) = caplog.messages
            told = "listener edge: the revocation list of CN=one expired at "
            assert line.startswith(told)
            assert line.endswith(": nobody whom it is about comes in")
            assert len(readers) == 1
            assert threading.get_ident() not in readers

    run(go())


def test_after_a_reload_lists_are_told_of_at_once(
    run: Run, certificates: Certificates, signer: Signer, readers: list[int]
) -> None:
    """And not when it is next looked for what has run out, a minute later."""
    auth = {"ca": signer.ca}
    plain, listed = (
        load_text(str(mesh(certificates, x, 1))) for x in (auth, auth | {"crl": signer.revoke()})
    )

    async def go() -> None:
        async with Proxy(plain) as proxy:
            await proxy.reload(listed)
            await eventually(lambda: ENDS.encode() in proxy.metrics()[0])
            assert threading.get_ident() not in readers

    run(go())
    assert len(readers) == 1


class Controlled:
    """What `Operations` asks control for, of which no workers are there."""

    def __init__(self, *snapshots: Any) -> None:
        self.next = iter(snapshots)
        self.snapshot = next(self.next)
        self.refusal = None
        self.last_reload_s, self.reloads = 0.0, {True: 0, False: 0}
        self.fleet = SimpleNamespace(living=list, restarts=0, handed_over=False)
        self.workers = SimpleNamespace(layer_counts={})
        segment = SimpleNamespace(reserved_bytes=0, retired_bytes=0, oldest_version=1)
        engine = SimpleNamespace(metrics=lambda _, families: (str(families).encode(), "text"))
        self.registry = SimpleNamespace(engine=engine, segment=segment)
        self.source = SimpleNamespace(overview=dict)
        self.groups = SimpleNamespace(addresses=dict)
        self.history = SimpleNamespace(revisions=())

    def look_at_source(self) -> bool:
        return True

    async def reload(self) -> Any:
        self.snapshot = next(self.next)
        return self.snapshot


def test_control_reads_none_in_its_loop(
    run: Run,
    certificates: Certificates,
    signer: Signer,
    readers: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Neither for its metrics, nor for a status, which waits for them."""
    monkeypatch.setattr("meshcore.process.breakers.overview", lambda *_: {})
    auth = {"ca": signer.ca, "crl": signer.revoke()}
    first, second, third = (compile(load_text(str(mesh(certificates, auth, 1)))) for _ in "123")
    control: Any = Controlled(first, second, third)

    async def go() -> None:
        operations = Operations(control, None, None)  # type: ignore[arg-type]  # not called here

        def tells() -> bool:
            return ENDS.encode() in operations.metrics()[0]

        assert not tells()
        (told,) = (await operations.status())["revocation_lists"]
        assert told["issuer"] == "CN=one"
        assert tells()
        assert len(readers) == 1
        await operations.reload()
        await eventually(tells)
        await operations.reload()
        (told,) = (await operations.status())["revocation_lists"]
        await eventually(tells)
        operations.expiry.end()

    run(go())
    assert len(readers) >= 3  # some by two who asked
    assert threading.get_ident() not in readers


def test_a_change_while_lists_are_read_is_looked_at_behind_that(
    run: Run,
    certificates: Certificates,
    signer: Signer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    auth = {"ca": signer.ca, "crl": signer.revoke()}
    first, second = (compile(load_text(str(mesh(certificates, auth, 1)))) for _ in "12")
    control: Any = Controlled(first, second)
    may_go_on, began = threading.Event(), threading.Event()

    def slow(*given: bytes) -> Any:
        began.set()
        may_go_on.wait(30)
        return tls_listing(*given)

    monkeypatch.setattr("meshcore.process.unlisted.tls_listing", slow)

    async def go() -> None:
        operations = Operations(control, None, None)  # type: ignore[arg-type]  # not called here
        operations.expiry.look()
        await asyncio.to_thread(began.wait, 30)
        await operations.reload()
        may_go_on.set()
        await eventually(lambda: ENDS.encode() in operations.metrics()[0])

    run(go())
