"""A body on its way through hooks of layers: which hook has what of it, and what waits."""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from meshcore._core import Body
from meshcore.exchange.layers import Layer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from meshcore._core import Request, Response
    from meshcore.exchange.ports import Task

    Fields = list[tuple[str, str]]


class Hook(NamedTuple):
    """What one layer does with pieces, or with trailers."""

    layer: Layer
    call: Callable[..., Any]
    of_trailers: bool
    answers: bool = False
    """It may end the request with an `Answer`."""


class Flow:
    """One body, piece by piece: what comes while a hook has a piece waits in order. That is no more
    than a read or a stream's window, for its sender is not read on."""

    __slots__ = (
        "_held",
        "_left",
        "_of_pieces",
        "_of_trailers",
        "_waiting",
        "at_work",
        "data",
        "end",
        "of_request",
        "over",
        "task",
        "trailers",
        "trailers_changed",
        "waits",
    )

    def __init__(self, of_request: bool, of_pieces: list[Hook], of_trailers: list[Hook]) -> None:
        self.of_request = of_request
        self._of_pieces = of_pieces
        self._of_trailers = of_trailers
        self._waiting: deque[tuple[bytes, Body | None, Fields | None]] = deque()
        self._held = False  # something is in hand
        self._left: list[Hook] = []  # those that are to have it, the next one last
        self.data = b""
        """The piece in hand."""
        self.end: Body | None = None
        """What ends the body behind it."""
        self.trailers: Fields | None = None
        """That come with the end."""
        self.trailers_changed = False
        """A layer gave others."""
        self.at_work: Layer | None = None
        """Who had it last."""
        self.task: Task | None = None
        """The hook that is awaited, cancelled with the exchange."""
        self.waits = False
        """A hook has been awaited, and its sender is not read."""
        self.over = False
        """It is not wanted any more."""

    @classmethod
    def of_the_request(cls, layers: Iterable[Layer], request: Request) -> Flow | None:
        """A request's body, from its listener's layers inwards; `None`: none of them asked."""
        of_pieces, of_trailers = [], []
        for layer in layers:
            kind = type(layer)
            if kind.on_request_body is not Layer.on_request_body:
                of_pieces.append(Hook(layer, partial(layer.on_request_body, request), False, True))
            if kind.on_request_trailers is not Layer.on_request_trailers:
                of_trailers.append(Hook(layer, partial(layer.on_request_trailers, request), True))
        return cls(True, of_pieces, of_trailers) if of_pieces or of_trailers else None

    @classmethod
    def of_the_response(
        cls, layers: Iterable[Layer], request: Request, response: Response
    ) -> Flow | None:
        """A response's, from the innermost layer outwards."""
        of_pieces, of_trailers = [], []
        for layer in reversed(list(layers)):
            kind, given = type(layer), (request, response)
            if kind.on_response_body is not Layer.on_response_body:
                of_pieces.append(Hook(layer, partial(layer.on_response_body, *given), False))
            if kind.on_response_trailers is not Layer.on_response_trailers:
                of_trailers.append(Hook(layer, partial(layer.on_response_trailers, *given), True))
        return cls(False, of_pieces, of_trailers) if of_pieces or of_trailers else None

    @property
    def keeps_length(self) -> bool:
        """Whether the body stays as long as it is."""
        return all(hook.layer.keeps_length for hook in self._of_pieces)

    @property
    def shows_trailers(self) -> bool:
        """Whether a layer asked for them."""
        return bool(self._of_trailers)

    def put(self, data: bytes, end: Body | None, trailers: Fields | None) -> None:
        """A piece came; an empty one means nothing unless it is the last."""
        if data or end is not None:
            self._waiting.append((data, end, trailers))

    def take(self) -> bool:
        """Take the next piece in hand, unless there is one; whether there is one now."""
        if not self._held:
            if not self._waiting:
                return False
            self.data, self.end, self.trailers = self._waiting.popleft()
            hooks = self._of_pieces
            if self.trailers is not None:
                hooks = hooks + self._of_trailers
            self._left = hooks[::-1]
            self._held = True
        return True

    def next_hook(self) -> Hook | None:
        """Who is to have what is in hand."""
        if self._left:
            hook = self._left.pop()
            self.at_work = hook.layer
            return hook
        self._held = False
        return None

    def given(self, hook: Hook) -> tuple[Any, ...]:
        """With what it is called."""
        if hook.of_trailers:
            return (list(self.trailers or ()),)
        return self.data, self.end is not None

    def change(self, hook: Hook, made: Any) -> None:
        """Take what a hook made of what is in hand. Raises `TypeError` or `ValueError`, which says
        why it cannot be."""
        if hook.of_trailers:
            try:
                self.end = Body.ending(made)
            except (TypeError, ValueError) as error:
                raise ValueError(f"what cannot be trailers: {error}") from error
            self.trailers = [(name.lower(), value) for name, value in made]
            self.trailers_changed = True
        elif not isinstance(made, bytes):
            raise TypeError(f"{type(made).__name__} for a piece, not bytes or None")
        elif hook.layer.keeps_length and len(made) != len(self.data):
            raise ValueError(f"{len(made)} bytes for {len(self.data)}, and keeps_length is set")
        else:
            self.data = made

    def stop(self) -> None:
        """It is not wanted: what a hook still makes of it is dropped."""
        self.over = True
        self._waiting.clear()
        task, self.task = self.task, None
        if task is not None:
            task.cancel()
