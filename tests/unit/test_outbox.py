"""What goes out at the end of a turn: to whom it was written, in order, and to nobody else."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from meshcore._core import Outbox
from tests.unit.descriptors import Connected, Turns

LARGE = b"L" * 40_000


@pytest.fixture
def turns() -> Turns:
    return Turns()


@pytest.fixture
def connect(turns: Turns) -> Iterator[Callable[..., Connected]]:
    outbox, made = Outbox(turns.call_soon), []

    def one(room_bytes: int = 0) -> Connected:
        made.append(Connected(turns, outbox, room_bytes))
        return made[-1]

    yield one
    for each in made:
        each.end()


Connect = Callable[..., Connected]


def test_small_writes_of_a_turn_go_out_once_at_its_end(turns: Turns, connect: Connect) -> None:
    one, other = connect(), connect()
    one.out.write(b"a")
    other.out.write(b"x")
    one.out.writelines((b"b", b"c"))
    assert (one.read(), other.read(), len(turns.soon)) == (b"", b"", 1)
    turns.turn()
    assert (one.read(), other.read(), len(turns.soon)) == (b"abc", b"x", 0)
    one.out.write(b"d")
    turns.turn()
    assert one.read() == b"abcd"
    assert one.inner.writes == other.inner.writes == 0


def test_what_has_no_socket_writes_as_before(turns: Turns) -> None:
    class Plain:
        def get_extra_info(self, name: str) -> None:
            return None

    plain = Plain()
    assert Outbox(turns.call_soon).over(plain) is plain  # type: ignore[arg-type, comparison-overlap]


def test_nothing_stands_twice_for_a_transport(turns: Turns, connect: Connect) -> None:
    one = connect()
    assert Outbox(turns.call_soon).over(one.out) is one.out


# --- the end of a connection ------------------------------------------------------------------


@pytest.mark.parametrize("how", ["lost", "aborted", "failed"])
def test_a_number_that_is_anothers_within_the_turn_gets_nothing(
    turns: Turns, connect: Connect, how: str
) -> None:
    first = connect()
    first.out.write(b"a secret")
    if how == "aborted":
        first.out.abort()
        first.inner.closing = False  # uvloop's do not say so whose connect was cancelled
    elif how == "failed":
        first.inner.fail(ConnectionResetError())
    else:
        first.inner.closing = True
    first.inner.lose()
    second = connect()
    assert second.number == first.number
    turns.turn()
    assert second.read() == b""
    second.out.write(b"its own")
    turns.turn()
    assert (second.read(), first.read()) == (b"its own", b"")


def test_a_close_in_the_same_turn_is_behind_what_was_written(
    turns: Turns, connect: Connect
) -> None:
    one = connect()
    one.out.write(b"all of it")
    one.out.close()
    assert one.read() == b"all of it"
    turns.turn()
    assert one.owner.lost == [None]
    assert one.peer.recv(1) == b""


def test_so_is_the_end_of_a_side_and_nothing_follows_it(turns: Turns, connect: Connect) -> None:
    one = connect()
    one.out.write(b"all of it")
    one.out.write_eof()
    assert one.read() == b"all of it"
    assert one.peer.recv(1) == b""
    with pytest.raises(RuntimeError, match="behind write_eof"):
        one.out.write(b"more")


def test_a_question_for_what_waits_is_answered_with_all(turns: Turns, connect: Connect) -> None:
    free, full = connect(), connect(4096)
    for each in (free, full):
        for _ in range(8):
            each.out.write(b"x" * 10_000)
    assert free.out.get_write_buffer_size() == 0
    assert 0 < full.out.get_write_buffer_size() == full.inner.get_write_buffer_size() < 80_000
    assert len(free.read()) == 80_000


def test_a_loop_that_stops_behind_a_close_has_sent_all(turns: Turns, connect: Connect) -> None:
    """A worker waits for its connections to be gone, and then for nothing."""
    made = [connect() for _ in range(5)]
    for number, each in enumerate(made):
        each.out.write(b"%d" % number)
    for each in made:
        each.out.close()
    assert [each.read() for each in made] == [b"0", b"1", b"2", b"3", b"4"]


# --- order ------------------------------------------------------------------------------------


def test_nothing_overtakes_what_the_loop_holds(turns: Turns, connect: Connect) -> None:
    one = connect(4096)
    one.out.write(LARGE)  # as it is, by the loop, which keeps most of it
    assert one.inner.rest
    one.out.write(b"behind")
    one.read()  # there is room again, and the loop has not looked yet
    turns.turn()
    assert one.inner.writes == 2
    while one.inner.rest:
        one.read()
        one.inner.pump()
    assert one.read() == LARGE + b"behind"
    one.out.write(b"first again")
    turns.turn()
    assert one.inner.writes == 2
    assert one.read() == LARGE + b"behindfirst again"


def test_nothing_overtakes_what_is_held(turns: Turns, connect: Connect) -> None:
    one = connect()
    one.out.write(b"before")
    one.out.write(LARGE)
    assert one.read() == b"before" + LARGE
    one.out.write(b"before")
    one.out.writelines((LARGE, b"."))
    assert one.read() == b"before" + LARGE + b"before" + LARGE + b"."


def test_what_the_kernel_does_not_take_is_the_loops_to_pace(turns: Turns, connect: Connect) -> None:
    one = connect(4096)
    for _ in range(10):
        one.out.write(b"x" * 10_000)
    assert not one.owner.choked
    turns.turn()
    assert one.owner.choked
    while one.inner.rest:
        one.read()
        one.inner.pump()
    assert not one.owner.choked
    assert one.read() == b"x" * 100_000


def test_a_turn_holds_no_more_than_a_cache_does(turns: Turns, connect: Connect) -> None:
    made = [connect() for _ in range(20)]
    for each in made:
        each.out.write(b"x" * 16_000)
    assert sum(len(each.read()) for each in made) > 200_000
    turns.turn()
    assert {len(each.read()) for each in made} == {16_000}


# --- what goes wrong --------------------------------------------------------------------------


def test_an_error_is_the_loops_to_tell_once_and_the_others_go_out(
    turns: Turns, connect: Connect
) -> None:
    gone, other = connect(), connect()
    gone.peer.close()
    gone.out.write(b"to nobody")
    other.out.write(b"to somebody")
    turns.turn()
    assert other.read() == b"to somebody"
    gone.out.write(b"more")
    turns.turn()
    assert [type(error) for error in gone.owner.lost] == [BrokenPipeError]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_transport_that_raises_holds_up_nobody(turns: Turns, connect: Connect) -> None:
    odd, other = connect(), connect()
    odd.inner.ended = True  # behind our back
    odd.inner.sock.shutdown(1)
    odd.out.write(b"refused")
    other.out.write(b"sent")
    turns.turn()
    assert other.read() == b"sent"


@pytest.mark.parametrize("asked", ["is_closing", "get_write_buffer_size"])
@pytest.mark.parametrize("by", ["turn", "close"])
def test_what_a_handler_raises_meanwhile_is_the_loops_and_nothing_is_lost(
    turns: Turns, connect: Connect, monkeypatch: pytest.MonkeyPatch, asked: str, by: str
) -> None:
    """A signal's handler may run within a transport of Python's, asyncio's among them."""
    odd, other = connect(), connect()
    ask = getattr(odd.inner, asked)
    raised: list[bool] = []

    def interrupted() -> object:
        if not raised:
            raised.append(True)
            raise KeyboardInterrupt
        return ask()

    monkeypatch.setattr(odd.inner, asked, interrupted)
    before = LARGE if asked == "get_write_buffer_size" else b""
    if before:  # it is asked behind a write of the loop's alone
        odd.out.write(before)
    odd.out.write(b"one")
    other.out.write(b"two")
    if by == "close":
        other.out.close()
    with pytest.raises(KeyboardInterrupt):
        turns.turn()
    turns.turn()
    assert raised
    assert (odd.read(), other.read()) == (before + b"one", b"two")


