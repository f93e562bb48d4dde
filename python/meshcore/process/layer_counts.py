"""What layers in Python count themselves: names that their classes declare, and their metrics."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from meshcore.config.layer_key import layer_name
from meshcore.process.process_metrics import Family, counters

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from meshcore._core import Engine
    from meshcore.exchange.layers import Layer

    Declared = Mapping[str, Mapping[str, str]]
    """By what the configuration calls a layer, and by name: what is counted."""

MOST: Final = 16
"""How many counts a class may have. The core has places for four times as many, for those of its
earlier versions too."""
MOST_HELP: Final = 200
"""How many characters say what is counted."""
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,47}")

log = logging.getLogger("meshcore.layers")


def count_problems(kind: type[Layer]) -> Iterator[str]:
    """What is wrong with the counts that a class declares."""
    counts: Any = kind.counts
    if not isinstance(counts, Mapping):
        yield "counts has to be a mapping of names to what each counts"
        return
    if len(counts) > MOST:
        yield f"counts has {len(counts)} names, and {MOST} are the most"
    for name, text in counts.items():
        if not isinstance(name, str) or not _NAME.fullmatch(name) or name.endswith("_total"):
            yield (
                f"counts: {name!r} is not a name: up to 48 of a-z, 0-9 and _, a letter first, and "
                "no _total at the end, which is added"
            )
        elif not _is_help(text):
            yield f"counts: {name} has to say in a line of up to {MOST_HELP} characters what it is"


def _is_help(text: object) -> bool:
    return isinstance(text, str) and 0 < len(text.strip()) <= MOST_HELP and text.isprintable()


class LayerCounter:
    """Counts of a layer under what the configuration calls it."""

    __slots__ = ("_engine", "_is_full", "_layer")

    def __init__(self, engine: Engine, layer: str) -> None:
        self._engine = engine
        self._layer = layer
        self._is_full = False

    def add(self, name: str, n: int) -> None:
        """Add to a count; of a layer that has left the configuration nothing is counted."""
        if not self._engine.count_layer(self._layer, name, n) and not self._is_full:
            self._is_full = True
            log.error(
                "layer %s: there is no place for %s beside the names that it counted by before, "
                "until it has left the configuration",
                *(self._layer, name),
            )


def bind(layers: Iterable[tuple[str, Layer]], engine: Engine) -> None:
    """Have layers count in an engine, by the keys under which they are in force; one object that
    has several counts under the first."""
    bound: list[Layer] = []
    for key, layer in layers:
        if type(layer).counts and not any(each is layer for each in bound):
            bound.append(layer)
            # Of a class that forbids it too: a frozen dataclass.
            object.__setattr__(layer, "_meshcore_counter", LayerCounter(engine, layer_name(key)))


def declared(layers: Iterable[tuple[str, Layer]]) -> dict[str, dict[str, str]]:
    """What layers count, by what the configuration calls them; of a class that has changed its
    counts to something that is wrong nothing."""
    found: dict[str, dict[str, str]] = {}
    for key, layer in layers:
        kind = type(layer)
        if kind.counts and not any(count_problems(kind)):
            # A text of a class of its own could not be told without that class.
            texts = {str.__str__(name): str.__str__(text) for name, text in kind.counts.items()}
            found.setdefault(layer_name(key), {}).update(texts)
    return found


def families(engine: Engine, counts: Declared) -> Iterator[Family]:
    """The metrics of all workers. What two layers call alike is one, with the help of the first."""
    by_name: dict[str, tuple[str, dict[tuple[tuple[str, str], ...], float]]] = {}
    for layer, names in sorted(counts.items()):
        for name, text in names.items():
            if (count := engine.layer_count(layer, name)) is not None:
                by_name.setdefault(name, (text, {}))[1][(("layer", layer),)] = count
    for name, (text, values) in sorted(by_name.items()):
        yield counters(f"meshcore_layer_{name}_total", text, values)
