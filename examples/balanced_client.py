"""A client of one's own over three replicas, of which one fails: route, balance, retry, eject.

Run it: ``python examples/balanced_client.py``. It starts the replicas itself, on loopback.
"""

import asyncio
from collections import Counter

import meshcore


async def replica(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readline()
    writer.write(b"done\n")
    writer.close()


async def broken(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def ask(address: str) -> str:
    host, port = address.rsplit(":", 1)
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(b"work\n")
        if not (answer := await reader.readline()):
            raise ConnectionError("closed")
        return answer.decode().strip()
    finally:
        writer.close()


async def main() -> None:
    servers = [await asyncio.start_server(s, "127.0.0.1", 0) for s in (replica, replica, broken)]
    addresses = ["{}:{}".format(*s.sockets[0].getsockname()) for s in servers]
    routes: meshcore.RouteMap[meshcore.Balancer] = meshcore.RouteMap()
    routes.insert("work", meshcore.Balancer(addresses, failures=3), prefix="/work", methods=["PUT"])
    seen: Counter[str] = Counter()

    async def request(method: str, target: str) -> str:
        found = routes.lookup("localhost", target, method)
        if found is None:
            return "no route"
        tried: list[meshcore.Attempt] = []
        for _ in range(2):
            tried.append(found.value.pick(tried))
            with tried[-1] as attempt:
                try:
                    return await ask(attempt.address)
                except ConnectionError:
                    seen["failed"] += 1
                    attempt.failure()
        return "failed twice"

    answers = Counter([await request("PUT", f"/work/{i}") for i in range(300)])
    print("answers:", dict(answers), "failed attempts:", seen["failed"])
    print("GET:", await request("GET", "/work/1"))
    found = routes.lookup("localhost", "/work/1", "PUT")
    assert found is not None
    print(
        "ejected:", [each.address == addresses[2] for each in found.value.status() if each.ejected]
    )
    for server in servers:
        server.close()


asyncio.run(main())
