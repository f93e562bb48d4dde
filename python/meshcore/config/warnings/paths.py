"""Paths that stand for something else than their text, or for what no listener lets pass."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from meshcore.config.fault import Fault

if TYPE_CHECKING:
    from collections.abc import Iterator

    from meshcore.config.model import Config
    from meshcore.config.route import Route

# `*` alone in a segment or at its end, `{id}`, and `:id` behind a slash. A star inside of a segment
# and a colon behind a word (`/v1/things:batch`) are parts of real paths.
_WILDCARD: Final = re.compile(r"\*(?=/|$)|\{[\w*.]*\}|(?<=/):\w+(?=/|$)")
# By the key of a listener that lets it pass.
_KEPT: Final = {
    "encoded_slash": re.compile("%2f", re.IGNORECASE),
    "encoded_backslash": re.compile(r"%5c|\\", re.IGNORECASE),
}


def _texts(route: Route) -> Iterator[tuple[str, str]]:
    """Its paths that are no expressions, by kind."""
    path = route.match.path
    for kind in ("exact", "prefix"):
        text: str | None = getattr(path, kind) if path is not None else None
        if text:
            yield kind, text


def literal_wildcards(config: Config) -> Iterator[Fault]:
    """Paths that match a star or a brace itself, where any segment was meant."""
    for number, route in enumerate(config.routes):
        for kind, text in _texts(route):
            found = _WILDCARD.search(text)
            if found is None:
                continue
            bare = text[: found.start()].rstrip("/") or "/"
            at_end = found.end() == len(text)
            hint = f"prefix: {bare} matches what is below it" if at_end else "regex has wildcards"
            message = f"{found[0]} stands for itself in a path, not for any text"
            yield Fault(("routes", number, "match", "path", kind), message, hint)


def refused_paths(config: Config) -> Iterator[Fault]:
    """Paths with something in them that each of the route's listeners refuses."""
    keepers = {
        key: {name for name, x in config.listeners.items() if getattr(x.paths, key) == "keep"}
        for key in _KEPT
    }
    for number, route in enumerate(config.routes):
        for kind, text in _texts(route):
            for key, written in _KEPT.items():
                found = written.search(text)
                if found is None or keepers[key].intersection(route.listeners or keepers[key]):
                    continue
                message = f"never matches: its listeners refuse {found[0]} in paths"
                hint = f"a listener's paths: {{{key}: keep}} lets it pass"
                yield Fault(("routes", number, "match", "path", kind), message, hint)
