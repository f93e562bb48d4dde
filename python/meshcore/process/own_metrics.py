"""What the program itself takes of the host, by the names that Prometheus' own clients use; all its
processes count together."""

from __future__ import annotations

import os
import resource
import sys
import time
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from meshcore._core import __version__
from meshcore.process.process_metrics import counter, gauge, gauges

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from meshcore.process.process_metrics import Family

_TICK_S: Final = 1 / os.sysconf("SC_CLK_TCK")
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
# Fields of /proc/PID/stat behind the name, which may hold blanks (proc(5)).
_UTIME, _STIME, _STARTED, _RSS = 11, 12, 19, 21


class Taken(NamedTuple):
    """What one process takes."""

    cpu_s: float
    resident_bytes: int
    files: int


def _stat(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _taken(pid: int) -> Taken | None:
    """``None``: it is gone. O(open files)."""
    try:
        stat = _stat(pid)
        files = len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return None
    cpu_s = (int(stat[_UTIME]) + int(stat[_STIME])) * _TICK_S
    return Taken(cpu_s, int(stat[_RSS]) * _PAGE_BYTES, files)


@cache
def _started_s() -> float:
    """When this process was started, in seconds since 1970."""
    since_boot_s = time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.time() - since_boot_s + int(_stat(os.getpid())[_STARTED]) * _TICK_S


def build_info() -> Family:
    """Which program it is."""
    return gauges(
        "meshcore_build_info",
        "1; the labels say which program it is.",
        {(("version", __version__), ("python", sys.version.split()[0])): 1},
    )


def families(workers: Iterable[int]) -> Iterator[Family]:
    """Of this process, of ``workers``, by their numbers, and of those that have ended. O(open
    files of all)."""
    taken = [each for pid in (os.getpid(), *workers) if (each := _taken(pid)) is not None]
    # Those that have ended count on: the sum is never less than it was.
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = ended.ru_utime + ended.ru_stime + sum(each.cpu_s for each in taken)
    yield counter("process_cpu_seconds_total", "Time of processors, of all processes.", cpu_s)
    yield gauge(
        "process_resident_memory_bytes",
        "Resident memory of all processes; what they share counts for each.",
        sum(each.resident_bytes for each in taken),
    )
    yield gauge("process_open_fds", "Open files of all processes.", sum(x.files for x in taken))
    yield gauge(
        "process_max_fds",
        "Files that each process may have open.",
        resource.getrlimit(resource.RLIMIT_NOFILE)[0],
    )
    yield gauge(
        "process_start_time_seconds",
        "When the program was started, in seconds since 1970.",
        _started_s(),
    )
