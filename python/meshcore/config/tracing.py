"""How distributed traces are taken part in: `tracing` of the configuration and of a route."""

from __future__ import annotations

from typing import Final, Literal

from pydantic import Field

from meshcore.config.fields import Model, Sample, sample

Form = Literal["w3c", "b3", "b3multi", "jaeger"]

# The core takes a share of 2^56: so many values have the random bits of a trace's id.
_ALL: Final = 1 << 56
_MILLION: Final = 1_000_000


class Tracing(Model):
    """What becomes of the contexts of traces; every form is read."""

    sample: Sample = sample(
        "0%", "Of the traces that nobody decided about before, up to four digits behind the point."
    )
    propagate: list[Form] = Field(
        ["w3c"],
        min_length=1,
        max_length=4,
        description="Forms in which endpoints are always told: `w3c`, `b3` (one field), `b3multi`, "
        "`jaeger`; they are told in the form in which a request's context came, too.",
    )


class RouteTracing(Model):
    """The same for requests of a route."""

    sample: Sample = sample("0%", "As `tracing.sample`, for this route.")


def for_core(model: Tracing | None) -> dict[str, object]:
    """In the core's words; without a form no part is taken."""
    if model is None:
        return {"propagate": [], "sample": 0}
    return {"propagate": model.propagate, "sample": share(model.sample)}


def share(per_million: int) -> int:
    """So many of 2^56."""
    return per_million * _ALL // _MILLION
