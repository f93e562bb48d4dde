"""Where a configuration names layers in Python, and so where stands what is wrong with one."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from meshcore.errors import ConfigError, Diagnostic

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from meshcore.config.layers import ListenerLayer
    from meshcore.config.load import Loaded
    from meshcore.config.model import Config
    from meshcore.errors import LayerError

    Path = tuple[str | int, ...]


def python_layers(config: Config) -> Iterator[tuple[Path, str]]:
    """Every place where a layer in Python is named, and its key."""
    lists: list[tuple[Path, Sequence[ListenerLayer]]] = [
        *((("listeners", name), listener.layers) for name, listener in config.listeners.items()),
        *((("routes", number), route.layers) for number, route in enumerate(config.routes)),
    ]
    for path, layers in lists:
        for number, layer in enumerate(layers):
            if layer.python is not None:
                yield (*path, "layers", number, "python"), layer.python.key


def problems_at(path: Path, error: LayerError) -> list[Diagnostic]:
    """What is wrong with the layer that is named at a path: its arguments, or all of it."""
    within = [replace(problem, steps=(*path, "with", *problem.steps)) for problem in error.problems]
    return within or [Diagnostic(path, str(error))]


def placed(error: LayerError, loaded: Loaded) -> ConfigError:
    """What a worker says of a layer, with the places in the file."""
    problems = [
        problem
        for path, key in python_layers(loaded.config)
        if key == error.key
        for problem in problems_at(path, error)
    ]
    return ConfigError(loaded.placed(problems or [Diagnostic((), str(error))]))
