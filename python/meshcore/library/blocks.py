"""The `with` blocks of a breaker whose permits are not all alike: whose is the one that ends?

A block is left in the frame that entered it, wherever that runs: a generator, a coroutine or an
async generator may go on in another context or thread. So what enters by a `with` statement is
known by the frame. A caller of `__enter__` (`ExitStack`, a class of one's own) has left that
frame when the block ends: such are known by their context, the last that it entered being the first
that it leaves. What is left elsewhere is known if there is only one kind that it can be.

A handler of a signal may raise between any two steps. The core then asks again, so what it asks for
may be done in part already.
"""

from __future__ import annotations

import dis
from contextvars import ContextVar, Token
from itertools import chain
from threading import get_ident
from typing import TYPE_CHECKING, Any, Final

from meshcore.library.stacks import entered_by, is_moving, leaving, noted

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from weakref import ref

    from meshcore._core import Permit

# What a `with` statement is doing while it enters: one instruction up to CPython 3.13, later a call
# of what was looked up just before.
_ENTERING: Final = {dis.opmap.get("BEFORE_WITH"), dis.opmap.get("BEFORE_ASYNC_WITH")}
_LOOKED_UP: Final = dis.opmap.get("LOAD_SPECIAL")


class Block:
    """One block, or call, that is under way."""

    __slots__ = ("doubtful", "exits", "frame", "kind", "outer", "permit", "thread", "token")

    def __init__(self, permit: Permit, outer: Block | None) -> None:
        """One that begins within `outer`."""
        self.permit: Permit | None = permit
        self.kind = permit.kind
        self.outer = outer
        self.thread = get_ident()
        self.frame: FrameType | None = None
        self.token: Token[Block | None] | None = None
        self.doubtful = False
        self.exits: ref[Any] | None = None
        """Of the `ExitStack` that is to leave it, those that it has noted."""


