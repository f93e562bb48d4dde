"""A handler of a signal that raises between two instructions of the library."""

from __future__ import annotations

import gc
import os
import random
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

from meshcore.library.stacks import LEAVING, STACKING

LIBRARY = f"{os.sep}meshcore{os.sep}library{os.sep}"
# What else is broken off: an `ExitStack`, if that is asked for, and a clock of a program's own.
STACKS = STACKING | LEAVING
CLOCK = "clock_of_its_own"


class Interrupted(BaseException):
    """What the handler raises."""


class Handler:
    """Raises before the instruction of this number, of all that this thread does in the library."""

    def __init__(self, at: int, stacks: bool) -> None:
        self.left, self.stacks = at, stacks

    def frame(self, frame: FrameType, _event: str, _arg: object) -> Any:
        code = frame.f_code
        # A statement `with breaker:` ends by instructions among which no handler runs; what they
        # call is tried.
        known = (
            LIBRARY in code.co_filename or (self.stacks and code in STACKS) or code.co_name == CLOCK
        )
        if not known or code.co_qualname.startswith("_of_coroutine."):
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return self.instruction

    def instruction(self, _frame: FrameType, event: str, _arg: object) -> Any:
        if event == "opcode":
            self.left -= 1
            if self.left == 0:
                raise Interrupted
        return self.instruction


def interrupted(at: int, work: Callable[[], object], stacks: bool = False) -> BaseException | None:
    """What that raised; `None` if it was over before."""
    handler = Handler(at, stacks)
    before = sys.gettrace()
    gc.disable()  # what is found would be broken off in an order of its own
    sys.settrace(handler.frame)
    try:
        work()
    except Interrupted as error:
        return error  # with all of its frames, as whoever reports it keeps them
    finally:
        sys.settrace(before)
        gc.enable()
    return None if handler.left > 0 else Interrupted()


# Of instructions, one in so many is tried; which, is by chance. All, with STEP = 1, take minutes.
STEP = int(os.environ.get("INTERRUPT_STEP", "97"))


def everywhere(case: Callable[[int], BaseException | None]) -> int:
    """For one instruction after the other; how many there are. How the threads take turns decides
    that, so the end is where several cases in a row were over before."""
    at, beyond = 1 - STEP + random.randrange(STEP), 0
    while beyond < 5:
        at += STEP
        beyond = beyond + 1 if case(at) is None else 0
    return at


def del_frames(error: BaseException | None) -> None:
    """As when whoever reports it is done: a permit may be in a frame until then."""
    if error is not None:
        error.__traceback__ = error.__context__ = None
    gc.collect()
