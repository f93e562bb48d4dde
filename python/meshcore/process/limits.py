"""What the system lets a process have."""

from __future__ import annotations

import contextlib
import logging
import os
import resource
import sys
import threading
from typing import Final

log = logging.getLogger("meshcore")

# A tenth of a core against another that is busy, all of one that is not.
BEHIND: Final = 10


# What is left for listening sockets and messages of control when clients have taken the rest.
RESERVED: Final = 64


def raise_descriptor_limit() -> None:
    """Allow as many open files as the system does: each request holds two sockets."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError):  # macOS has a lower ceiling than it reports
            log.warning("open files stay limited to %d", soft)


class DescriptorReserve:
    """Some descriptors that connections cannot have: the limit is lower but for a `with` block."""

    def __init__(self) -> None:
        self._limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._inside = 0
        # A quarter at most: a process with few of them is to serve something too.
        self._low = self._limit - min(RESERVED, self._limit // 4)
        self._change(self._limit, self._low)

    def __enter__(self) -> None:
        self._inside += 1
        self._change(self._low, self._limit)

    def __exit__(self, *_: object) -> None:
        self._inside -= 1
        if not self._inside:
            self._change(self._limit, self._low)

    @staticmethod
    def _change(before: int, after: int) -> None:
        """Unless another limit was set meanwhile."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft == before:
            with contextlib.suppress(OSError, ValueError):
                resource.setrlimit(resource.RLIMIT_NOFILE, (after, hard))


def give_way() -> None:
    """Let all others go first: for a thread whose work is not waited for."""
    if sys.platform == "linux":  # where a thread has a priority of its own
        with contextlib.suppress(OSError):  # a sandbox may refuse: no reload fails for that
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), BEHIND)
