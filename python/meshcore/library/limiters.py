"""Token buckets: one, or one for each client."""

from __future__ import annotations

import secrets
from functools import partial
from typing import TYPE_CHECKING, Any, Never, NoReturn, Self

from meshcore._core import BucketCore, ClientsCore, Finally, SharedWords, now_ns, surely
from meshcore.config.hints import shown
from meshcore.config.units import SECOND, given_ns, parse_rate
from meshcore.config.whole import check_whole
from meshcore.errors import RateLimited
from meshcore.library import part
from meshcore.library.deadline import within
from meshcore.library.keywords import hinting
from meshcore.library.limited import (
    BucketSnapshot,
    ClientLimiterSnapshot,
    Counting,
    LimitState,
    Turn,
)
from meshcore.library.limiting import check_client, client_of, limiting, limiting_by
from meshcore.library.times import check_clock, check_name
from meshcore.library.waiting import NEVER_NS, Line, Lines, Source, patience_ns

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshcore._core import Charge, Words
    from meshcore.library.decorating import F
    from meshcore.library.limiting import Client
    from meshcore.library.times import Time
    from meshcore.library.waiting import GiveBack, Take

    Timeout = Time | None


def _window_ns(quota: tuple[int, int, int]) -> int:
    """In which an empty bucket fills."""
    tokens, period_ns, burst = quota
    return burst * period_ns // tokens


# What the core, and what comes before it, say of rules that are none.
_WRONG = (OverflowError, TypeError, ValueError)


def _check_whole(number: object) -> None:
    if isinstance(number, bool):
        raise TypeError(f"expected a number, got {number}")


