"""`python -m tests.conformance.echo`: a WebSocket server that sends back what it gets.

It needs the package `websockets`, which is installed for this suite alone: hence by name.
"""

from __future__ import annotations

import asyncio
import importlib
from typing import Any


async def echo(socket: Any) -> None:
    """One connection, until it is closed."""
    async for message in socket:
        await socket.send(message)


async def serve() -> None:
    """Serve on a free port, and say which."""
    server = importlib.import_module("websockets.asyncio.server")
    # The largest message of Autobahn has 16 MiB.
    async with server.serve(echo, "127.0.0.1", 0, max_size=None) as listening:
        print(f"listening 127.0.0.1:{listening.sockets[0].getsockname()[1]}", flush=True)
        await listening.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve())
