"""Certificates that are in memory, for a library that only reads files."""

from __future__ import annotations

import os
import sys
import tempfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl


def load_chain(context: ssl.SSLContext, chain_pem: bytes, key_pem: bytes) -> None:
    """Give a context its certificate. The key touches no disk where the system has memfds.

    Raises `ssl.SSLError` when they do not belong together.
    """
    whole = key_pem + b"\n" + chain_pem
    if sys.platform != "linux":
        with tempfile.NamedTemporaryFile() as file:  # mode 0600
            file.write(whole)
            file.flush()
            context.load_cert_chain(file.name)
        return
    fd = os.memfd_create("certificate")
    try:
        os.write(fd, whole)
        context.load_cert_chain(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)
