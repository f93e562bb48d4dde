"""What a limiter tells of itself, and how it stands before blocks and functions."""

from __future__ import annotations

import functools
import inspect
import ipaddress
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from meshcore.config.units import SECOND
from meshcore.errors import Refused
from meshcore.library.awaiting import at_once
from meshcore.library.decorating import decorated

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from meshcore._core import BucketCore, ClientsCore
    from meshcore.library.decorating import F

    Before = Callable[[tuple[Any, ...], dict[str, Any]], None]
    BeforeAsync = Callable[[tuple[Any, ...], dict[str, Any]], Awaitable[None]]

MAKE_IT_ASYNC: Final = "the function returns something to await: make it async"


class LimitState(NamedTuple):
    """What a bucket holds at one moment."""

    limit: int
    """Tokens of a full bucket."""
    remaining: int
    """Tokens that are there."""
    reset_after_ns: int
    """Nanoseconds until the bucket is full."""
    window_ns: int
    """Nanoseconds in which an empty bucket fills."""

    @property
    def reset_after(self) -> float:
        """Seconds until the bucket is full."""
        return self.reset_after_ns / 1e9

    def fields(self, name: str = "default") -> dict[str, str]:
        """Header fields that tell a client, with whole seconds.

        ``RateLimit-Policy`` and ``RateLimit`` of draft-ietf-httpapi-ratelimit-headers-10, whose
        policy has this ``name`` (printable ASCII, else `ValueError`), and the three of its
        versions up to 06, which the proxy sends too.
        """
        if not (name.isascii() and name.isprintable()):
            raise ValueError(f"the name of a policy is printable ASCII, not {name!r}")
        policy = '"{}"'.format(name.replace("\\", r"\\").replace('"', r"\""))
        reset = -(-self.reset_after_ns // SECOND)
        window = max(-(-self.window_ns // SECOND), 1)
        return {
            "RateLimit-Policy": f"{policy};q={self.limit};w={window}",
            "RateLimit": f"{policy};r={self.remaining};t={reset}",
            "RateLimit-Limit": str(self.limit),
            "RateLimit-Remaining": str(self.remaining),
            "RateLimit-Reset": str(reset),
        }


class BucketSnapshot(NamedTuple):
    """How a `TokenBucket` stands, and what became of its calls."""

    name: str | None
    rate: str
    burst: int
    """Tokens of a full bucket."""
    remaining: int
    """Tokens that are there."""
    reset_after: float
    """Seconds until the bucket is full."""
    total_admitted: int
    """Calls since it was made, of a shared one those of all processes."""
    total_refused: int


class ClientLimiterSnapshot(NamedTuple):
    """How a `ClientLimiter` stands, and what became of all clients' calls."""

    name: str | None
    rate: str
    burst: int
    """Tokens of a client's full bucket."""
    clients: int
    """For how many there are buckets: what was asked for, rounded up."""
    busy_clients: int
    """Those whose bucket is not full now."""
    total_admitted: int
    """As of a `BucketSnapshot`."""
    total_refused: int


class Counting:
    """Counts a call that waits for tokens, once, by how it ends; not at all if it is broken off."""

    __slots__ = ("_limiter",)

    def __init__(self, limiter: BucketCore | ClientsCore) -> None:
        self._limiter = limiter

    def __enter__(self) -> None:
        """It begins."""

    def __exit__(self, error: type[BaseException] | None, *_error: object) -> None:
        """It is over."""
        if error is None or issubclass(error, Refused):
            self._limiter._count(error is None)


def no_client(given: object) -> TypeError:
    """What is said of what names no client, and what of it may be meant."""
    hint = ""
    if isinstance(given, ipaddress.IPv4Address | ipaddress.IPv6Address):
        hint = ": write str(…) of it"
    elif isinstance(given, tuple) and given and isinstance(given[0], str):
        hint = ": its address is the first of it"
    return TypeError(f"client: expected a text, such as an address, got {given!r}{hint}")


class Turn:
    """Waits for tokens before a block (``with``, ``async with``), or each call of a function.

    One object may stand before any number of blocks and functions at one time.
    """

    __slots__ = ("_block", "_wait")

    def __init__(self, block: Before, wait: BeforeAsync) -> None:
        self._block, self._wait = block, wait

    def __enter__(self) -> None:
        self._block((), {})

    def __exit__(self, *_error: object) -> None:
        """Nothing is given back: the block was begun."""

    async def __aenter__(self) -> None:
        await self._wait((), {})

    async def __aexit__(self, *_error: object) -> None:
        """As ``with``."""

    def __call__(self, function: F) -> F:
        """Decorate a function: an async one waits, any other blocks its thread.

        Raises `TypeError` for generators, as the limiters' decorators do; a plain function that
        returns something to await raises it when it is called.
        """
        block, wait = self._block, self._wait

        def before(call: Callable[..., Any]) -> Callable[..., Any]:
            @functools.wraps(call)
            def paced(*args: Any, **kwargs: Any) -> Any:
                block(args, kwargs)
                return at_once(call(*args, **kwargs), MAKE_IT_ASYNC)

            return paced

        def before_async(call: Callable[..., Any]) -> Callable[..., Any]:
            @functools.wraps(call)
            async def paced_async(*args: Any, **kwargs: Any) -> Any:
                await wait(args, kwargs)
                return await call(*args, **kwargs)

            return paced_async

        return preceded(function, before, before_async)


def preceded(
    function: F,
    before: Callable[[Callable[..., Any]], Callable[..., Any]],
    before_async: Callable[[Callable[..., Any]], Callable[..., Any]],
) -> F:
    """The function behind what comes first, such as its tokens. `TypeError` for a generator too."""

    def make(function: Callable[..., Any], called: Any) -> Callable[..., Any]:
        if inspect.isgeneratorfunction(called) or inspect.isasyncgenfunction(called):
            raise TypeError(
                f"{getattr(function, '__qualname__', function)} is a generator, and does nothing "
                "when it is called: guard what is done inside of it"
            )
        return before_async(function) if inspect.iscoroutinefunction(called) else before(function)

    return decorated(function, make)
