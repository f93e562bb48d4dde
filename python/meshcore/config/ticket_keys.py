"""`ticket_keys` of the configuration: a file with the keys of TLS tickets, for several hosts."""

from __future__ import annotations

import base64
import binascii
import codecs
import os
from typing import TYPE_CHECKING, Final

from meshcore.config.file import read_file, why_not_read
from meshcore.errors import Diagnostic

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KEY_BYTES: Final = 48
"""Of one key (rust/meshcore-core/src/tls/tickets.rs)."""
# Each is tried with each ticket that is shown.
MAX_KEYS: Final = 8
MAX_FILE_BYTES: Final = 4096
# Of Envoy, and of HAProxy and nginx with AES-256; theirs of 48 are as ours.
_ELSEWHERE_BYTES: Final = (80,)
# Of 48 random bytes some 44 are different; fewer than these never are.
_LEAST_DIFFERENT: Final = 16
_MAKE: Final = "`openssl rand -base64 48`"
_PACK: Final = "`openssl base64 -A -in FILE` makes a line of a key of 48 bytes"


def read_keys(path: str) -> bytes:
    """What is in a file of keys, up to more than it may hold. Raises `OSError`."""
    return read_file(path, MAX_FILE_BYTES)


def keys_in(content: bytes) -> tuple[bytes, ...]:
    """The keys in what was read of a file, one to a line in Base64. The first seals, all open.

    Raises `ValueError`, which repeats nothing of what is in it.
    """
    if len(content) > MAX_FILE_BYTES:
        raise ValueError(f"holds more than keys: at most {MAX_FILE_BYTES} bytes")
    content = content.removeprefix(codecs.BOM_UTF8)
    try:
        content.decode()
    except UnicodeDecodeError:
        hint = f"{_MAKE} makes another" if len(content) % KEY_BYTES else _PACK
        message = f"holds {len(content)} bytes that are no text: keys are in Base64, {hint}"
        raise ValueError(message) from None
    lines = [(number, line.strip()) for number, line in enumerate(content.splitlines(), 1)]
    lines = [(number, line) for number, line in lines if line and not line.startswith(b"#")]
    keys: dict[bytes, int] = {}
    for number, line in lines:
        key = _key(number, line, is_behind_key=bool(keys))
        if (first := keys.setdefault(key, number)) != number:
            raise ValueError(f"holds a key twice, in lines {first} and {number}")
    if not keys:
        raise ValueError(f"holds no key: {_MAKE} makes one")
    if len(keys) > MAX_KEYS:
        raise ValueError(f"holds {len(keys)} keys: at most {MAX_KEYS}")
    return tuple(keys)


def _key(number: int, line: bytes, *, is_behind_key: bool) -> bytes:
    try:
        key = base64.b64decode(line, validate=True)
    except binascii.Error:
        raise ValueError(f"line {number} is no Base64: {_MAKE} makes a key") from None
    if len(key) != KEY_BYTES:
        message = f"line {number} holds {len(key)} bytes: a key has {KEY_BYTES}"
        if len(key) in _ELSEWHERE_BYTES:
            message = f"{message}, and those of other programs are of no use here"
        elif is_behind_key:
            message = f"{message} and a line of its own, so a longer one that is folded is none"
        raise ValueError(f"{message}: {_MAKE} makes one")
    if len({*key}) < _LEAST_DIFFERENT:
        raise ValueError(f"line {number} is no random key: {_MAKE} makes one")
    return key


def check_ticket_keys(file: object, folder: Path | None) -> Iterator[Diagnostic]:
    """What is wrong with the file of keys; it is read."""
    if isinstance(file, str) and file:
        path = file if folder is None else os.path.join(folder, file)
        try:
            keys_in(read_keys(path))
        except OSError as error:
            yield Diagnostic(("ticket_keys",), *why_not_read(file, path, error))
        except ValueError as error:
            yield Diagnostic(("ticket_keys",), f"{path} {error}")
