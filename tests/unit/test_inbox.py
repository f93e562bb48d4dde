"""What is read without the loop: whatever came, in order, by whom it was meant for, and its end by
the loop."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import time
import weakref
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import hypothesis.strategies as st
import pytest
import uvloop
from hypothesis import HealthCheck, given, settings

from meshcore._core import Inbox, Outbox

Played = Callable[["Loop"], Awaitable[None]]


class Owner(asyncio.Protocol):
    """A protocol that notes what it is told."""

    def __init__(self) -> None:
        self.came = b""
        self.reads = 0
        self.ended = False
        self.lost: list[Exception | None] = []
        self.on_data: Callable[[bytes], object] = lambda data: None
        self.stays = False
        self.told = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        self.came += data
        self.reads += 1
        self.told.set()
        self.on_data(data)

    def eof_received(self) -> bool:
        assert not self.ended, "told twice"
        self.ended = True
        self.told.set()
        return self.stays

    def connection_lost(self, error: Exception | None) -> None:
        assert not self.lost, "told twice"
        self.lost.append(error)
        self.told.set()

    async def until(self, holds: Callable[[], object]) -> None:
        """Something is so."""
        async with asyncio.timeout(10):
            while not holds():
                self.told.clear()
                await self.told.wait()


class Connected:
    """A transport of the loop, which an inbox reads, and who is at its other end."""

    def __init__(self, peer: socket.socket, owner: Owner, out: Any, inner: Any) -> None:
        self.peer, self.owner, self.out, self.inner = peer, owner, out, inner
        self.number = inner.get_extra_info("socket").fileno()

    def say(self, data: bytes) -> None:
        self.peer.sendall(data)


async def until_lost(owner: Owner) -> None:
    await owner.until(lambda: owner.lost)


class Loop:
    """A loop with both boxes."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.inbox = Inbox(self.loop)
        self.outbox = Outbox(self.loop.call_soon, self.inbox)
        self.made: list[Connected] = []

    async def connect(self, *, kept: bool = True) -> Connected:
        """Two messages went out to one that is kept."""
        ours, peer = socket.socketpair()
        peer.setblocking(False)
        owner = Owner()
        inner, _ = await self.loop.create_connection(lambda: owner, sock=ours)
        one = Connected(peer, owner, self.outbox.over(inner), inner)
        self.made.append(one)
        for _ in range(2 * kept):
            one.out.write(b"!")
            await self.turns()
        if kept:
            assert not inner.is_reading()
            assert one.out.is_reading()
            assert peer.recv(9) == b"!!"
        return one

    async def turns(self) -> None:
        """What is ready is done."""
        for _ in range(4):
            await asyncio.sleep(0)

    async def end(self) -> None:
        for one in self.made:
            one.out.abort()
            one.peer.close()
        await self.turns()
        self.inbox.close()


@pytest.fixture(params=["uvloop", "asyncio"])
def play(request: pytest.FixtureRequest) -> Callable[[Played], None]:
    """Runs a play on either loop."""

    def run(what: Played) -> None:
        async def played() -> None:
            both = Loop()
            try:
                await what(both)
            finally:
                await both.end()

        new = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop
        with asyncio.Runner(loop_factory=new) as runner:
            runner.run(played())

    return run


Play = Callable[[Played], None]


def test_what_comes_is_told_in_order_and_one_read_at_a_time(play: Play) -> None:
    async def one_of_two(both: Loop) -> None:
        one, other = await both.connect(), await both.connect()
        sent = bytes(range(256)) * 4000
        left = memoryview(sent)
        other.say(b"x")
        while left:
            with suppress(BlockingIOError):
                left = left[one.peer.send(left) :]
            await asyncio.sleep(0)
        await one.owner.until(lambda: len(one.owner.came) == len(sent))
        assert one.owner.came == sent
        assert one.owner.reads > 1  # bounded, whatever waits
        await other.owner.until(lambda: other.owner.came == b"x")
        assert not one.inner.is_reading()

    play(one_of_two)


