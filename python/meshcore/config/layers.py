"""The layers of a stack: what may stand in a list called ``layers``."""

from __future__ import annotations

import math
import re
from typing import Any, ClassVar, Final, Literal, Self, TypeVar

from pydantic import Field, field_validator, model_serializer, model_validator

from meshcore.config.allow import Allow
from meshcore.config.failures import BreakerFailure
from meshcore.config.fields import (
    LAYER_PATTERN,
    CountedField,
    Duration,
    LayerClass,
    Model,
    Name,
    OrText,
    Percent,
    RateText,
    Span,
    duration,
    layer_class,
    one_of,
    percent,
)
from meshcore.config.habits import called_here
from meshcore.config.hints import HintedError, shown
from meshcore.config.layer_key import layer_key

# 16.7 million: the core's own cap on a table, 256 MiB.
MAX_CLIENTS = 1 << 24
# The core keeps no bucket larger than this (admission/quota.rs).
MAX_BURST = 1 << 32
# Its longest refill: 2^60 of 1/256 ns, 52 days (admission/quota.rs).
MAX_REFILL_NS = 1 << 52
# What fits the breaker's word (admission/breaker_word.rs).
MAX_FAILURES = (1 << 20) - 1
MAX_PROBES = (1 << 10) - 1
# Of a layer's arguments, as JSON; who has more to say names a file.
MAX_ARGUMENT_BYTES: Final = 16 << 10
# As deep as a file may nest.
MAX_ARGUMENT_DEPTH: Final = 32


_KEY_HINTS: Final = {
    "client": "write client",
    "host": "write host",
    "identity": "write identity",
    "header": "write {header: name}, with the name of the header",
}


def _meant(key: object) -> str | None:
    """What a single word in the place of a key stands for."""
    if not isinstance(key, str) or key in ("on", "off", "yes", "no"):
        return None
    known = called_here("LimitKey", key)
    name = next((name for name in _KEY_HINTS if known and f" {name} " in known), key)
    if name in _KEY_HINTS:
        return _KEY_HINTS[name]
    return (
        f"for a header of that name write {{header: {key}}}"
        if re.fullmatch(r"[\w-]+", key)
        else None
    )


class LimitKey(OrText):
    """What tells one bucket from another: exactly one of these, or the word alone."""

    text_schema: ClassVar = {"enum": ["client", "host", "identity"]}

    header: CountedField | None = Field(None, description="The value of this request header.")
    client: bool | None = Field(None, description="`true`: the client's address.")
    host: bool | None = Field(None, description="`true`: the request's host.")
    identity: bool | None = Field(
        None,
        description="`true`: who the client is by its certificate; those without share a bucket.",
    )
    missing: Literal["share", "skip", "reject"] = Field(
        "share",
        description="Requests without that header: `share` one bucket, `skip` the limit, or "
        "`reject` them with 400.",
    )
    multiple: Literal["reject", "join"] = Field(
        "reject",
        description="Requests with several such headers: `reject` them with 400, or `join` their "
        "values to one.",
    )

    @model_validator(mode="before")
    @classmethod
    def _one_word(cls, value: object) -> object:
        if value in ("client", "host", "identity"):
            return {value: True}
        if isinstance(value, dict | cls):
            return value
        raise HintedError(
            f"expected client, host, identity or {{header: …}}, got {shown(value)}", _meant(value)
        )

    @model_validator(mode="after")
    def _one(self) -> LimitKey:
        one_of(self, "header", "client", "host", "identity")
        if False in (self.client, self.host, self.identity):
            raise ValueError("leave the key out instead of writing false")
        if self.header is None and self.model_fields_set & {"missing", "multiple"}:
            raise ValueError("missing and multiple are for a header")
        return self

    @property
    def word(self) -> str:
        """The key as one word, if it is no header's."""
        return "client" if self.client else "host" if self.host else "identity"


