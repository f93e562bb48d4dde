"""Messages with descriptors: however many, however large, and when there is no room for them."""

from __future__ import annotations

import asyncio
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from meshcore.process.channel import Channel, DescriptorsLostError, Inbox, pair, send_message


@pytest.fixture(autouse=True)
def many_files() -> Iterator[None]:
    """Room for the descriptors, here and on their way."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.fixture
def files() -> Iterator[tuple[int, int]]:
    """Two that can be told apart."""
    both = os.memfd_create("one"), os.memfd_create("two")
    yield both
    for fd in both:
        os.close(fd)


def opened() -> set[str]:
    """This process' descriptors."""
    names = os.listdir("/proc/self/fd")  # and the one that this reads
    return {name for name in names if os.path.lexists(f"/proc/self/fd/{name}")}


def close_all(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)


class Ends:
    """A channel in one loop, and what came out of its far end."""

    def __init__(self) -> None:
        near, far = pair()
        loop = asyncio.get_running_loop()
        self.came: asyncio.Queue[tuple[Any, list[int]]] = asyncio.Queue()
        self.closed = asyncio.Event()
        self.near = Channel(loop, near, lambda _, fds: close_all(fds), lambda: None)
        self.far = Channel(
            loop, far, lambda message, fds: self.came.put_nowait((message, fds)), self.closed.set
        )

    def close(self) -> None:
        self.near.close()
        self.far.close()


@pytest.mark.parametrize("count", [0, 1, 249, 250, 251, 500, 501, 620])
@pytest.mark.parametrize("size", [0, 48 * 1024 - 1, 48 * 1024, 3_000_000])
async def test_all_descriptors_come_in_their_order(
    files: tuple[int, int], count: int, size: int
) -> None:
    before = opened()
    ends = Ends()
    # Neither a count nor a size that the packets could be cut at by chance.
    sent = [files[n % 3 == 0] for n in range(count)]
    ends.near.send({"bytes": b"x" * size}, sent)
    ends.near.send("the next")
    message, fds = await asyncio.wait_for(ends.came.get(), 10)
    assert message == {"bytes": b"x" * size}
    assert [os.fstat(fd).st_ino for fd in fds] == [os.fstat(fd).st_ino for fd in sent]
    assert not any(os.get_inheritable(fd) for fd in fds)
    assert await asyncio.wait_for(ends.came.get(), 10) == ("the next", [])
    close_all(fds)
    ends.close()
    assert opened() == before


async def test_what_is_not_read_is_queued_and_waits_for_nobody(files: tuple[int, int]) -> None:
    before = opened()
    ends = Ends()
    for n in range(100):
        ends.near.send((n, b"x" * 40_000), [files[0]] * 3)
    for n in range(100):
        message, fds = await asyncio.wait_for(ends.came.get(), 10)
        assert (message[0], len(fds)) == (n, 3)
        close_all(fds)
    ends.close()
    assert opened() == before


async def test_a_close_leaves_none_of_what_is_queued(files: tuple[int, int]) -> None:
    before = opened()
    ends = Ends()
    for n in range(12):
        ends.near.send((n, b"x" * 40_000), [files[0]] * 300)
    assert len(opened()) > len(before) + 300
    ends.near.close()
    ends.near.send("nothing happens", [files[0]])
    # What was on its way comes; the message that was cut off does not.
    await asyncio.wait_for(ends.closed.wait(), 10)
    while not ends.came.empty():
        _, fds = ends.came.get_nowait()
        assert len(fds) == 300
        close_all(fds)
    assert opened() == before


def test_parts_without_their_message_are_closed(files: tuple[int, int]) -> None:
    before = opened()
    near, far = pair()
    send_message(near, "cut off", [files[0]] * 501)
    inbox = Inbox(far)
    assert inbox.receive() is None
    assert inbox.receive() is None
    assert len(opened()) == len(before) + 502
    inbox.close()
    near.close()
    far.close()
    assert opened() == before


@contextmanager
def room_for(count: int) -> Iterator[None]:
    """Let only so many more descriptors be opened."""
    taken = {int(name) for name in opened()}
    limit, free = 0, 0
    while free < count or limit in taken:
        free += limit not in taken
        limit += 1
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize(("count", "room"), [(20, 5), (20, 0), (260, 100), (260, 252), (1, 0)])
def test_descriptors_that_have_no_room_are_told_of(
    files: tuple[int, int], count: int, room: int
) -> None:
    near, far = pair()
    before = opened()
    send_message(near, "order", [files[0]] * count)
    send_message(near, "the next", [files[1]])
    inbox = Inbox(far)
    with room_for(room), pytest.raises(DescriptorsLostError) as lost:
        inbox.message()
    assert lost.value.message == "order"
    assert opened() == before
    message, (fd,) = inbox.message()
    assert (message, os.fstat(fd).st_ino) == ("the next", os.fstat(files[1]).st_ino)
    os.close(fd)
    near.close()
    far.close()


@dataclass(frozen=True)
class Large:
    """A message that lies apart, of which an outline may be all that comes."""

    name: str
    data: bytes = field(default=b"", compare=False)

    def outline(self) -> Large:
        return Large(self.name)


async def test_a_channel_goes_on_after_descriptors_that_had_no_room(
    files: tuple[int, int],
) -> None:
    before = opened()
    ends = Ends()
    lost: list[object] = []
    ends.far.on_lost(lost.append)
    ends.near.send("small", [files[0]] * 20)
    ends.near.send(Large("large", b"x" * 60_000), [files[0]] * 20)
    ends.near.send("the end")
    with room_for(3):
        assert await asyncio.wait_for(ends.came.get(), 10) == ("the end", [])
    assert lost == ["small", Large("large")]
    ends.close()
    assert opened() == before


async def test_without_room_for_copies_nothing_is_sent(files: tuple[int, int]) -> None:
    before = opened()
    ends = Ends()
    with room_for(3):
        for size in (0, 60_000):
            with pytest.raises(OSError, match="Too many open files"):
                ends.near.send(b"x" * size, [files[0]] * 4)
    ends.near.send("the next", [files[0]])
    message, fds = await asyncio.wait_for(ends.came.get(), 10)
    assert message == "the next"
    close_all(fds)
    ends.close()
    assert opened() == before


def test_the_end_of_the_other_side_is_told() -> None:
    near, far = pair()
    near.close()
    with pytest.raises(EOFError):
        Inbox(far).message()
    far.close()