def test_all_that_is_there_is_read_in_one_turn(play: Play) -> None:
    """More of them than the kernel is asked for at one time: who judges what came in time awaits a
    turn, and no more."""

    async def many(both: Loop) -> None:
        several = [await both.connect() for _ in range(300)]
        for one in several:
            one.say(b"x")
        both.inbox.turn()
        assert all(one.owner.came == b"x" for one in several)

    play(many)


@pytest.mark.parametrize("at", ["is_reading", "pause_reading"])
def test_what_is_raised_as_one_is_taken_over_holds_up_nobody(at: str) -> None:
    """By a handler of a signal, say: only transports of Python's have room for it."""

    async def raised(both: Loop) -> None:
        one, other = await both.connect(kept=False), await both.connect(kept=False)
        told: list[object] = []
        both.loop.set_exception_handler(lambda _, context: told.append(context["exception"]))
        real, error = getattr(one.inner, at), ValueError("a handler's")

        def once() -> object:
            setattr(one.inner, at, real)
            real()
            raise error

        for number in range(2):
            one.out.write(b"!")
            other.out.write(b"!")
            if number:
                setattr(one.inner, at, once)
            await both.turns()
        assert told == [error]
        assert not other.inner.is_reading()
        for each in (one, other):
            each.out.write(b"?")
            each.say(b"x")
        await one.owner.until(lambda: one.owner.came == b"x")
        await other.owner.until(lambda: other.owner.came == b"x")
        assert one.peer.recv(9) == other.peer.recv(9) == b"!!?"

    async def played() -> None:
        both = Loop()
        try:
            await raised(both)
        finally:
            await both.end()

    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        runner.run(played())


def test_a_socket_that_another_process_has_open_too_wakes_nobody(play: Play) -> None:
    """A child that was forked, say: the kernel's set then keeps a descriptor that is closed."""

    async def forked(both: Loop) -> None:
        one, other = await both.connect(), await both.connect()
        kept = os.dup(one.number)
        try:
            one.inner._force_close(ConnectionResetError())
            await until_lost(one.owner)
            one.peer.close()
            await both.turns()
            before = time.process_time()
            await asyncio.sleep(0.2)
            assert time.process_time() - before < 0.1
            other.say(b"x")
            await other.owner.until(lambda: other.owner.came == b"x")
        finally:
            os.close(kept)

    play(forked)


def test_one_that_is_not_kept_the_loop_reads(play: Play) -> None:
    async def once(both: Loop) -> None:
        one = await both.connect(kept=False)
        one.out.write(b"?")
        await both.turns()
        assert one.inner.is_reading()
        one.say(b"answer")
        await one.owner.until(lambda: one.owner.came)

    play(once)


@pytest.mark.parametrize("stays", [True, False])
def test_an_end_of_file_is_told_once_behind_all(play: Play, stays: bool) -> None:
    async def ends(both: Loop) -> None:
        one = await both.connect()
        one.owner.stays = stays
        one.say(b"last")
        one.peer.shutdown(socket.SHUT_WR)
        await one.owner.until(lambda: one.owner.ended)
        assert one.owner.came == b"last"
        if stays:
            one.out.pause_reading()
            one.out.write(b"still")
            await both.turns()
            assert one.peer.recv(9) == b"still"
            assert not one.owner.lost
        else:
            await one.owner.until(lambda: one.owner.lost)
            assert one.owner.lost == [None]

    play(ends)


def test_a_reset_is_told_as_what_it_is_behind_what_came(play: Play) -> None:
    async def resets(both: Loop) -> None:
        server = socket.create_server(("127.0.0.1", 0))
        owner = Owner()
        inner, _ = await both.loop.create_connection(lambda: owner, *server.getsockname())
        peer, _ = server.accept()
        one = Connected(peer, owner, both.outbox.over(inner), inner)
        both.made.append(one)
        for _ in range(2):
            one.out.write(b"!")
            await both.turns()
        assert not inner.is_reading()
        one.say(b"said")
        await owner.until(lambda: owner.came == b"said")
        # What is left unread behind the close is answered with a reset.
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        peer.close()
        await owner.until(lambda: owner.lost)
        assert [type(error) for error in owner.lost] == [ConnectionResetError]
        assert not owner.ended
        server.close()

    play(resets)


