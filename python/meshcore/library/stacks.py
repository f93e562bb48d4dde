"""What an `ExitStack` has entered, and whether it will leave it.

A handler of a signal may raise between any two steps: a stack may then have entered what it has
noted no exit for, or have taken off the exit of what it did not leave. Such a block is never left.
"""

from __future__ import annotations

import sys
from contextlib import AsyncExitStack, ExitStack
from typing import TYPE_CHECKING, Any, Final
from weakref import ref

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType, FrameType

# Of these a handler may break one off that has entered a block and noted no exit yet.
STACKING: Final = {ExitStack.enter_context.__code__, AsyncExitStack.enter_async_context.__code__}
# These take an exit off before it is made.
LEAVING: Final = {ExitStack.__exit__.__code__, AsyncExitStack.__aexit__.__code__}
_MOVING: Final = STACKING | LEAVING


def caller() -> FrameType:
    """The frame that called what called this."""
    return sys._getframe(2)


def entered_by(frame: FrameType, gone: Callable[[object], object]) -> ref[Any] | None:
    """The exits of the `ExitStack` whose method enters; ``gone`` is called when they are. `pop_all`
    hands them on, so they are gone when what they note is never left."""
    exits = _exits_of(frame, STACKING)
    return None if exits is None else ref(exits, gone)


def leaving(frame: FrameType) -> Any:
    """The exits of the `ExitStack` whose method leaves; `None` if it is none's."""
    return _exits_of(frame, LEAVING)


def noted(exits: Any, manager: object) -> int:
    """How often a stack will leave a context manager. O(exits)."""
    return sum(getattr(leave, "__self__", None) is manager for _, leave in list(exits))


def is_moving(exits: Any, entering: FrameType | None = None) -> bool:
    """Whether their `ExitStack` may have entered what it has yet to note, or be about to leave what
    it has noted no more; ``entering`` is a frame in which it has entered nothing yet. O(frames)."""
    for innermost in list(sys._current_frames().values()):
        frame: FrameType | None = innermost
        while frame is not None:
            if frame is not entering and _exits_of(frame, _MOVING) is exits:
                return True
            frame = frame.f_back
    return False


def _exits_of(frame: FrameType, methods: set[CodeType]) -> Any:
    if frame.f_code not in methods:
        return None
    return getattr(frame.f_locals.get("self"), "_exit_callbacks", None)
