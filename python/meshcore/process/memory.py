"""What the C allocator is told: keep the buffers of reads mapped, give back what many left."""

from __future__ import annotations

import ctypes
import gc
import sys
from typing import Any, Final

from meshcore._core import give_back_pages

# <malloc.h> of glibc.
M_TRIM_THRESHOLD: Final = -1
M_MMAP_THRESHOLD: Final = -3
# Just above the 256,000 bytes that uvloop reads at once: at the default each read may map fresh
# pages, and the kernel's zeroing of them costs more than the copy.
MMAP_THRESHOLD_BYTES: Final = 258_048
TRIM_THRESHOLD_BYTES: Final = 256 * 1024 * 1024
# How many connections must have closed before the free pages between the rest are looked for.
TRIM_CONNECTIONS: Final = 256


# Objects that are made, less those that went, before the collector looks at the young ones: a
# thousand requests in flight are no garbage.
GC_ALLOCATIONS: Final = 20_000


def tune_collector() -> None:
    """Once all is started: what lives now lives as long as the process, and need not be looked at
    again; requests leave no cycles, so what is alive at one time is not worth many looks."""
    gc.freeze()
    gc.set_threshold(GC_ALLOCATIONS, *gc.get_threshold()[1:])


def tune_allocator() -> bool:
    """Serve reads from the heap and keep its top; false where the allocator is not glibc's.

    By ctypes, once at start-up: the native half needs no unsafe call for it.
    """
    mallopt = _function("mallopt")
    if mallopt is None:
        return False
    mallopt.argtypes = [ctypes.c_int, ctypes.c_int]
    mallopt.restype = ctypes.c_int
    return bool(
        mallopt(M_MMAP_THRESHOLD, MMAP_THRESHOLD_BYTES)
        and mallopt(M_TRIM_THRESHOLD, TRIM_THRESHOLD_BYTES)
    )


class FreePages:
    """Hands pages back to the kernel once half of many connections are gone.

    glibc keeps free memory below the top of the heap, and the core's allocator what nothing has
    been asked of since: connections over TLS leave most of both.
    """

    def __init__(self) -> None:
        self._trim = _function("malloc_trim")
        if self._trim is not None:
            self._trim.argtypes = [ctypes.c_size_t]
            self._trim.restype = ctypes.c_int
        self._peak = 0

    def observe(self, connections: int) -> bool:
        """Told now and then how many are open; true when pages were looked for.

        Takes milliseconds then, so that it waits for a number worth it.
        """
        self._peak = max(self._peak, connections)
        gone = self._peak - connections
        if gone < TRIM_CONNECTIONS or gone < connections:
            return False
        self._peak = connections
        if self._trim is not None:
            self._trim(0)
        give_back_pages()
        return True


def _function(name: str) -> Any:
    """A function of glibc's allocator, or ``None`` elsewhere."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
