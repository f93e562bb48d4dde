"""What shared limiters have counted and not published yet.

A limiter that is no longer used publishes it by itself. For those that are there when the process
ends it is published then; a child that was forked leaves it to its parent.
"""

from __future__ import annotations

import atexit
import os
from multiprocessing import util
from typing import TYPE_CHECKING, TypeVar
from weakref import WeakSet

if TYPE_CHECKING:
    from meshcore._core import BucketCore, ClientsCore

    L = TypeVar("L", bound=BucketCore | ClientsCore)

_kept: WeakSet[BucketCore | ClientsCore] = WeakSet()


def kept(limiter: L) -> L:
    """The limiter, whose calls are published at the latest when the process ends."""
    _kept.add(limiter)
    return limiter


def _publish() -> None:
    for limiter in _kept:
        limiter._publish()


def _forget() -> None:
    for limiter in _kept:
        limiter._forget()


def _end_with_children(_of: object = None) -> None:
    # Children of multiprocessing end by os._exit, behind its own finalizers alone.
    util.Finalize(None, _publish, exitpriority=0)


os.register_at_fork(after_in_child=_forget)
atexit.register(_publish)
_end_with_children()
util.register_after_fork(_publish, _end_with_children)
