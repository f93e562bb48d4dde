"""What control hears of a worker, and what it does when a reuseport slot cannot be handed over."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import sys
from types import SimpleNamespace
from typing import Any, cast

import pytest

from meshcore.process import messages, service
from meshcore.process.channel import Inbox, send_message
from meshcore.process.child import Child, ChildState, command
from meshcore.process.fleet import Fleet


class Far:
    """A worker's end of the channel, without a worker."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sock: socket.socket
        monkeypatch.setattr(os, "posix_spawn", self._spawn)

    def _spawn(self, *_: object, file_actions: list[tuple[int, int, int]], **__: object) -> int:
        self.sock = socket.socket(fileno=os.dup(file_actions[0][1]))
        return 1 << 30  # a process id that nobody has

    def heard(self) -> Any:
        return Inbox(self.sock).message()[0]

    def say(self, message: object) -> None:
        send_message(self.sock, message)


async def test_a_late_answer_is_not_that_to_the_next_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    far, unasked = Far(monkeypatch), asyncio.Queue[object]()
    child = Child(0)
    child.spawn(lambda _, message: unasked.put_nowait(message))

    def order(token: int) -> messages.Commit:
        return messages.Commit(token)

    assert await child.ask(order, [], 0.02) is None
    first = far.heard().token
    asked = asyncio.create_task(child.ask(order, [], 10))
    await asyncio.sleep(0)
    second = far.heard().token
    assert second != first
    far.say(messages.Refused(first, "too late"))
    far.say(messages.Ready())
    assert await asyncio.wait_for(unasked.get(), 10) == messages.Ready()
    assert not asked.done()
    far.say(messages.Committed(second, ""))
    assert await asked == messages.Committed(second, "")
    far.say(messages.Committed(second, "twice"))
    asked = asyncio.create_task(child.ask(order, [], 10))
    await asyncio.sleep(0.02)
    assert not asked.done()
    far.sock.close()
    assert await asked is None
    child.pid = 0
    child.died()
    assert unasked.empty()


async def test_a_lane_that_could_not_be_handed_over_is_tried_again() -> None:
    given: list[int] = []
    problems = [OSError(errno.EMFILE, "Too many open files")]

    def hand_over(child: Child, reuseport_slot: int) -> None:
        if problems:
            raise problems.pop()
        given.append(reuseport_slot)

    owner = SimpleNamespace(snapshot=SimpleNamespace(watchdog_ns=0, drain_ns=0))
    owner.hand_over = hand_over
    fleet = Fleet(
        cast("Any", SimpleNamespace(segment=SimpleNamespace(worker_slots=0))),
        cast("Any", owner),
        lambda: None,
        2,
    )
    child = Child(0)
    child.state = ChildState.READY
    fleet._children[1 << 30] = child
    for expected in (set(), {1}, {1}):
        fleet._check()
        assert fleet._check_timer is not None
        fleet._check_timer.cancel()
        assert child.adopted == expected
    assert given == [1]


async def test_the_watcher_survives_whatever_befalls_it(monkeypatch: pytest.MonkeyPatch) -> None:
    problems: list[Exception] = [RuntimeError("no watches"), OSError(errno.EMFILE, "no files")]
    watched = asyncio.Event()

    async def watch(*_: object) -> None:
        if problems:
            raise problems.pop()
        watched.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(service, "WATCH_AGAIN_S", 0.01)
    source = SimpleNamespace(name="mesh.yaml", watch=watch)
    control = cast("Any", SimpleNamespace(source=source, in_force=None, snapshot=None))
    whole = service.Service(control, cast("Any", None), cast("Any", None), lambda: None)
    watching = asyncio.create_task(whole.keep_watching())
    await asyncio.wait_for(watched.wait(), 10)
    watching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await watching


async def test_who_is_about_to_end_is_not_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    far = Far(monkeypatch)
    owner = cast("Any", SimpleNamespace(hand_over=lambda child, reuseport_slot: None))
    fleet = Fleet(cast("Any", None), owner, lambda: None, 1)
    child = Child(0)
    child.spawn(lambda *_: None)
    child.state = ChildState.READY
    fleet._children[child.pid] = child
    await asyncio.wait_for(fleet.reaped(), 0.1)
    far.sock.close()
    while child.is_open:  # noqa: ASYNC110 - it tells nobody
        await asyncio.sleep(0)
    waiting = asyncio.create_task(fleet.reaped())
    await asyncio.sleep(0.03)
    assert not waiting.done()
    fleet.stopping = True  # nobody is started in its place
    fleet._ended(fleet._children.pop(child.pid), child.pid, 0)
    await asyncio.wait_for(waiting, 0.5)


def test_a_worker_looks_for_modules_where_its_parent_does(monkeypatch: pytest.MonkeyPatch) -> None:
    program = ["-m", "meshcore.process.worker_process"]
    monkeypatch.setattr("sys.path", ["/usr/lib"])
    assert command() == [sys.executable, "-P", *program]
    monkeypatch.setattr("sys.path", [os.getcwd(), "/usr/lib"])
    assert command() == [sys.executable, *program]