class Blocks:
    """The blocks of one breaker, for any thread under the GIL."""

    __slots__ = ("_by_frame", "_claims", "_others", "_top")

    def __init__(self) -> None:
        """No block."""
        self._by_frame: dict[FrameType, list[Block]] = {}
        self._others: dict[Block, bool] = {}
        # Those that are being left, and by whom: of threads that would have one, the first has it.
        self._claims: dict[Block, list[Block]] = {}
        self._top: ContextVar[Block | None] = ContextVar("block", default=None)

    def begin(self, permit: Permit) -> Block:
        """A block whose holder knows when it is over (`over`). O(1)."""
        block = Block(permit, self._innermost())
        # A token remembers what was there before: not what is over, or they would be a chain.
        if self._top.get() is not block.outer:
            self._top.set(block.outer)
        block.token = self._top.set(block)
        return block

    def over(self, block: Block) -> None:
        """It ends, in whatever context. O(1), and for those around it that are over, once each."""
        block.permit = block.token = block.exits = None
        # Tasks that began inside have it below their own blocks. What is over would else hold all
        # that began before it, over and over.
        outer = block.outer
        while outer is not None and outer.permit is None:
            outer = outer.outer
        block.outer = outer
        if self._top.get() is block:
            self._top.set(block.outer)

    def enclosing(self) -> Permit | None:
        """The permit of the block in which this context is."""
        innermost = self._innermost()
        return None if innermost is None else innermost.permit

    def keep(self, permit: Permit, frame: FrameType, lose: Callable[[Block], object]) -> None:
        """A block that `frame` enters; `lose` is called if nothing is left to leave it. O(1)."""
        block = self.begin(permit)
        if _is_with(frame):
            block.frame = frame
            self._by_frame.setdefault(frame, []).append(block)
        else:
            block.exits = entered_by(frame, lambda _gone: lose(block))
            self._others[block] = True

    def lost(self, breaker: object, entering: FrameType) -> list[Block]:
        """Those that an `ExitStack` has entered and will not leave, for a caller that would enter
        another from that frame. O(blocks without a frame)."""
        if not self._others:
            return []
        entered: dict[int, tuple[Any, list[Block]]] = {}
        for block in list(self._others):
            exits = None if block.exits is None else block.exits()
            if exits is not None and block not in self._claims:
                entered.setdefault(id(exits), (exits, []))[1].append(block)
        lost: list[Block] = []
        for exits, blocks in entered.values():
            of_stack = blocks[noted(exits, breaker) :]
            if of_stack and not is_moving(exits, entering):
                lost += of_stack
        return lost

    def let_go(self, claim: list[Block], block: Block) -> None:
        """A block that cannot be left any more says nothing."""
        if claim or (block in self._others and self._take(claim, block)):
            if block.permit is not None:
                block.permit.cancel()
            self._drop(block)

    def forget(self, permit: Permit) -> None:
        """A permit's block is none, if it had become one in this context. O(nesting)."""
        block = self._top.get()
        while block is not None and block.permit is not permit:
            block = block.outer
        if block is not None:
            self._drop(block)

    def inherit(self) -> int:
        """In the child of a fork: know no more of those of other threads, which are not there; how
        many are left. O(blocks)."""
        here = get_ident()
        for block in self._known():
            if block.thread != here:
                if block.permit is not None:
                    block.permit.cancel()
                self._drop(block)
        return len(self._known())

    def find(self, claim: list[Block], frame: FrameType, counted: int | None) -> Block | bool:
        """Which block ends here, for the holder of this ``claim``.

        ``counted``: the kind of those that are only counted, if there are any. If it is one of
        them, whether its outcome counts. O(1) by frame, O(nesting) by context, else O(blocks).
        """
        block = (
            claim[0]
            if claim
            else self._of_frame(claim, frame)
            or self._of_stack(claim, frame)
            or self._of_context(claim)
        )
        if block is not None:
            return block
        kinds = {each.kind for each in list(self._others)}
        if counted is not None:
            if kinds <= {counted}:
                return True
            # One of those may have ended, and stands for the counted one from now on.
            for each in list(self._others):
                each.doubtful = True
            return False
        block = self._any(claim)
        if block is None:
            return False
        block.doubtful = block.doubtful or len(kinds) > 1
        return block

    def end(self, block: Block, raised: BaseException | None) -> None:
        """Settle a block that was found."""
        permit = block.permit
        if permit is not None:
            if block.doubtful:
                permit.cancel()
            else:
                permit.end(raised)
        self._drop(block)

    def _known(self) -> list[Block]:
        return [*self._others, *chain.from_iterable(self._by_frame.values())]

    def _drop(self, block: Block) -> None:
        if block.frame is not None:
            blocks = self._by_frame.get(block.frame, [])
            if block in blocks:
                blocks.remove(block)
            if not blocks:
                self._by_frame.pop(block.frame, None)
        self._others.pop(block, None)
        self._claims.pop(block, None)
        self.over(block)

    def _innermost(self) -> Block | None:
        block = self._top.get()
        while block is not None and (block.permit is None or block.permit.settled):
            block = block.outer
        return block

    def _of_frame(self, claim: list[Block], frame: FrameType) -> Block | None:
        for block in reversed(self._by_frame.get(frame, ())):
            if self._take(claim, block):
                return block
        return None

    def _of_stack(self, claim: list[Block], frame: FrameType) -> Block | None:
        """The last that the `ExitStack` entered which leaves, in whatever context."""
        exits = leaving(frame)
        if exits is None:
            return None
        for block in reversed(list(self._others)):
            if block.exits is not None and block.exits() is exits and self._take(claim, block):
                return block
        return None

    def _of_context(self, claim: list[Block]) -> Block | None:
        """The last of those without a frame that this very context entered, not one that it is a
        copy of."""
        top = block = self._top.get()
        while block is not None:
            token = block.token
            is_known = block.frame is not None or block.exits is not None
            if not is_known and token is not None and block in self._others:
                try:
                    self._top.reset(token)
                    self._top.set(top)
                except ValueError:  # another context's
                    return None
                except RuntimeError:  # its leaving was broken off, or another thread has it
                    pass
                return block if self._take(claim, block) else None
            block = block.outer
        return None

    def _any(self, claim: list[Block]) -> Block | None:
        """One of those without a frame, the oldest first; with one, if there is no other."""
        # A stack finds its own.
        for block in sorted(list(self._others), key=lambda block: block.exits is not None):
            if self._take(claim, block):
                return block
        for frame in list(self._by_frame):
            found = self._of_frame(claim, frame)
            if found is not None:
                found.doubtful = True
                return found
        return None

    def _take(self, claim: list[Block], block: Block) -> bool:
        """Whether it is not taken."""
        if self._claims.setdefault(block, claim) is not claim:
            return False
        claim.append(block)
        return True


def _is_with(frame: FrameType) -> bool:
    code, at = frame.f_code.co_code, frame.f_lasti
    if at < 2:
        return False
    return code[at] in _ENTERING or (_LOOKED_UP is not None and code[at - 2] == _LOOKED_UP)