def full_burst(tokens: int, period_ns: int, burst: int | None) -> int:
    """What one second of the rate brings, at least 1, unless told."""
    return burst if burst is not None else max(tokens * SECOND // period_ns, 1)


def _quota(rate: str, burst: int | None) -> tuple[int, int, int]:
    """Tokens, period and burst."""
    tokens, period_ns = parse_rate(rate)
    _check_whole(burst)
    return tokens, period_ns, full_burst(tokens, period_ns, burst)


def check_rules(rate: str, burst: int | None, clients: int = 1) -> None:
    """Raise `ValueError` for what is no rule, before anything is made by it."""
    try:
        BucketCore(*_quota(rate, burst))
        _check_whole(clients)
        ClientsCore._check_clients(clients)
    except _WRONG as error:
        raise _explained(error, rate=rate, burst=burst, clients=clients) from None


def _explained(error: Exception, **rules: object) -> Exception:
    """The error in the words of `meshcore check`, if the rules are what is wrong."""
    # Only for those who made a mistake: the models are a third of a worker's memory.
    from pydantic import ValidationError

    from meshcore.config.explain import as_value_error
    from meshcore.config.layers import ClientLimit

    try:
        ClientLimit.model_validate(rules)
    except ValidationError as problems:
        return as_value_error(problems, ClientLimit)
    return error


def _refusal(wait_ns: int, n: int, limiter: TokenBucket | ClientLimiter) -> Exception:
    """Why tokens cannot be had: not now, or never."""
    if wait_ns == NEVER_NS:
        return _too_many(n, limiter.limit)
    name = limiter.name
    return RateLimited(f"rate limited by {name}" if name else "", wait_ns, name)


def _too_many(n: int, limit: int) -> ValueError:
    return ValueError(f"{shown(n)} tokens are more than the bucket holds: its burst is {limit}")


def _check_count(n: int, limit: int) -> None:
    # The first in a line must be able to be served.
    if isinstance(n, int) and n > limit and not isinstance(n, bool):
        raise _too_many(n, limit)
    check_whole("n", n, 0, limit)


class TokenBucket(BucketCore):
    """A bucket that fills at a rate and holds a burst (GCRA, ITU-T I.371; one word, lock-free).

    ``rate`` is text such as ``100/s`` or ``5/10s``; ``burst`` is how many tokens a full bucket
    holds, by default what one second brings. ``name`` is for messages and `RateLimited`; ``clock``
    gives nanoseconds, for tests. Raises `ValueError` for a rate that is none, or out of range.
    """

    name: str | None
    """For messages; of a shared bucket its own."""
    _line: Line | None = None
    _now: Callable[[], int]
    _rate: str
    _patience_ns: int
    _window_ns: int

    @hinting
    def __new__(
        cls,
        rate: str,
        burst: int | None = None,
        *,
        name: str | None = None,
        clock: Callable[[], int] | None = None,
        words: Words | None = None,
    ) -> Self:
        """A full bucket; in ``words`` of a `SharedState`, that state's bucket."""
        check_clock(clock)
        check_name(name)
        try:
            quota = _quota(rate, burst)
            new = super().__new__(cls, *quota, clock, words)
        except _WRONG as error:
            raise _explained(error, rate=rate, burst=burst) from None
        new._window_ns = _window_ns(quota)
        new._patience_ns = patience_ns(words, clock)
        new.name = name
        new._now = clock or now_ns
        new._rate = rate
        return new

    def give_back(self, n: int = 1) -> None:
        """Return tokens that were taken and not used."""
        super().give_back(n)
        self._recheck()

    def reset(self) -> None:
        """Fill the bucket."""
        self._refill()
        self._recheck()

    def peek(self) -> LimitState:
        """Limit, what remains of it and when it is whole again; takes nothing."""
        return LimitState(self.limit, *self._look(), self._window_ns)

    def snapshot(self) -> BucketSnapshot:
        """How it stands now, and what became of its calls; takes nothing. O(1)."""
        remaining, reset_after_ns = self._look()
        rules = self._rate, self.limit
        return BucketSnapshot(self.name, *rules, remaining, reset_after_ns / 1e9, *self._totals())

    def __reduce__(self) -> tuple[Any, ...]:
        """As a part of its `SharedState`; `TypeError` for one of this process alone."""
        return part.reduced(self)

    def __init_subclass__(cls) -> None:
        part.check_subclass(cls)

    def __repr__(self) -> str:
        return part.shown(self, f"{self._rate}, burst {self.limit}", self.name)

    async def wait(self, n: int = 1, *, timeout: Timeout = None) -> None:  # noqa: ASYNC109
        """Take ``n`` tokens as soon as they are there: first come, first served.

        Raises `RateLimited` when ``timeout`` has passed, `DeadlineExceeded` when the `Deadline`
        around it has, and `ValueError` for more than the bucket ever holds. Cancelled, it has taken
        none. Those of one process are served in order, whatever loops and threads they are in;
        waiters of other processes are not known here.
        """
        _check_count(n, self.limit)
        with Counting(self), within(timeout, self._now, self.name) as limit:
            await self._own_line().wait(n, limit)

    def wait_blocking(self, n: int = 1, *, timeout: Timeout = None) -> None:
        """As `wait`, in the same line, for a thread that may sleep."""
        _check_count(n, self.limit)
        with Counting(self), within(timeout, self._now, self.name) as limit:
            self._own_line().block(n, limit)

    def limiting(self, n: int = 1) -> Callable[[F], F]:
        """A decorator: each call of the function takes ``n`` tokens, or raises `RateLimited`.

        Async functions take them when they are awaited. Raises `TypeError` for generators, which
        do nothing when they are called, and `ValueError` for more tokens than the burst.
        """
        _check_count(n, self.limit)
        return limiting(self.acquire, (n,))

    def waiting(self, n: int = 1, *, timeout: Timeout = None) -> Turn:
        """What waits for ``n`` tokens before a block or each call: see `Turn`."""
        _check_count(n, self.limit)
        if timeout is not None:
            timeout = given_ns(timeout) / SECOND
        return Turn(
            lambda _args, _kwargs: self.wait_blocking(n, timeout=timeout),
            lambda _args, _kwargs: self.wait(n, timeout=timeout),
        )

    def __call__(self, function: F) -> F:
        """Decorate a function: each call takes a token, as `limiting`."""
        return limiting(self.acquire, ())(function)

    async def __aenter__(self) -> None:
        """Wait for a token."""
        await self.wait()

    async def __aexit__(self, *_error: object) -> None:
        """Nothing is given back: the block was begun."""

    def _refusal(self, wait_ns: int, n: int) -> Exception:
        return _refusal(wait_ns, n, self)

    def _recheck(self) -> None:
        line = self._line
        if line and line.is_ours:
            surely(line.recheck)

    def _own_line(self) -> Line:
        line = self._line
        if line is None or not line.is_ours:
            source = Source(self._charge, self._return, self._patience_ns, self.name)
            # Of threads that come at once, all have the one that came first.
            line = self.__dict__.setdefault("_line", Line(source))
            if not line.is_ours:
                line = self._line = Line(source)
        return line

    def _return(self, n: int, _charge: Charge | None) -> None:
        super().give_back(n)


class ClientLimiter(ClientsCore):
    """A bucket for each client, in a table of fixed size whose busy entries are never evicted.

    A client is a text: an address counts as the proxy would count it (IPv6 by /64, mapped
    addresses as IPv4), anything else as it is. When ``clients`` buckets are busy, further clients
    share. Raises as `TokenBucket`.
    """

    name: str | None
    """As of a `TokenBucket`."""
    _clients: int
    _lines: Lines
    _now: Callable[[], int]
    _rate: str
    _window_ns: int

    @hinting
    def __new__(
        cls,
        rate: str,
        burst: int | None = None,
        *,
        clients: int = 65_536,
        name: str | None = None,
        clock: Callable[[], int] | None = None,
        words: Words | None = None,
    ) -> Self:
        """A table of full buckets; in ``words`` of a `SharedState`, that state's table."""
        check_clock(clock)
        check_name(name)
        try:
            _check_whole(clients)
            quota, seed = _quota(rate, burst), secrets.randbits(128)
            new = super().__new__(cls, quota, clients, seed, clock, words)
        except _WRONG as error:
            raise _explained(error, rate=rate, burst=burst, clients=clients) from None
        new._window_ns = _window_ns(quota)
        new._clients = SharedWords.clients(clients)
        new._lines = Lines(patience_ns(words, clock), name)
        new.name = name
        new._now = clock or now_ns
        new._rate = rate
        return new

    def __reduce__(self) -> tuple[Any, ...]:
        """As of `TokenBucket`."""
        return part.reduced(self)

    def __init_subclass__(cls) -> None:
        part.check_subclass(cls)

    def __repr__(self) -> str:
        return part.shown(self, f"{self._rate}, burst {self.limit}", self.name)

    async def wait(
        self,
        client: str,
        n: int = 1,
        *,
        timeout: Timeout = None,  # noqa: ASYNC109
    ) -> None:
        """Take ``n`` tokens of a client's as soon as they are there, as `TokenBucket.wait`.

        Each client has a line of its own.
        """
        _check_count(n, self.limit)
        key, user = self._key(client), object()
        with (
            Counting(self),
            within(timeout, self._now, self.name) as limit,
            Finally(partial(self._lines.leave, key, user)),
        ):
            line = self._lines.enter(key, user, *self._source(client))
            await line.wait(n, limit)

    def wait_blocking(self, client: str, n: int = 1, *, timeout: Timeout = None) -> None:
        """As `wait`, in the same line, for a thread that may sleep."""
        _check_count(n, self.limit)
        key, user = self._key(client), object()
        with (
            Counting(self),
            within(timeout, self._now, self.name) as limit,
            Finally(partial(self._lines.leave, key, user)),
        ):
            line = self._lines.enter(key, user, *self._source(client))
            line.block(n, limit)

    def reset(self, client: str) -> None:
        """Fill the client's bucket, and with it those that share it when the table is full."""
        self._refill(client)
        self._lines.recheck(self._key(client))

    def peek(self, client: str) -> LimitState:
        """The client's limit, what remains of it and when it is whole again; takes nothing."""
        return LimitState(self.limit, *self._look(client), self._window_ns)

    def snapshot(self) -> ClientLimiterSnapshot:
        """How it stands now, and what became of all clients' calls. O(clients of the table)."""
        rules = self._rate, self.limit, self._clients
        return ClientLimiterSnapshot(self.name, *rules, self._busy(), *self._totals())

    def __call__(self, *_given: Never) -> NoReturn:
        """`TypeError`: whose tokens would a call take?"""
        raise TypeError(
            "a ClientLimiter has to be told whose tokens a call takes: "
            "@limiter.limiting(lambda …: client), or a text"
        )

    def limiting(self, by: Client, n: int = 1) -> Callable[[F], F]:
        """A decorator: each call takes ``n`` tokens, as `TokenBucket.limiting`.

        They are those of the client ``by``: a text, or a function that is called with the
        arguments of the call and gives one.
        """
        check_client(by)
        _check_count(n, self.limit)
        if callable(by):
            return limiting_by(by, self.acquire, n)
        return limiting(self._acquire_of, (self._key(by), n))

    def waiting(self, by: Client, n: int = 1, *, timeout: Timeout = None) -> Turn:
        """What waits for ``n`` tokens of a client's: see `Turn`. ``by`` is as of `limiting`."""
        check_client(by)
        _check_count(n, self.limit)
        if timeout is not None:
            timeout = given_ns(timeout) / SECOND
        return Turn(
            lambda args, kwargs: self.wait_blocking(
                client_of(by, args, kwargs), n, timeout=timeout
            ),
            lambda args, kwargs: self.wait(client_of(by, args, kwargs), n, timeout=timeout),
        )

    def _refusal(self, wait_ns: int, n: int) -> Exception:
        return _refusal(wait_ns, n, self)

    def _source(self, client: str) -> tuple[Take, GiveBack]:
        def take(n: int) -> tuple[int, Charge | None]:
            return self._charge(client, n)

        def give_back(_n: int, charge: Charge | None) -> None:
            if charge is not None:
                self._return_charge(charge)

        return take, give_back