def test_an_owner_may_do_anything_when_its_buffer_is_full(turns: Turns, connect: Connect) -> None:
    """Within the flush: write to others, behind and before it, and close."""
    before, full, behind = connect(), connect(4096), connect()

    def react() -> None:
        before.out.write(b"2")
        behind.out.write(b"2")
        behind.out.close()
        full.out.write(b"!")

    full.owner.on_full = react
    before.out.write(b"1")
    full.out.write(b"x" * 15_000)
    full.out.write(b"x" * 15_000)
    behind.out.write(b"1")
    turns.turn()
    turns.turn()
    assert (before.read(), behind.read()) == (b"12", b"12")
    assert behind.owner.lost == [None]
    while full.inner.rest:
        full.read()
        full.inner.pump()
    assert full.read() == b"x" * 30_000 + b"!"


# --- anything, in any order -------------------------------------------------------------------


def stream(connection: int, begin: int, size: int) -> bytes:
    """What a connection writes: of no other, and at this place alone."""
    return bytes(
        (connection * 31 + at * 7 + (at >> 8) * 13) & 0xFF for at in range(begin, begin + size)
    )


class Play:
    """Connections that come, go and write, with numbers that are given out anew."""

    def __init__(self) -> None:
        self.turns = Turns()
        self._outbox = Outbox(self.turns.call_soon)
        self.made: list[Connected] = []
        self.written: list[int] = []
        self.torn: set[int] = set()

    def do(self, order: str, which: int, size: int) -> None:
        """One thing that may happen; what cannot now does not."""
        if order == "open" or not self.made:
            self.made.append(Connected(self.turns, self._outbox, 4096 if size % 2 else 0))
            self.written.append(0)
            return
        number = len(self.made) - 1 - which % min(4, len(self.made))
        one = self.made[number]
        if order == "turn":
            self.turns.turn()
        elif order == "read":
            one.read()
        elif order == "pump":
            one.inner.pump()
        elif order == "leave":
            one.read()
            one.peer.close()
            self.torn.add(number)
        elif one.owner.lost:
            return
        elif order == "fail":
            one.inner.fail(ConnectionResetError())
            self.torn.add(number)
        elif order == "vanish":  # told before the turn ends, and the number is free
            one.inner.closing = True
            one.inner.lose(ConnectionResetError())
            self.torn.add(number)
        elif order == "ask":
            assert one.out.is_closing() == one.inner.closing
            assert one.out.get_write_buffer_size() == len(one.inner.rest)
        elif order == "abort":
            one.out.abort()
            self.torn.add(number)
        elif not one.inner.closing and not one.inner.ended:
            self._write(order, number, size)

    def _write(self, order: str, number: int, size: int) -> None:
        one = self.made[number]
        if order == "close":
            one.out.close()
        elif order == "end":
            one.out.write_eof()
        else:
            size = 20_000 + size if order == "large" else size
            data = stream(number, self.written[number], size)
            self.written[number] += size
            if order == "lines":
                one.out.writelines((data[:3], data[3:]))
            else:
                one.out.write(data)

    def end(self) -> None:
        """Everybody gets what was written to it, and each end is told once."""
        while self.turns.soon:
            self.turns.turn()
        for number, one in enumerate(self.made):
            while one.inner.rest:
                one.read()
                one.inner.pump()
            got = one.read()
            assert got == stream(number, 0, len(got))
            assert len(got) == self.written[number] or number in self.torn
            one.out.close()
        while self.turns.soon:
            self.turns.turn()
        assert all(len(one.owner.lost) == 1 for one in self.made)
        for one in self.made:
            one.end()


WRITES = ["write", "write", "write", "lines", "large"]
ENDS = ["close", "end", "abort", "fail", "vanish", "leave"]
OTHERS = ["open", "open", "turn", "read", "read", "pump", "ask"]
ORDERS = st.tuples(
    st.sampled_from(WRITES + ENDS + OTHERS),
    st.integers(0, 5),
    st.integers(0, 3000),
)


@pytest.mark.timeout(300)
@settings(deadline=None)  # how fast examples are played is the machine's
@given(st.lists(ORDERS, max_size=60))
def test_everybody_gets_what_was_written_to_it(orders: list[tuple[str, int, int]]) -> None:
    play = Play()
    for order in orders:
        play.do(*order)
    play.end()
