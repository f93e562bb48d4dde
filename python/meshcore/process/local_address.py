"""Where the program that serves a source is found on its host, without an admin port."""

from __future__ import annotations

import hashlib
import os


def local_name(identity: bytes) -> str:
    """The name of its unix socket, of what its source's `Source.identity` is: in Linux's abstract
    name space, so that it leaves nothing behind."""
    try:  # containers may share a network, and with it these names, but no process
        processes = os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        processes = 0
    digest = hashlib.sha256(identity + b"\0%d" % processes).hexdigest()[:32]
    return f"\0meshcore/{os.geteuid()}/{digest}"