class Counting(Model):
    """A layer that counts, and goes on counting over a reload."""

    name: Name | None = Field(
        None,
        description="Tells it from another layer of its list that counts by the same. What it "
        "counted stays with this name, or with its kind and key.",
    )


class Quota(Counting):
    """A rate and a burst."""

    rate: RateText = Field(description="What may pass.")
    burst: int | None = Field(
        None,
        ge=1,
        le=MAX_BURST,
        description="Most requests at once; by default what the rate brings in a second.",
    )
    clients: int = Field(
        65_536, ge=1, le=MAX_CLIENTS, description="How many keys may be in debt at one time."
    )

    @model_validator(mode="after")
    def _refills(self) -> Self:
        if (self.burst or 1) * self.rate.period_ns > MAX_REFILL_NS * self.rate.tokens:
            raise ValueError("an empty bucket takes over 52 days to refill: lower burst")
        return self


class ClientLimit(Quota):
    """A bucket for each client: IPv4 by address, IPv6 by /64."""


class Limit(Quota):
    """A bucket shared by all, or one for each value of `key`."""

    key: LimitKey | None = Field(
        None, description="One bucket for each value of this; one for all when absent."
    )


class CircuitBreaker(Model):
    """Stops asking a service that fails, and finds out when it is well again."""

    failures: int = Field(
        5, ge=0, le=MAX_FAILURES, description="Failures in a row that open it; 0: none do."
    )
    failure_percent: Percent = percent(
        "50%", "Part of failed calls in the window that opens it; 0: none."
    )
    min_calls: int = Field(
        20, ge=1, le=MAX_FAILURES, description="Calls in the window before the percentage counts."
    )
    window: Span = duration("10s", "The time over which the percentage is counted.")
    successes: int = Field(
        2, ge=1, le=MAX_PROBES, description="Successful probes that close it again."
    )
    probes: int = Field(1, ge=1, le=MAX_PROBES, description="Probes under way at one time.")
    open_for: Span = duration("30s", "The first time it stays open.")
    max_open_for: Span = duration(
        "5m", "The longest time it stays open; it doubles after each failed probe."
    )
    on: list[BreakerFailure] | None = Field(
        None,
        min_length=1,
        max_length=64,
        description="Exactly what counts as a failure: `connect`, `reset`, `timeout`; `gateway`: "
        "502 to 504; `5xx` or a number: such a status; `unavailable` and the like: such a gRPC "
        "status; `slow`: longer than `slow_call`.",
    )
    slow_call: Duration | None = Field(
        None, description="An answer that takes longer is a failure; none is when absent or 0."
    )

    @model_validator(mode="after")
    def _slow_is_a_time(self) -> Self:
        if "slow" in (self.on or ()) and not self.slow_call:
            raise HintedError("on names slow, but no time is slow", "add slow_call: 5s")
        return self


class InFlight(Counting):
    """A cap on requests under way."""

    max: int = Field(ge=1, le=1 << 32, description="Most requests at one time.")


class PythonLayer(OrText):
    """A layer in Python: a class, and what its objects are made with; or the class alone."""

    text_schema: ClassVar = {"pattern": LAYER_PATTERN, "examples": ["mypkg.layers:AddTenant"]}

    class_: LayerClass = Field(alias="class", description="`module:Class`, or an object there.")
    arguments: dict[str, Any] = Field(
        default={},
        alias="with",
        description="Arguments of the class by name: texts, numbers, `true`, `false`, `null`, "
        "lists and mappings, at most 16KiB as JSON. Checked against the annotations of its "
        "`__init__` where the class is imported.",
    )

    @model_validator(mode="before")
    @classmethod
    def _a_text(cls, value: object) -> object:
        return value if isinstance(value, dict | cls) else {"class": layer_class(value)}

    @field_validator("arguments")
    @classmethod
    def _plain(cls, arguments: dict[str, Any]) -> dict[str, Any]:
        _check_plain(arguments, MAX_ARGUMENT_DEPTH)
        if len(layer_key("", arguments)) > MAX_ARGUMENT_BYTES:
            raise ValueError("must be at most 16KiB as JSON")
        return arguments

    @model_serializer
    def _short(self) -> str | dict[str, Any]:
        if not self.arguments:
            return self.class_
        return {"class": self.class_, "with": self.arguments}

    @property
    def key(self) -> str:
        """What workers know it by: equal ones share an object."""
        return layer_key(self.class_, self.arguments)