def test_what_is_paused_is_left_in_the_socket(play: Play) -> None:
    async def pauses(both: Loop) -> None:
        one = await both.connect()
        one.out.pause_reading()
        assert not one.out.is_reading()
        one.say(b"a")
        await both.turns()
        one.say(b"b")
        await both.turns()
        assert one.owner.reads == 0
        one.out.resume_reading()
        await one.owner.until(lambda: one.owner.came == b"ab")
        one.out.pause_reading()
        one.out.resume_reading()  # nothing came meanwhile
        one.say(b"c")
        await one.owner.until(lambda: one.owner.came == b"abc")
        one.out.pause_reading()
        one.peer.close()
        await both.turns()
        assert not one.owner.ended
        one.out.resume_reading()
        await one.owner.until(lambda: one.owner.lost)

    play(pauses)


def test_whoever_is_paused_before_it_is_kept_is_the_loops(play: Play) -> None:
    async def pauses(both: Loop) -> None:
        one = await both.connect(kept=False)
        one.out.pause_reading()
        for _ in range(3):
            one.out.write(b"!")
            await both.turns()
        one.say(b"a")
        await both.turns()
        assert one.owner.reads == 0
        one.out.resume_reading()
        assert one.inner.is_reading()
        await one.owner.until(lambda: one.owner.came == b"a")

    play(pauses)


@pytest.mark.parametrize("how", ["abort", "close", "fail"])
def test_a_number_that_is_anothers_within_a_turn_is_read_for_nobody_else(
    play: Play, how: str
) -> None:
    """Two have something at once, and the first of them ends the other and opens a third."""

    async def reuses(both: Loop) -> None:
        first, other = await both.connect(), await both.connect()
        made: list[tuple[socket.socket, socket.socket]] = []
        which: dict[Owner, Connected] = {first.owner: other, other.owner: first}

        def ends(owner: Owner) -> Callable[[bytes], None]:
            def on_data(data: bytes) -> None:
                victim = which[owner]
                if made:
                    return
                if how == "fail":
                    victim.inner._force_close(ConnectionResetError())
                else:
                    getattr(victim.out, how)()
                for _ in range(8):
                    made.append(socket.socketpair())
                    made[-1][1].send(b"a secret")

            return on_data

        for one in (first, other):
            one.owner.on_data = ends(one.owner)
        first.say(b"1")
        other.say(b"2")
        await first.owner.until(lambda: made or other.owner.came)
        await both.turns()
        assert sorted((first.owner.came, other.owner.came)) in ([b"", b"1"], [b"", b"2"])
        for ours, theirs in made:
            assert ours.recv(99) == b"a secret"
            ours.close()
            theirs.close()
        gone = other if first.owner.came else first
        await gone.owner.until(lambda: gone.owner.lost)
        # The number is given out anew, and its new owner is read.
        again = await both.connect()
        again.say(b"mine")
        await again.owner.until(lambda: again.owner.came == b"mine")
        gone.out.abort()  # it is no business of that
        again.say(b"!")
        await again.owner.until(lambda: again.owner.came == b"mine!")

    play(reuses)


def test_a_protocol_that_raises_loses_its_connection_and_the_loop_is_told(play: Play) -> None:
    async def raises(both: Loop) -> None:
        told: list[dict[str, Any]] = []
        both.loop.set_exception_handler(lambda loop, what: told.append(what))
        one, other = await both.connect(), await both.connect()

        def on_data(data: bytes) -> None:
            raise ValueError("no")

        one.owner.on_data = on_data
        one.say(b"a")
        other.say(b"b")
        await one.owner.until(lambda: one.owner.lost)
        await other.owner.until(lambda: other.owner.came == b"b")
        assert [type(what["exception"]) for what in told] == [ValueError]
        assert [type(error) for error in one.owner.lost] == [ValueError]

    play(raises)


def test_another_protocol_is_told_what_comes_from_then_on(play: Play) -> None:
    async def changes(both: Loop) -> None:
        one = await both.connect()
        other = Owner()
        one.owner.on_data = lambda data: one.out.set_protocol(other)
        one.say(b"a")
        await one.owner.until(lambda: one.owner.came == b"a")
        one.say(b"b")
        await other.until(lambda: other.came == b"b")
        assert one.owner.came == b"a"

    play(changes)


