"""What is made of paths that services read differently: `paths` of listeners and routes."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from meshcore.config.fields import Model, Switch


class ListenerPaths(Model):
    """What passes of targets whose meaning is not the same everywhere."""

    encoded_slash: Literal["refuse", "keep"] = Field(
        "refuse", description="`%2F`; `keep`: part of its segment, sent on as it came."
    )
    encoded_backslash: Literal["refuse", "keep"] = Field(
        "refuse", description="`%5C`; `keep`: part of its segment, sent on as it came."
    )
    repeated_slashes: Literal["merge", "keep", "refuse"] = Field(
        "merge",
        description="`//`; `merge`: one to whatever matches; `keep`: seen by what matches; those "
        "at the beginning are always one.",
    )
    bad_escapes: Literal["refuse", "escape"] = Field(
        "refuse",
        description="`%` without two hex digits; `escape`: it stands for itself, sent on as `%25`.",
    )
    strict_target: Switch = Field(
        False, description="`on`: what RFC 3986 does not allow in path and query is refused."
    )


class RoutePaths(Model):
    """What a route refuses although its listener lets it pass."""

    encoded_slash: Literal["refuse"] | None = Field(None, description="`%2F`.")
    encoded_backslash: Literal["refuse"] | None = Field(None, description="`%5C`.")
    repeated_slashes: Literal["refuse"] | None = Field(None, description="`//`.")
    bad_escapes: Literal["refuse"] | None = Field(
        None, description="`%` without two hex digits in the path."
    )
    strict_target: Switch = Field(
        False, description="`on`: what RFC 3986 does not allow in path and query is refused."
    )


def refused(model: ListenerPaths | RoutePaths) -> list[str]:
    """The keys that refuse something, by which the core knows what."""
    fields = type(model).model_fields
    return [name for name in fields if getattr(model, name) in ("refuse", True)]
