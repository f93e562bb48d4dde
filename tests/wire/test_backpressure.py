"""A client that takes nothing costs a bounded amount of memory, whatever it asks for."""

from __future__ import annotations

import asyncio

from tests.wire.client import Client
from tests.wire.conftest import Run, Serve
from tests.wire.origin import Origin, Visit, response
from tests.wire.test_forward import mesh

# One read of the proxy's: each response is whole before its client could hold it up.
BODY = b"x" * 200_000
ASKED = 200


def test_pipelined_responses_are_not_collected_for_a_client_that_does_not_read(
    run: Run, serve: Serve
) -> None:
    sent = 0

    async def flood(visit: Visit) -> None:
        nonlocal sent
        while True:
            await visit.head()
            await visit.send(response(BODY))
            sent += len(BODY)

    async def settled() -> int:
        """What the origin could send once it can send no more."""
        before = -1
        while before != sent:
            before = sent
            await asyncio.sleep(0.2)
        return sent

    async def go() -> None:
        async with (
            Origin(flood) as origin,
            serve(mesh(origin.port)) as proxy,
            Client(proxy.addresses["edge"]) as client,
        ):
            await client.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n" * ASKED)
            # The sockets' buffers hold some megabytes; all of them would be 40.
            assert await settled() < 20_000_000
            for _ in range(ASKED):
                assert len((await client.reply()).body) == len(BODY)

    run(go())


def test_answers_of_the_proxy_itself_are_not_collected_either(run: Run, serve: Serve) -> None:
    asked = 200_000

    async def go() -> None:
        async with (
            Origin(b"") as origin,
            serve(mesh(origin.port, route="match: {path: {exact: /none}}")) as proxy,
            Client(proxy.addresses["edge"]) as client,
        ):
            one = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"
            writing = asyncio.create_task(client.send(one * asked))
            done, before = 0, -1
            while done != before:
                await asyncio.sleep(0.2)
                line = next(
                    x
                    for x in proxy.metrics()[0].decode().splitlines()
                    if x.startswith("meshcore_listener_requests_total")
                )
                before, done = done, int(line.rpartition(" ")[2])
            assert 0 < done < asked
            for _ in range(asked):
                assert (await client.reply()).status == 404
            await writing

    run(go())
