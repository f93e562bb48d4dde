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


def raise_descriptor_limit() -> None:
    """Allow as many open files as the system does: each request holds two sockets."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError):  # macOS has a lower ceiling than it reports
            log.warning("open files stay limited to %d", soft)


def give_way() -> None:
    """Let all others go first: for a thread that prepares what nobody waits for."""
    if sys.platform == "linux":  # where a thread has a priority of its own
        with contextlib.suppress(OSError):  # a sandbox may refuse: no reload fails for that
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), BEHIND)
