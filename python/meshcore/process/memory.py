"""What the C allocator is told, so that the large buffers of reads stay mapped while in use."""

from __future__ import annotations

import ctypes
import sys
from typing import Final

# <malloc.h> of glibc.
M_TRIM_THRESHOLD: Final = -1
M_MMAP_THRESHOLD: Final = -3
# Just above the 256,000 bytes that uvloop reads at once: at the default each read may map fresh
# pages, and the kernel's zeroing of them costs more than the copy.
MMAP_THRESHOLD_BYTES: Final = 258_048
TRIM_THRESHOLD_BYTES: Final = 256 * 1024 * 1024


def tune_allocator() -> bool:
    """Serve reads from the heap and keep its top; false where the allocator is not glibc's.

    By ctypes, once at start-up: the native half needs no unsafe call for it.
    """
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    mallopt.argtypes = [ctypes.c_int, ctypes.c_int]
    mallopt.restype = ctypes.c_int
    return bool(
        mallopt(M_MMAP_THRESHOLD, MMAP_THRESHOLD_BYTES)
        and mallopt(M_TRIM_THRESHOLD, TRIM_THRESHOLD_BYTES)
    )
