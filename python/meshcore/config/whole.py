"""Whole numbers as programs give them."""

from __future__ import annotations

import operator

from meshcore.config.hints import shown


def check_whole(name: str, given: object, least: int, most: int) -> int:
    """The number that is given by that name. Raises `ValueError`, which says what it may be, for
    any other and for what is no whole number."""
    try:
        number = None if isinstance(given, bool) else operator.index(given)  # type: ignore[arg-type]
    except TypeError:
        number = None
    if number is None or not least <= number <= most:
        raise ValueError(
            f"{name}: must be a whole number within {least} and {most}, got {shown(given)}"
        )
    return number
