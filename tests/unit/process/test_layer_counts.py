"""What layers declare that they count, and where it goes."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest

from meshcore import Layer, LayerError
from meshcore._core import Engine
from meshcore.process.layer_counts import MOST, bind, count_problems, declared, families
from meshcore.process.layers import given_layers

NO_NAME = (
    "counts: {!r} is not a name: up to 48 of a-z, 0-9 and _, a letter first, and no _total at the "
    "end, which is added"
)


def kind(counts: object) -> type[Layer]:
    return type("Made", (Layer,), {"counts": counts})


@pytest.mark.parametrize(
    "counts",
    [
        {},
        {"a": "b"},
        {"tenant_unknown": "Requests without a tenant.", "x" * 48: "é" * 200},
        {f"n{i}": "One." for i in range(MOST)},
    ],
)
def test_counts_that_can_be(counts: dict[str, str]) -> None:
    assert list(count_problems(kind(counts))) == []


@pytest.mark.parametrize(
    "name", ["", "A", "1a", "a-b", "a.b", "_a", "a_total", "é", "x" * 49, "a\n", "a b", 5, None]
)
def test_names_that_are_none(name: object) -> None:
    assert list(count_problems(kind({name: "What it is."}))) == [NO_NAME.format(name)]


@pytest.mark.parametrize("text", ["", "  ", "a\nb", "x" * 201, None, 5, ["a"]])
def test_help_that_is_none(text: object) -> None:
    (problem,) = count_problems(kind({"a": text}))
    assert problem == "counts: a has to say in a line of up to 200 characters what it is"


def test_there_are_not_too_many() -> None:
    (problem,) = count_problems(kind({f"n{i}": "One." for i in range(MOST + 1)}))
    assert problem == "counts has 17 names, and 16 are the most"


@pytest.mark.parametrize("counts", [["a"], "a", 5, None, property(lambda self: {})])
def test_what_is_no_mapping_is_refused_with_the_layer(counts: object) -> None:
    told = "python layer mine: counts has to be a mapping of names to what each counts"
    with pytest.raises(LayerError, match=told):
        given_layers({"mine": kind(counts)()})


class Counting(Layer):
    counts: ClassVar = {"seen": "Those that were seen."}


def test_only_what_is_declared_is_counted_and_only_up() -> None:
    layer = Counting()
    layer.count("seen")  # in no configuration
    with pytest.raises(ValueError, match=r"^'other' is not among the counts of Counting$"):
        layer.count("other")
    for n in (-1, 2**32 + 1):
        with pytest.raises(ValueError, match=rf"^counts only grow, by {2**32} at most .*: {n}$"):
            layer.count("seen", n)
    with pytest.raises(ValueError, match="among the counts of Layer"):
        Layer().count("seen")


class Stub:
    """An engine with two layers in force; one name has no place."""

    def __init__(self) -> None:
        self.added: list[tuple[str, str, int]] = []

    def count_layer(self, layer: str, name: str, n: int) -> bool:
        self.added.append((layer, name, n))
        return name != "full"

    def layer_count(self, layer: str, name: str) -> int | None:
        return None if layer == "gone:Gone" else len(layer)


@dataclass(frozen=True)
class Frozen(Layer):
    counts: ClassVar = {"seen": "Seen by one that is frozen.", "full": "Too many."}


def test_a_layer_counts_under_what_the_configuration_calls_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    stub: Any = Stub()
    counting, frozen, silent = Counting(), Frozen(), Layer()
    secret = 'a:Counting {"token":"secret"}'
    bind([(secret, counting), ("b:again", counting), ("c:Frozen", frozen), ("d:D", silent)], stub)
    counting.count("seen", 3)
    frozen.count("seen")
    assert stub.added == [("a:Counting", "seen", 3), ("c:Frozen", "seen", 1)]
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            frozen.count("full")
    assert caplog.messages == [
        "layer c:Frozen: there is no place for full beside the names that it counted by before, "
        "until it has left the configuration"
    ]


class Text(str):
    """Of a class that another process does not have."""

    __slots__ = ()


def test_what_is_told_is_plain_and_right() -> None:
    odd = kind({Text("seen"): Text("Seen.")})()
    wrong = Counting()
    type(wrong).counts = {"bad name": "x"}
    try:
        found = declared(
            [("odd", odd), ("wrong", wrong), ('odd {"n":1}', Frozen()), ("e", Layer())]
        )
    finally:
        type(wrong).counts = {"seen": "Those that were seen."}
    assert found == {"odd": {"seen": "Seen by one that is frozen.", "full": "Too many."}}
    told = declared([("odd", odd)])["odd"]
    assert {type(x) for pair in told.items() for x in pair} == {str}


def test_layers_with_one_name_are_one_family() -> None:
    stub: Any = Stub()
    counts = {"gone:Gone": {"seen": "0"}, "b": {"seen": "2", "other": "3"}, "aa": {"seen": "1"}}
    assert [(x.name, x.grows, x.help, x.samples) for x in families(stub, counts)] == [
        ("meshcore_layer_other_total", True, "3", (((("layer", "b"),), 1),)),
        (
            "meshcore_layer_seen_total",
            True,
            "1",
            (((("layer", "aa"),), 2), ((("layer", "b"),), 1)),
        ),
    ]


def test_an_engine_without_the_layer_counts_nothing() -> None:
    engine = Engine(seed=1)
    assert engine.count_layer("a:A", "seen", 1)
    assert engine.layer_count("a:A", "seen") is None
