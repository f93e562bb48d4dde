"""An upgrade that fails at any step leaves no descriptor and no process behind."""

from __future__ import annotations

import asyncio
import errno
import os
import select
import signal
import socket
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from meshcore.admin.handlers import OperationRefusedError
from meshcore.process import upgrade
from meshcore.process.channel import spawn
from meshcore.process.upgrade import Upgrade
from tests.wire.conftest import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

# It ends by itself when nobody waits for it any more.
SILENT = "import time; time.sleep(600)"
# An end that has been asked for is there far sooner.
END_S = 20
pidfd_open = os.pidfd_open  # a test has that of the program fail
DEAD = "pass"
READY = (
    "import socket; from meshcore.process.channel import send_message; "
    "ours = socket.socket(fileno=4); send_message(ours, {'ready': 1}); ours.recv(1)"
)
# Where it fails, and what is said of it.
STEPS = {
    "spawn": "cannot start the new program",
    "pidfd": "cannot start the new program",
    "dup": "cannot hand over to a new program",
    "reader": "cannot hand over to a new program",
    "offer": "cannot hand over to a new program",
    "late": "the new program was not ready in time",
}


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


class Scene:
    """A program to be upgraded, of which nothing else is there."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._patch = monkeypatch
        self.made: list[int] = []
        monkeypatch.setattr(upgrade, "spawn", self._noted)
        monkeypatch.setattr(upgrade, "offer", lambda *_, **__: ({"format": 0}, []))
        self.runs(SILENT)

    def _noted(self, *given: Any) -> tuple[int, socket.socket]:
        pid, ours = spawn(*given)
        self.made.append(pid)
        return pid, ours

    def runs(self, code: str) -> None:
        self._patch.setattr(sys, "orig_argv", [sys.executable, "-c", code])

    def fails_at(self, step: str) -> None:
        owner, name = {
            "spawn": (os, "posix_spawn"),
            "pidfd": (os, "pidfd_open"),
            "dup": (socket.socket, "dup"),
            "reader": (upgrade, "Channel"),
            "offer": (upgrade, "offer"),
            "late": (upgrade, "START_S"),
        }[step]

        def fail(*_: object, **__: object) -> None:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

        self._patch.setattr(owner, name, 0.05 if step == "late" else fail)

    async def run(self) -> socket.socket:
        memory = SimpleNamespace(segment=None)
        parts = {"groups": None, "history": None, "last_version": 1, "registry": memory}
        control: Any = SimpleNamespace(workers=SimpleNamespace(tickets=None), **parts)
        return await Upgrade(control).run({}, None)

    def left_behind(self) -> list[int]:
        """Those that were not killed and have not ended, which end here."""
        return [pid for pid in self.made if not has_ended(pid)]


def has_ended(pid: int) -> bool:
    fd = pidfd_open(pid)
    try:
        ended, _, _ = select.select([fd], [], [], END_S)
        if not ended:
            os.kill(pid, signal.SIGKILL)
    finally:
        os.close(fd)
    os.waitpid(pid, 0)
    return bool(ended)


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    scene = Scene(monkeypatch)
    before = descriptors()
    yield scene
    assert scene.left_behind() == []
    assert descriptors() == before


@pytest.mark.parametrize("step", STEPS)
async def test_a_step_that_fails_leaves_nothing(scene: Scene, step: str) -> None:
    before = descriptors()
    scene.fails_at(step)
    with pytest.raises(OperationRefusedError, match=STEPS[step]) as caught:
        await scene.run()
    assert descriptors() == before, caught.value
    assert len(scene.made) == (step != "spawn")


async def test_a_program_that_ends_leaves_nothing(scene: Scene) -> None:
    before = descriptors()
    scene.runs(DEAD)
    with pytest.raises(OperationRefusedError, match="did not get ready"):
        await scene.run()
    assert descriptors() == before


async def test_one_who_waits_no_longer_leaves_nothing(scene: Scene) -> None:
    before = descriptors()
    under_way = asyncio.create_task(scene.run())
    await eventually(lambda: bool(scene.made))
    under_way.cancel()
    with pytest.raises(asyncio.CancelledError):
        await under_way
    assert descriptors() == before


async def test_what_is_kept_of_one_that_is_ready_is_one_socket(scene: Scene) -> None:
    before = descriptors()
    scene.runs(READY)
    kept = await scene.run()
    assert descriptors() == before + 1
    kept.close()
