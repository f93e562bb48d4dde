"""Files that a configuration names, read without waiting."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
from typing import TYPE_CHECKING, Final

from meshcore.config.document import MAX_BYTES

if TYPE_CHECKING:
    from pathlib import Path

# Far more than any chain, and some 600,000 certificates that were revoked.
MAX_PEM_BYTES: Final = 16 << 20
# What is said of names that are none.
_NO_NAMES: Final = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG)
_PEM: Final = "-----BEGIN "
# As many characters as 32 bytes have in Base64 or in hexadecimal digits.
_LONG_WORD: Final = re.compile(r"(?<!\S)(?:[A-Za-z0-9+/_=-]{43,}|[0-9a-fA-F]{64,})(?!\S)")
# Stands for the SHA-256 of a file that is not there.
NO_FILE: Final = b""


def read_file(path: str | Path, most: int) -> bytes:
    """What is in a file, up to a byte more than `most`. Raises `OSError`, also for a pipe: to read
    one would be to wait for its other end."""
    with open(path, "rb", opener=_open_file) as file:
        return file.read(most + 1)


def digest_of(path: str | Path) -> bytes:
    """The SHA-256 of what is in a file, by which one that was read is known again; `NO_FILE` where
    it cannot be read. What is longer than any text of a configuration is another than that, and
    than whatever that names. O(bytes)."""
    try:
        return hashlib.sha256(read_file(path, MAX_BYTES)).digest()
    except OSError:
        return NO_FILE


def open_to_all(path: str) -> str | None:
    """What is to be said of a file of secrets that every user can read or change."""
    try:
        mode = stat.S_IMODE(os.stat(path).st_mode)
    except OSError:
        return None  # who reads it says so
    if not mode & (stat.S_IROTH | stat.S_IWOTH):
        return None
    can = "change" if mode & stat.S_IWOTH else "read"
    return f"every user of this machine can {can} {path} (mode {mode:04o})"


def _open_file(path: str, flags: int) -> int:
    fd = os.open(path, flags | os.O_NONBLOCK)
    mode = os.fstat(fd).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # of a directory `open` says it
        os.close(fd)
        raise OSError(0, "not a file")
    return fd


def why_not_read(written: str, path: str, error: OSError) -> tuple[str, str | None]:
    """Why a file cannot be read, and what may be done. What is ``written`` where its name is wanted
    may be what was to be in it: that is not repeated."""
    if error.errno in _NO_NAMES and _may_be_secret(written):
        message = "expected the name of a file: what stands here may be a key, and is not shown"
        return message, "write it to a file that its user alone may read, and name that"
    return f"cannot read {path}: {error.strerror}", None


def _may_be_secret(text: str) -> bool:
    """Names are in small letters, or have a dot, or are below a folder that is there; of random
    words as good as none is such."""
    folder = os.path.dirname(text)
    if len(folder) > 1 and os.path.isdir(folder):
        return False
    return _PEM in text or any(
        re.fullmatch(r"[0-9a-fA-F]+", word)
        or (re.search("[A-Z]", word) and re.search("[a-z]", word) and re.search("[0-9]", word))
        for word in _LONG_WORD.findall(text)
    )


def read_pem(path: str) -> bytes:
    """What is in a file of certificates or a key. Raises `OSError`."""
    content = read_file(path, MAX_PEM_BYTES)
    if len(content) > MAX_PEM_BYTES:
        raise OSError(errno.EFBIG, f"larger than {MAX_PEM_BYTES >> 20} MiB")
    return content


def read_pem_if_there(path: str) -> bytes | None:
    """The same; ``None`` where there is no file yet. What else keeps it from being read, such as a
    folder that is none, raises `OSError`."""
    try:
        return read_pem(path)
    except FileNotFoundError:
        return None
