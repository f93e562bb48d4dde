"""What the annotations of a class say of the arguments that a configuration gives it."""

from __future__ import annotations

import functools
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Literal,
    NewType,
    Protocol,
    Self,
    TypedDict,
    Unpack,
)

import pytest

from meshcore import Layer
from meshcore.process.layer_arguments import argument_problems

if TYPE_CHECKING:
    from decimal import Decimal  # noqa: F401 - named in an annotation

Ttl = NewType("Ttl", str)


class Rules(TypedDict, total=False):
    name: str
    weights: list[int]


class Needed(TypedDict):
    header: str


class Speaks(Protocol):
    def speak(self) -> None: ...


def made(annotation: Any) -> type[Layer]:
    class Made(Layer):
        def __init__(self, it: Any) -> None: ...

    Made.__init__.__annotations__["it"] = annotation
    return Made


def told(layer: type, **arguments: Any) -> list[str]:
    return [
        f"{'.'.join(map(str, f.steps))}: {f.message}" + (f" ({f.hint})" if f.hint else "")
        for f in argument_problems(layer, arguments)
    ]


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (str, ""),
        (int, 1),
        (float, 1),
        (float, 1.5),
        (bool, False),
        (None, None),
        (Any, [{}]),
        (object, 1),
        ("str | None", None),
        ("Decimal", "1.5"),  # what is there for type checkers alone
        ("1 +", 1),
        (list, [1, "a"]),
        (list[int], []),
        (list[list[int] | None], [[1], None]),
        (Sequence[str], ["a"]),
        (Iterable[int], [1]),
        (dict, {"a": 1}),
        (dict[str, int], {"a": 1}),
        (Mapping[str, "list[int]"], {"a": [1]}),
        (Mapping[str, Any], {"a": None}),
        (str | int, 1),
        (Literal["a", 1, None], None),
        (Annotated[int, "of seconds"], 1),
        (Ttl, "30s"),
        (Rules, {"name": "a"}),
        (Speaks, "nothing that can be known"),
    ],
)
def test_what_fits(annotation: Any, value: Any) -> None:
    assert told(made(annotation), it=value) == []


@pytest.mark.parametrize(
    ("annotation", "value", "problem"),
    [
        (str, 1, "it: expected a text, got 1"),
        (str, None, "it: expected a text, got nothing"),
        (int, True, "it: expected a whole number, got true"),
        (int, 1.5, "it: expected a whole number, got 1.5"),
        (int, "5", "it: expected a whole number, got '5'"),
        (float, True, "it: expected a number, got true"),
        (bool, 1, "it: expected true or false, got 1"),
        (None, 1, "it: expected null, got 1"),
        ("str | None", 1, "it: expected a text, got 1"),
        (str | int | None, 1.5, "it: expected a text or a whole number or null, got 1.5"),
        (list[int], {"a": 1}, "it: expected a list, got a mapping"),
        (list[int], [1, "b"], "it.1: expected a whole number, got 'b'"),
        (list[list[int]], [[], ["b"]], "it.1.0: expected a whole number, got 'b'"),
        (Sequence[str], "a.example", "it: expected a list, got 'a.example'"),
        (Iterable[str], "a.example", "it: expected a list, got 'a.example'"),
        (Mapping[str, int], [1], "it: expected a mapping, got a list"),
        (dict[str, int] | None, {"a": "b"}, "it.a: expected a whole number, got 'b'"),
        (
            Literal["all", "some"],
            "sone",
            "it: expected 'all' or 'some', got 'sone' (did you mean some?)",
        ),
        (Literal[1], True, "it: expected 1, got true"),
        (Ttl, 30, "it: expected a text, got 30"),
        (timedelta, "30s", "it: expected timedelta, got '30s'"),
        (tuple[int, ...], [1], "it: expected tuple, got a list"),
        (Rules, {"nane": "a"}, "it.nane: unknown key (did you mean name?)"),
        (Rules, {"weights": ["a"]}, "it.weights.0: expected a whole number, got 'a'"),
        (Needed, {}, "it.header: required key is missing"),
        (Needed, "x", "it: expected a mapping, got 'x'"),
    ],
)
def test_what_does_not(annotation: Any, value: Any, problem: str) -> None:
    assert told(made(annotation), it=value) == [problem]


class Tenant(Layer):
    def __init__(self, header: str, *, most: int = 5) -> None: ...


class Inherits(Tenant):
    pass


@dataclass
class Data(Layer):
    header: str
    most: int = 5


class Plain(Layer):
    pass


class Many(Layer):
    def __init__(self, **values: int) -> None: ...


class Made(Layer):
    def __new__(kind, **values: int) -> Self:
        return super().__new__(kind)


class Behind(Layer):
    def __init__(self, /, **values: int) -> None: ...


class Typed(Layer):
    def __init__(self, **values: Unpack[Needed]) -> None: ...


class ByPosition(Layer):
    def __init__(self, header: str, /) -> None: ...


class Wrapped(Layer):
    @functools.wraps(Tenant.__init__)  # type: ignore[misc]  # it is one, too
    def __init__(self, *args: Any, **kwargs: Any) -> None: ...


@pytest.mark.parametrize("layer", [Tenant, Inherits, Data, Wrapped])
def test_names_of_arguments(layer: type) -> None:
    assert told(layer, header="x") == []
    assert told(layer, header="x", most=1) == []
    assert told(layer) == ["header: required argument is missing"]
    assert told(layer, heder="x", most="1") == [
        "heder: unknown argument (did you mean header?)",
        "most: expected a whole number, got '1'",
        "header: required argument is missing",
    ]
    assert told(layer, header="x", q=1) == ["q: unknown argument (known: header, most)"]


def test_classes_that_take_others() -> None:
    assert told(Plain) == []
    assert told(Plain, header="x") == ["header: unknown argument: the class takes no arguments"]
    assert told(Many, a=1, b="x") == ["b: expected a whole number, got 'x'"]
    assert told(Typed, heder="x") == [
        "heder: unknown argument (did you mean header?)",
        "header: required argument is missing",
    ]
    assert told(ByPosition) == [": its class takes header by position only"]


@pytest.mark.parametrize(("layer", "name"), [(Many, "self"), (Made, "kind")])
def test_a_class_that_takes_any_name_does_not_take_its_own(layer: type, name: str) -> None:
    with pytest.raises(TypeError):
        layer(**{name: 1})
    assert told(layer, **{name: 1}) == [
        f"{name}: unknown argument: the class has this name for itself"
    ]
    assert told(layer, other=1) == []


def test_a_class_takes_any_name_where_it_has_none_for_itself() -> None:
    Behind(**{"self": 1})
    assert told(Behind, **{"self": 1}) == []


def test_a_worker_has_no_need_of_the_models() -> None:
    """They would be a third of its memory."""
    code = "import sys, meshcore.process.worker_process as _; print('pydantic' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert done.stdout == "False\n"
