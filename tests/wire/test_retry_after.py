"""Who asks to be left alone is, in seconds and as a date."""

from __future__ import annotations

import asyncio

import pytest

from tests.wire.client import Client
from tests.wire.conftest import Run, Serve
from tests.wire.origin import Origin, Visit, response
from tests.wire.test_forward import mesh

NOW = "date: Sun, 06 Nov 1994 08:49:37 GMT"


@pytest.mark.parametrize(
    ("fields", "waits"),
    [
        (["retry-after: 1"], True),
        ([NOW, "retry-after: Sun, 06 Nov 1994 08:49:38 GMT"], True),
        ([NOW, "retry-after: Sunday, 06-Nov-94 08:49:38 GMT"], True),
        ([NOW, "retry-after: Sun Nov  6 08:49:38 1994"], True),
        ([NOW, "retry-after: Sun, 06 Nov 1994 08:49:30 GMT"], False),
        (["retry-after: Sun, 06 Nov 1994 08:49:38 GMT"], False),
    ],
)
def test_a_retry_waits_as_long(run: Run, serve: Serve, fields: list[str], waits: bool) -> None:
    asked: list[float] = []

    async def busy_once(visit: Visit) -> None:
        await visit.head()
        asked.append(asyncio.get_running_loop().time())
        await visit.send(
            response(b"busy", "503 Busy", *fields) if len(asked) == 1 else response(b"ok")
        )

    async def go() -> None:
        async with (
            Origin(busy_once) as origin,
            serve(mesh(origin.port, route="retry: {when: [503]}")) as proxy,
            Client(proxy.addresses["edge"]) as client,
        ):
            assert (await client.get()).body == b"ok"

    run(go())
    assert (asked[1] - asked[0] >= 0.9) is waits


def test_a_date_that_lies_too_far_ahead_leaves_the_response_to_the_client(
    run: Run, serve: Serve
) -> None:
    asked: list[bytes] = []

    async def busy(visit: Visit) -> None:
        asked.append(await visit.head())
        far = "retry-after: Sun, 06 Nov 1994 08:50:37 GMT"
        await visit.send(response(b"busy", "503 Busy", NOW, far))

    async def go() -> None:
        async with (
            Origin(busy) as origin,
            serve(mesh(origin.port, route="retry: {when: [503]}")) as proxy,
            Client(proxy.addresses["edge"]) as client,
        ):
            assert (await client.get()).status == 503

    run(go())
    assert len(asked) == 1
