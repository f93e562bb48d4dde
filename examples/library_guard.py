"""Guard one's own calls: a budget for each client, and a breaker around what may fail.

Run it: ``python examples/library_guard.py``. Nothing is sent anywhere.
"""

import asyncio
from collections import Counter

import meshcore

limiter = meshcore.ClientLimiter("100/s", burst=5)
breaker = meshcore.CircuitBreaker(failures=3, open_for="50ms", successes=1)
database_is_up = False


@breaker
async def query() -> str:
    await asyncio.sleep(0)
    if not database_is_up:
        raise ConnectionError("no database")
    return "rows"


async def serve(client: str) -> str:
    try:
        limiter.acquire(client)
        return await query()
    except meshcore.RateLimited:
        return "429"
    except meshcore.BreakerOpen:
        return "503 at once"
    except ConnectionError:
        return "502 after trying"


async def main() -> None:
    global database_is_up
    print("down:", dict(Counter([await serve(f"10.0.0.{i}") for i in range(20)])))
    database_is_up = True
    await asyncio.sleep(0.06)
    print("up:  ", dict(Counter([await serve("10.0.1.1") for _ in range(20)])))


asyncio.run(main())
