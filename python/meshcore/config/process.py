"""How the program runs: what is said of workers and of a stop."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from meshcore.config.fields import Duration, OrText, Size, duration, within
from meshcore.config.hints import HintedError, shown
from meshcore.config.units import parse_duration

# The shared memory has columns for 64 processes, and in an upgrade two generations share them.
MAX_WORKERS: Final = 30


def _workers(value: object) -> object:
    if value == "auto":
        return value
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_WORKERS:
        return value
    wanted = f"expected auto or a whole number from 1 to {MAX_WORKERS}"
    digits = isinstance(value, str) and value.isdecimal()
    raise HintedError(
        f"{wanted}, got {shown(value)}", f"write {value} without quotes" if digits else None
    )


Workers = Annotated[
    Literal["auto"] | Annotated[int, Field(ge=1, le=MAX_WORKERS)], BeforeValidator(_workers)
]
"""How many worker processes."""


class Drain(OrText):
    """How a stop goes: readiness turns red, `delay` passes, then nothing new is taken."""

    text_schema: ClassVar[dict[str, Any]] = {"examples": ["30s"]}

    timeout: Duration = duration("30s", "How long requests in flight may go on.")
    delay: Duration = duration(
        "0s", "From red readiness to the end of accepting: as long as balancers take to see it."
    )

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: object) -> object:
        if isinstance(value, str | int):
            parse_duration(value)  # so that what is wrong with it is said of `drain`
            return {"timeout": value}
        return value


SegmentSize = Annotated[Size, within("2MiB", "64GiB")]
"""Bytes of shared memory."""


def _auto(value: object) -> object:
    return None if value == "auto" else value


SegmentMax = Annotated[
    SegmentSize | None,
    BeforeValidator(_auto),
    WithJsonSchema(
        {
            "type": ["string", "integer"],
            "pattern": r"^(auto|\d+(\.\d+)?\s*([KMGT]iB|[kMGT]?B)?)$",
            "examples": ["auto", "64MiB", "1GiB"],
        }
    ),
]
"""The most of it; none: as the configuration needs."""

BufferTotal = Annotated[Size, within("0", "4GiB")]
"""Bytes of bodies that a worker keeps."""
