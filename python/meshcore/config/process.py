"""How the program runs: what is said of workers and of a stop."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Final

from pydantic import AfterValidator, model_validator

from meshcore.config.fields import Duration, OrText, Size, duration
from meshcore.config.units import parse_duration, parse_size

# The shared memory has columns for 64 processes, and in an upgrade two generations share them.
MAX_WORKERS: Final = 30


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


def _segment_size(value: int) -> int:
    least, most = parse_size("2MiB"), parse_size("64GiB")
    if not least <= value <= most:
        raise ValueError("must be within 2MiB and 64GiB")
    return value


SegmentSize = Annotated[Size, AfterValidator(_segment_size)]
"""Bytes of shared memory."""
