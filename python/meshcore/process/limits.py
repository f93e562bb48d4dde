"""What the system lets a process have."""

from __future__ import annotations

import logging
import resource

log = logging.getLogger("meshcore")


def raise_descriptor_limit() -> None:
    """Allow as many open files as the system does: each request holds two sockets."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError):  # macOS has a lower ceiling than it reports
            log.warning("open files stay limited to %d", soft)