def _check_plain(value: object, depth: int) -> None:
    """Refuse what no file says, of a configuration that is made in a program."""
    if isinstance(value, dict | list):
        if not depth:
            raise ValueError(f"nested deeper than {MAX_ARGUMENT_DEPTH}")
        if isinstance(value, dict) and not all(isinstance(key, str) for key in value):
            raise ValueError("keys of mappings must be texts")
        for inner in value.values() if isinstance(value, dict) else value:
            _check_plain(inner, depth - 1)
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"must be finite, got {value}")
    elif not isinstance(value, str | int | float | None):
        raise ValueError(f"a file cannot say {shown(value)}")


class ListenerLayer(Model):
    """One layer before routing: exactly one of these."""

    client_limit: ClientLimit | None = Field(None, description="A bucket for each client.")
    limit: Limit | None = Field(None, description="A bucket for all, or for each value of a key.")
    in_flight: InFlight | None = Field(None, description="A cap on requests under way.")
    allow: Allow | None = Field(
        None, description="Which requests pass, by identity, network, method and path."
    )
    python: PythonLayer | None = Field(
        None, description="A layer in Python, as `module:Class` or with arguments."
    )

    @model_validator(mode="after")
    def _one(self) -> ListenerLayer:
        given = [name for name, layer in self if layer is not None]
        if len(given) > 1:
            raise HintedError(
                f"one layer has one key, {' and '.join(given)} given",
                "write each behind a dash of its own",
            )
        one_of(self, *type(self).model_fields)
        return self

    @property
    def identity(self) -> tuple[str, ...] | None:
        """What it counts under in its list, as the core knows it; `None` if it counts nothing."""
        counting = self.client_limit or self.limit or self.in_flight
        if counting is None:
            return None
        if counting.name is not None:
            return ("name", counting.name)
        if self.limit is not None and self.limit.key is not None:
            key = self.limit.key
            return ("limit", "header", key.header) if key.header else ("limit", key.word)
        return (next(name for name in COUNTING if getattr(self, name) is not None),)


class RouteLayer(ListenerLayer):
    """One layer of a route: exactly one of these."""

    circuit_breaker: CircuitBreaker | None = Field(
        None, description="A breaker for this route at its upstream; asked where it is written."
    )


COUNTING: Final = ("client_limit", "limit", "in_flight")
L = TypeVar("L", bound=ListenerLayer)


def distinct(layers: list[L]) -> list[L]:
    """Refuse two layers of one list that would share what they count."""
    seen: dict[tuple[str, ...], int] = {}
    spelt: dict[str, tuple[int, str]] = {}
    for place, layer in enumerate(layers):
        key = layer.limit and layer.limit.key and layer.limit.key.header
        if key:
            first, other = spelt.setdefault(key.replace("_", "-"), (place, key))
            if other != key:
                raise HintedError(
                    f"layers {first + 1} and {place + 1} count by {other} and {key}, "
                    "which services may read as one",
                    "count by one of them",
                )
        identity = layer.identity
        if identity is None:
            continue
        first = seen.setdefault(identity, place)
        if first != place:
            raise _alike(identity, first, place)
    return layers


def _alike(identity: tuple[str, ...], first: int, second: int) -> ValueError:
    where = f"layers {first + 1} and {second + 1}"
    if identity[0] == "name":
        return ValueError(f"{where} have one name, {identity[1]}")
    by = f" by {' '.join(identity[1:])}" if len(identity) > 1 else ""
    return HintedError(
        f"{where} are both {identity[0]}{by}, and would share what they count",
        "add name: to one or both",
    )
