"""Paths that stand for something else than their text, or for what no listener lets pass."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from meshcore.config.warnings.allow import layers
from meshcore.errors import Diagnostic

if TYPE_CHECKING:
    from collections.abc import Iterator

    from meshcore.config.listener import Listener
    from meshcore.config.model import Config
    from meshcore.config.path_match import PathMatch

# `*` alone in a segment or at its end, `{id}`, and `:id` behind a slash. A star inside of a segment
# and a colon behind a word (`/v1/things:batch`) are parts of real paths.
_WILDCARD: Final = re.compile(r"\*(?=/|$)|\{[\w*.]*\}|(?<=/):\w+(?=/|$)")
# By the key of a listener that lets it pass.
_KEPT: Final = {
    "encoded_slash": re.compile("%2f", re.IGNORECASE),
    "encoded_backslash": re.compile(r"%5c|\\", re.IGNORECASE),
}


class _Text(NamedTuple):
    """A path that is no expression."""

    path: tuple[str | int, ...]
    text: str
    listeners: list[Listener]
    """Whose requests it is compared with."""


def _texts(config: Config) -> Iterator[_Text]:
    """Those of routes, and of rules that let pass."""
    for number, route in enumerate(config.routes):
        if route.match.path is not None:
            names = [x for x in route.listeners or config.listeners if x in config.listeners]
            at = ("routes", number, "match", "path")
            yield from _of(at, route.match.path, [config.listeners[name] for name in names])
    for placed in layers(config):
        for number, rule in enumerate(placed.allow.rules):
            for place, one in enumerate(rule.paths or ()):
                path = (*placed.path, "rules", number, "paths", place)
                yield from _of(path, one, placed.listeners)


def _of(
    path: tuple[str | int, ...], match: PathMatch, listeners: list[Listener]
) -> Iterator[_Text]:
    for kind in ("exact", "prefix"):
        text: str | None = getattr(match, kind)
        if text:
            yield _Text((*path, kind), text, listeners)


def literal_wildcards(config: Config) -> Iterator[Diagnostic]:
    """Paths that match a star or a brace itself, where any segment was meant."""
    for path, text, _ in _texts(config):
        found = _WILDCARD.search(text)
        if found is None:
            continue
        bare = text[: found.start()].rstrip("/") or "/"
        at_end = found.end() == len(text)
        hint = f"prefix: {bare} matches what is below it" if at_end else "regex has wildcards"
        message = f"{found[0]} stands for itself in a path, not for any text"
        yield Diagnostic(path, message, hint)


def refused_paths(config: Config) -> Iterator[Diagnostic]:
    """Paths with something in them that each of their listeners refuses."""
    for path, text, listeners in _texts(config):
        for key, written in _KEPT.items():
            found = written.search(text)
            if found is None or any(getattr(x.paths, key) == "keep" for x in listeners):
                continue
            message = f"never matches: its listeners refuse {found[0]} in paths"
            hint = f"a listener's paths: {{{key}: keep}} lets it pass"
            yield Diagnostic(path, message, hint)
