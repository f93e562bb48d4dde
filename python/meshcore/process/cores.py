"""How many cores this process may use: as many as it may run on, and as its container may take."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

CGROUPS: Final = Path("/sys/fs/cgroup")


def cores(cgroups: Path = CGROUPS) -> int:
    """At least 1. A quota of the container is rounded up: with 1.5 cores two are kept busy."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    quota = _quota(cgroups)
    return max(1, min(usable or 1, quota or usable or 1))


def _quota(cgroups: Path) -> int | None:
    """Cores of the container's quota (cgroup v2, then v1), if it has one."""
    try:
        limit, period = (cgroups / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            limit = (cgroups / "cpu/cpu.cfs_quota_us").read_text().strip()
            period = (cgroups / "cpu/cpu.cfs_period_us").read_text().strip()
        except OSError:
            return None
    if not (limit.isdigit() and period.isdigit() and int(period)):  # "max", or -1
        return None
    return -(-int(limit) // int(period))
