"""Wildcards where a path is taken as it is written."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from meshcore.config.fault import Fault

if TYPE_CHECKING:
    from collections.abc import Iterator

    from meshcore.config.model import Config

# `*` alone in a segment or at its end, `{id}`, and `:id` behind a slash. A star inside of a segment
# and a colon behind a word (`/v1/things:batch`) are parts of real paths.
_WILDCARD: Final = re.compile(r"\*(?=/|$)|\{[\w*.]*\}|(?<=/):\w+(?=/|$)")


def literal_wildcards(config: Config) -> Iterator[Fault]:
    """Paths that match a star or a brace itself, where any segment was meant."""
    for number, route in enumerate(config.routes):
        path = route.match.path
        for kind in ("exact", "prefix"):
            text: str | None = getattr(path, kind) if path is not None else None
            found = _WILDCARD.search(text) if text else None
            if text is None or found is None:
                continue
            bare = text[: found.start()].rstrip("/") or "/"
            at_end = found.end() == len(text)
            hint = f"prefix: {bare} matches what is below it" if at_end else "regex has wildcards"
            message = f"{found[0]} stands for itself in a path, not for any text"
            yield Fault(("routes", number, "match", "path", kind), message, hint)
