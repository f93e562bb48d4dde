"""Files that a configuration names, read without waiting."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

# Far more than any chain, and some 600,000 certificates that were revoked.
MAX_PEM_BYTES: Final = 16 << 20


def read_file(path: str | Path, most: int) -> bytes:
    """What is in a file, up to a byte more than `most`. Raises `OSError`, also for a pipe: to read
    one would be to wait for its other end."""
    with open(path, "rb", opener=_open_file) as file:
        return file.read(most + 1)


def _open_file(path: str, flags: int) -> int:
    fd = os.open(path, flags | os.O_NONBLOCK)
    mode = os.fstat(fd).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # of a directory `open` says it
        os.close(fd)
        raise OSError(0, "not a file")
    return fd


def read_pem(path: str) -> bytes:
    """What is in a file of certificates or a key. Raises `OSError`."""
    content = read_file(path, MAX_PEM_BYTES)
    if len(content) > MAX_PEM_BYTES:
        raise OSError(errno.EFBIG, f"larger than {MAX_PEM_BYTES >> 20} MiB")
    return content
