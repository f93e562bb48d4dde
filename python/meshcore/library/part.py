"""How a part of a `SharedState` is pickled: as its state and its name there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, TypeVar

if TYPE_CHECKING:
    from meshcore.library.shared import SharedState

P = TypeVar("P")


class Origin(NamedTuple):
    """By which call of its state a part was made."""

    state: SharedState
    kind: str
    name: str
    rules: dict[str, Any]


def of(origin: Origin, part: P) -> P:
    """The part, which knows from now on where it comes from."""
    part._origin = origin  # type: ignore[attr-defined]
    return part


def reduced(part: object) -> tuple[Any, ...]:
    """``__reduce__`` of every part; `TypeError` for what is not shared."""
    origin: Origin | None = getattr(part, "_origin", None)
    if origin is None:
        kind = type(part).__name__
        raise TypeError(
            f"this {kind} is of this process alone and cannot be copied or pickled: "
            "hand on the object itself, or take one of a SharedState"
        )
    return _again, tuple(origin)


def of_one_process(made: object) -> NoReturn:
    """``__reduce__`` of what no state shares."""
    kind = type(made).__name__
    raise TypeError(
        f"this {kind} is of this process alone and cannot be copied or pickled: make one there"
    )


def shown(part: object, state: str, name: str | None = None) -> str:
    """``__repr__`` of a part: its class, its name if it has one, and how it stands."""
    origin: Origin | None = getattr(part, "_origin", None)
    name = name or (origin and origin.name)
    return f"<{type(part).__name__}{f' {name!r}' if name else ''}: {state}>"


def check_subclass(made: type) -> None:
    """Raise `TypeError` for a class with an ``__init__`` whose arguments no part could take."""
    if "__init__" in vars(made) and "__new__" not in vars(made):
        raise TypeError(
            f"{made.__name__} may not have an __init__ of its own: a part is made of what it is "
            "called with. Hold one in an attribute, or write __new__ too"
        )


def _again(state: SharedState, kind: str, name: str, rules: dict[str, Any]) -> Any:
    return getattr(state, kind)(name, **rules)