def test_a_busy_one_starves_nobody(play: Play) -> None:
    async def busy(both: Loop) -> None:
        loud, quiet = await both.connect(), await both.connect()
        fill = b"x" * 65_536

        def more(data: bytes) -> None:
            with suppress(BlockingIOError):
                loud.peer.send(fill)

        loud.owner.on_data = more
        loud.say(b"x")
        quiet.say(b"?")
        await quiet.owner.until(lambda: quiet.owner.came == b"?")
        assert loud.owner.reads < 20

    play(busy)


def test_the_loop_reads_on_behind_a_close(play: Play) -> None:
    async def closes(both: Loop) -> None:
        one, paused = await both.connect(), await both.connect()
        paused.out.pause_reading()
        both.inbox.close()
        one.say(b"a")
        paused.say(b"b")
        await one.owner.until(lambda: one.owner.came == b"a")
        assert paused.owner.came == b""
        paused.out.resume_reading()
        await paused.owner.until(lambda: paused.owner.came == b"b")
        late = await both.connect(kept=False)
        for _ in range(3):
            late.out.write(b"!")
            await both.turns()
        late.say(b"c")
        await late.owner.until(lambda: late.owner.came == b"c")

    play(closes)


def test_it_holds_nobody(play: Play) -> None:
    async def leaves(both: Loop) -> None:
        one = await both.connect()
        owner = weakref.ref(one.owner)
        one.inner._force_close(None)  # without a word to what stands for it
        await until_lost(one.owner)
        one.peer.close()
        both.made.remove(one)
        del one
        await both.turns()
        gc.collect()
        assert owner() is None

    play(leaves)


# --- anything, in any order -------------------------------------------------------------------


def stream(connection: int, begin: int, size: int) -> bytes:
    """What a peer says: no other does, and at this place alone."""
    return bytes(
        (connection * 31 + at * 7 + (at >> 8) * 13) & 0xFF for at in range(begin, begin + size)
    )


ORDERS = st.tuples(
    st.sampled_from(
        ["open", "say", "say", "say", "pause", "resume", "turn", "close", "abort", "fail", "leave"]
    ),
    st.integers(0, 5),
    st.integers(1, 3000),
)


async def anything(both: Loop, orders: list[tuple[str, int, int]]) -> None:
    """Connections that come, speak and go, with numbers that are given out anew."""
    said: list[int] = []
    torn: set[int] = set()
    for order, which, size in orders:
        if order == "open" or not both.made:
            await both.connect(kept=size % 4 != 0)
            said.append(0)
            continue
        number = len(both.made) - 1 - which % min(4, len(both.made))
        one = both.made[number]
        if order == "turn":
            await both.turns()
        elif one.owner.lost or number in torn:
            continue
        elif order == "say" and not one.owner.ended:
            with suppress(BlockingIOError):
                said[number] += one.peer.send(stream(number, said[number], size))
        elif order == "pause":
            one.out.pause_reading()
        elif order == "resume":
            one.out.resume_reading()
        elif order == "leave":
            one.peer.close()
            one.out.resume_reading()
            await one.owner.until(lambda one=one: one.owner.lost)  # type: ignore[misc]
            assert len(one.owner.came) == said[number]
            torn.add(number)
        elif order in ("close", "abort", "fail"):
            torn.add(number)
            one.inner._force_close(None) if order == "fail" else getattr(one.out, order)()
    for number, one in enumerate(both.made):
        if number not in torn:
            one.out.resume_reading()
            await one.owner.until(lambda n=number, o=one.owner: len(o.came) == said[n])  # type: ignore[misc]
        assert one.owner.came == stream(number, 0, len(one.owner.came))


@pytest.mark.timeout(300)
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(orders=st.lists(ORDERS, max_size=40))
def test_everybody_hears_what_was_said_to_it(
    play: Play, orders: list[tuple[str, int, int]]
) -> None:
    play(lambda both: anything(both, orders))
