"""What tells one layer in Python from another: its class, and the arguments that it is made with.

A worker is told the key alone, and reads from it what to make.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["layer_key", "layer_name", "parse_layer_key"]


def layer_key(name: str, arguments: Mapping[str, Any]) -> str:
    """``module:Class``, and behind a blank the arguments if there are any, as JSON: in the order
    of their names, while mappings in them keep theirs, which a class may go by."""
    if not arguments:
        return name
    ordered = dict(sorted(arguments.items()))
    return f"{name} {json.dumps(ordered, separators=(',', ':'), allow_nan=False)}"


def parse_layer_key(key: str) -> tuple[str, dict[str, Any]]:
    """The class and its arguments, which are not shared."""
    name, _, arguments = key.partition(" ")
    return name, json.loads(arguments) if arguments else {}


def layer_name(key: str) -> str:
    """``module:Class`` alone: what may be shown."""
    return key.partition(" ")[0]
