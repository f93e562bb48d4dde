"""What a configuration may say. Everything else is refused, with the nearest known key as hint."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from meshcore.config.access_log import AccessLog
from meshcore.config.admin import Admin
from meshcore.config.fields import Duration, FilePath, Model, Name, Off, Switch, duration, off, size
from meshcore.config.include import MAX_FILES
from meshcore.config.listener import Listener
from meshcore.config.process import BufferTotal, Drain, SegmentMax, Workers
from meshcore.config.route import Route
from meshcore.config.tracing import Tracing
from meshcore.config.upstream import Upstream
from meshcore.config.via import Via

__all__ = ["Config"]


def _one_file(value: object) -> object:
    return [value] if isinstance(value, str) else value


class Config(Model):
    """A whole configuration."""

    version: Literal[1] = Field(description="The version of this format.")
    include: Annotated[
        list[str], BeforeValidator(_one_file, json_schema_input_type=str | list[str])
    ] = Field(
        default_factory=list,
        max_length=MAX_FILES,
        description="Further files with listeners, routes and upstreams; one or a list.",
    )
    env: Switch = Field(
        False,
        description="`on`: `${NAME}` and `${NAME:-default}` in values are taken from the "
        "environment.",
    )
    admin: Admin | None = Field(None, description="The admin port; none when absent.")
    access_log: Annotated[
        AccessLog | None,
        BeforeValidator(off, json_schema_input_type=AccessLog | Off | None),
    ] = Field(
        None,
        description="One line for each request; `off`, or a format alone, which goes to standard "
        "output.",
        json_schema_extra={"default": "off"},
    )
    drain: Drain = Field(Drain(), description="How a stop goes; a duration alone is its `timeout`.")
    workers: Workers = Field("auto", description="Worker processes; `auto`: one for each core.")
    watchdog: Duration = duration(
        "30s", "A worker whose loop stands still for that long is replaced; 0: never."
    )
    segment_max: SegmentMax = Field(
        None,
        description="Most memory for what workers share; `auto`: twice what the configuration "
        "takes at the start, at least 256MiB. A change needs an upgrade or a restart.",
        json_schema_extra={"default": "auto"},
    )
    buffer_total: BufferTotal = size(
        "64MiB",
        "Most bytes that a worker keeps of small request bodies, up to 64KiB each, that it awaits "
        "before these requests take their places at an upstream; 0: it awaits none.",
    )
    tracing: Tracing | None = Field(
        None,
        description="How distributed traces are taken part in; when absent, what clients say of "
        "them passes unchanged.",
    )
    via: Via = Field(
        Via(), description="What other proxies are told of this one, and how loops are found."
    )
    ticket_keys: FilePath | None = Field(
        None,
        description="A file with the keys that seal TLS tickets, one to a line in Base64, 48 bytes "
        "each; the first seals, all open. Hosts with the same file resume one another's sessions.",
    )
    watch: Switch = Field(
        False, description="Reload when this file, or a certificate it names, changes."
    )
    listeners: dict[Name, Listener] = Field(
        min_length=1, description="Addresses that clients connect to, by name."
    )
    routes: list[Route] = Field(
        default_factory=list,
        description="What is done with requests; of those that match the most specific wins.",
    )
    upstreams: dict[Name, Upstream] = Field(
        default_factory=dict, description="Services that requests are sent on to, by name."
    )
