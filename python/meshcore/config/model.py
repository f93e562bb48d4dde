"""What a configuration may say. Everything else is refused, with the nearest known key as hint."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from meshcore.config.fields import Duration, Model, Name, duration
from meshcore.config.listener import Admin, Listener
from meshcore.config.route import Route
from meshcore.config.upstream import Upstream

__all__ = ["Config"]


class Config(Model):
    """A whole configuration."""

    version: Literal[1] = Field(description="The version of this format.")
    admin: Admin | None = Field(None, description="The admin port; none when absent.")
    access_log: Literal["off", "text", "json"] = Field(
        "off", description="One line on standard output for each request."
    )
    drain: Duration = duration("30s", "How long requests in flight may go on after a stop.")
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
