"""Token buckets: one, or one for each client."""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING, Any, Self

from meshcore._core import BucketCore, ClientsCore
from meshcore.config.units import parse_rate
from meshcore.errors import RateLimited
from meshcore.library import part

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshcore._core import Words

# More than a bucket can ever hold is asked for: waiting would not end.
NEVER_NS = (1 << 64) - 1


def full_burst(tokens: int, period_ns: int, burst: int | None) -> int:
    """What one second of the rate brings, at least 1, unless told."""
    return burst if burst is not None else max(tokens * 1_000_000_000 // period_ns, 1)


def _refusal(wait_ns: int) -> RateLimited:
    if wait_ns == NEVER_NS:
        return RateLimited("more tokens than the bucket holds")
    return RateLimited("", wait_ns)


class TokenBucket(BucketCore):
    """A bucket that fills at a rate and holds a burst (GCRA, ITU-T I.371; one word, lock-free).

    ``rate`` is text such as ``100/s`` or ``5/10s``; ``burst`` is how many tokens a full bucket
    holds, by default what one second brings. ``clock`` gives nanoseconds, for tests. Raises
    `ValueError` for a rate that is none, or out of range.
    """

    def __new__(
        cls,
        rate: str,
        burst: int | None = None,
        *,
        clock: Callable[[], int] | None = None,
        words: Words | None = None,
    ) -> Self:
        """A full bucket; in ``words`` of a `SharedState`, that state's bucket."""
        tokens, period_ns = parse_rate(rate)
        filled = full_burst(tokens, period_ns, burst)
        return super().__new__(cls, tokens, period_ns, filled, clock, words)

    def acquire(self, n: int = 1) -> None:
        """Take ``n`` tokens, or raise `RateLimited`, which says when to come back. O(1)."""
        wait_ns = self.take(n)
        if wait_ns:
            raise _refusal(wait_ns)

    def __reduce__(self) -> tuple[Any, ...]:
        """As a part of its `SharedState`; `TypeError` for one of this process alone."""
        return part.reduced(self)

    async def wait(self, n: int = 1) -> None:
        """Take ``n`` tokens as soon as they are there. Waiters are not served in order.

        Raises `RateLimited` when the bucket can never hold so many.
        """
        while wait_ns := self.take(n):
            if wait_ns == NEVER_NS:
                raise _refusal(wait_ns)
            await asyncio.sleep(wait_ns / 1e9)


class ClientLimiter(ClientsCore):
    """A bucket for each client, in a table of fixed size whose busy entries are never evicted.

    A client is a text: an address counts as the proxy would count it (IPv6 by /64, mapped
    addresses as IPv4), anything else as it is. When ``clients`` buckets are busy, further clients
    share. Raises as `TokenBucket`.
    """

    def __new__(
        cls,
        rate: str,
        burst: int | None = None,
        *,
        clients: int = 65_536,
        clock: Callable[[], int] | None = None,
        words: Words | None = None,
    ) -> Self:
        """A table of full buckets; in ``words`` of a `SharedState`, that state's table."""
        tokens, period_ns = parse_rate(rate)
        quota = tokens, period_ns, full_burst(tokens, period_ns, burst)
        return super().__new__(cls, quota, clients, secrets.randbits(128), clock, words)

    def __reduce__(self) -> tuple[Any, ...]:
        """As a part of its `SharedState`; `TypeError` for one of this process alone."""
        return part.reduced(self)

    def acquire(self, client: str, n: int = 1) -> None:
        """Take ``n`` tokens of a client's, or raise `RateLimited`. O(1)."""
        wait_ns = self.take(client, n)
        if wait_ns:
            raise _refusal(wait_ns)
