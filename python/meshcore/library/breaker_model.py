"""What is wrong with the rules of a breaker, in the words of `meshcore check`."""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import AfterValidator, Field, ValidationError

from meshcore.config import layers
from meshcore.config.core_route import PROBE_TIMEOUT, rules
from meshcore.config.explain import as_value_error
from meshcore.config.fields import Duration
from meshcore.config.units import format_duration
from meshcore.library.breaker_rules import LONGEST_PROBE_NS, SHORTEST_PROBE_NS, TIMES
from meshcore.library.times import as_written

# What fits the breaker's words (admission/last_calls.rs).
MAX_LAST_CALLS: Final = 3_008


def _probe_timeout(value: int) -> int:
    if value < SHORTEST_PROBE_NS:
        raise ValueError(f"must be at least {format_duration(SHORTEST_PROBE_NS)}")
    if value > LONGEST_PROBE_NS:
        raise ValueError(f"must be at most {format_duration(LONGEST_PROBE_NS)}")
    return value


class Model(layers.CircuitBreaker):
    """The configuration's, and what programs alone may say."""

    probe_timeout: Annotated[Duration, AfterValidator(_probe_timeout)] = PROBE_TIMEOUT
    last_calls: int | None = Field(None, ge=1, le=MAX_LAST_CALLS)


def by_model(counted: dict[str, Any]) -> dict[str, Any]:
    """The rules in the core's words; `ValueError` for what is none."""
    written, wrong = as_written(counted, TIMES)
    try:
        model = Model.model_validate(written)
    except ValidationError as error:
        raise as_value_error(error, Model, wrong) from None
    if wrong:
        raise ValueError("\n".join(wrong))
    own = {"probe_timeout_ns": model.probe_timeout, "last_calls": model.last_calls or 0}
    if model.last_calls is not None:
        own["min_calls"] = _least_calls(model, model.last_calls)
    return {**rules(model), **own}


def _least_calls(model: Model, last_calls: int) -> int:
    if "window" in model.model_fields_set:
        raise ValueError("window: last_calls is given, too: leave one of them out")
    if "min_calls" not in model.model_fields_set:
        return min(model.min_calls, last_calls)
    if model.min_calls > last_calls:
        raise ValueError(
            f"min_calls: {model.min_calls} are never among the last {last_calls} calls"
        )
    return model.min_calls
