"""A service manager that does not read what it is told."""

from __future__ import annotations

import socket
import time
from contextlib import suppress
from pathlib import Path

import pytest

from meshcore.process.notify import notify


def test_a_manager_that_does_not_read_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    address = tmp_path / "notify.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(address))
        monkeypatch.setenv("NOTIFY_SOCKET", str(address))
        began = time.monotonic()
        for _ in range(1000):
            notify("WATCHDOG=1", patience_s=0)
        assert time.monotonic() - began < 20
        notify("READY=1", patience_s=0.1)
        assert 0.09 < time.monotonic() - began < 30
        manager.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                assert manager.recv(100) == b"WATCHDOG=1"
        notify("READY=1")
        assert manager.recv(100) == b"READY=1"
