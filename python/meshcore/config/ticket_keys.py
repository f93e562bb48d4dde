"""`ticket_keys` of the configuration: a file with the keys of TLS tickets, for several hosts."""

from __future__ import annotations

import base64
import binascii
import os
from typing import TYPE_CHECKING, Final

from meshcore.config.file import read_file
from meshcore.errors import Diagnostic

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KEY_BYTES: Final = 48
"""Of one key (rust/meshcore-core/src/tls/tickets.rs)."""
# Each is tried with each ticket that is shown.
MAX_KEYS: Final = 8
MAX_FILE_BYTES: Final = 4096


def read_keys(path: str) -> bytes:
    """What is in a file of keys, up to more than it may hold. Raises `OSError`."""
    return read_file(path, MAX_FILE_BYTES)


def keys_in(content: bytes) -> tuple[bytes, ...]:
    """The keys in what was read of a file, one to a line in Base64. The first seals, all open.

    Raises `ValueError`, which repeats nothing of what is in it.
    """
    if len(content) > MAX_FILE_BYTES:
        raise ValueError(f"holds more than keys: at most {MAX_FILE_BYTES} bytes")
    lines = [(number, line.strip()) for number, line in enumerate(content.splitlines(), 1)]
    keys = [_key(number, line) for number, line in lines if line and not line.startswith(b"#")]
    if not keys:
        raise ValueError("holds no key: `openssl rand -base64 48` makes one")
    if len(keys) > MAX_KEYS:
        raise ValueError(f"holds {len(keys)} keys: at most {MAX_KEYS}")
    if len({*keys}) < len(keys):
        raise ValueError("holds a key twice")
    return tuple(keys)


def _key(number: int, line: bytes) -> bytes:
    try:
        key = base64.b64decode(line, validate=True)
    except binascii.Error:
        raise ValueError(f"line {number} is no Base64") from None
    if len(key) != KEY_BYTES:
        raise ValueError(f"line {number} holds {len(key)} bytes: a key has {KEY_BYTES}")
    return key


def check_ticket_keys(file: object, folder: Path | None) -> Iterator[Diagnostic]:
    """What is wrong with the file of keys; it is read."""
    if isinstance(file, str) and file:
        path = file if folder is None else os.path.join(folder, file)
        try:
            keys_in(read_keys(path))
        except OSError as error:
            yield Diagnostic(("ticket_keys",), f"cannot read {path}: {error.strerror}")
        except ValueError as error:
            yield Diagnostic(("ticket_keys",), f"{path} {error}")
