"""What is done with a request: `routes` of the configuration."""

from __future__ import annotations

import re
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from meshcore.config.failures import RetriedFailure
from meshcore.config.fields import (
    Authority,
    BodyRate,
    ChangeableName,
    Duration,
    FieldValue,
    HostPattern,
    MatchedField,
    Method,
    Model,
    Name,
    Off,
    OrText,
    Path,
    Regex,
    Target,
    UpgradeToken,
    duration,
    off,
    one_of,
)
from meshcore.config.layers import RouteLayer, distinct
from meshcore.config.path_match import PathMatch
from meshcore.config.paths import RoutePaths
from meshcore.config.tracing import RouteTracing


class ValueMatch(OrText):
    """What must hold of a value: exactly one of these, or just the text for `exact`."""

    text_schema: ClassVar = {"description": "Equal to this."}

    exact: str | None = Field(None, description="Equal to this.")
    prefix: str | None = Field(None, description="Begins with this.")
    suffix: str | None = Field(None, description="Ends with this.")
    contains: str | None = Field(None, description="Has this in it.")
    regex: Regex | None = Field(
        None, max_length=8192, description="A regular expression over the whole value."
    )
    present: bool | None = Field(None, description="`true`: it is there, whatever its value.")
    absent: bool | None = Field(None, description="`true`: it is not there.")

    @model_validator(mode="before")
    @classmethod
    def _text_alone(cls, value: object) -> object:
        return {"exact": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _one(self) -> ValueMatch:
        one_of(self, *type(self).model_fields)
        return self


def _one_host(value: object) -> object:
    return [value] if isinstance(value, str) else value


class Match(Model):
    """Which requests: every key that is given must hold."""

    host: Annotated[
        list[HostPattern],
        BeforeValidator(_one_host, json_schema_input_type=str | list[str]),
    ] = Field(
        ["*"],
        min_length=1,
        max_length=1000,
        description="`example.com`, `*.example.com`, `example.*` or `*`; one or a list.",
    )
    path: PathMatch | None = Field(None, description="The path; every path when absent.")
    methods: list[Method] = Field(
        default_factory=list, max_length=64, description="One of these methods; any when empty."
    )
    headers: dict[MatchedField, ValueMatch] = Field(
        default_factory=dict, max_length=64, description="Header fields, all of which must hold."
    )
    query: dict[str, ValueMatch] = Field(
        default_factory=dict, max_length=64, description="Query parameters, all of which must hold."
    )


class Rewrite(Model):
    """What is sent on instead."""

    path: Path | None = Field(
        None, description="Replaces the matched prefix, or the whole of another match."
    )
    host: Authority | None = Field(None, description="Replaces the host.")


class Redirect(Model):
    """Sends the client elsewhere; parts that are absent stay the request's."""

    status: Literal[301, 302, 303, 307, 308] = Field(302, description="The status.")
    scheme: Literal["http", "https"] | None = Field(None, description="Another scheme.")
    host: Authority | None = Field(None, description="Another host, with or without port.")
    port: int | None = Field(
        None,
        ge=1,
        le=65_535,
        description="Another port; else the request's, or the scheme's own if that changes.",
    )
    path: Target | None = Field(
        None, description="Another path; with a `?` it replaces the query too."
    )

    @model_validator(mode="after")
    def _somewhere(self) -> Redirect:
        if (self.scheme, self.host, self.port, self.path) == (None, None, None, None):
            raise ValueError("at least one of scheme, host, port, path is needed")
        if self.port is not None and self.host is not None and re.search(r":\d+$", self.host):
            raise ValueError("a port is given twice: in host and as port")
        return self


class Respond(Model):
    """Answers at once."""

    status: int = Field(200, ge=200, le=599, description="The status.")
    body: str = Field("", max_length=1 << 20, description="The body.")
    content_type: FieldValue = Field("text/plain; charset=utf-8", description="Its `content-type`.")

    @model_validator(mode="after")
    def _body_is_allowed(self) -> Respond:
        # RFC 9110 §6.4.1, §15.3.6: these end with the head.
        if self.status in (204, 205, 304) and self.body:
            raise ValueError(f"a response with status {self.status} has no body")
        return self


class FieldChanges(Model):
    """Changes to header fields: `remove` first, then `set`, then `add`."""

    remove: list[ChangeableName] = Field(
        default_factory=list, max_length=64, description="Fields that are taken out."
    )
    set: dict[ChangeableName, FieldValue] = Field(
        default_factory=dict, max_length=64, description="Fields that replace those of their name."
    )
    add: dict[ChangeableName, FieldValue] = Field(
        default_factory=dict, max_length=64, description="Fields beside those of their name."
    )


class Retry(Model):
    """Which failures are tried again, at another endpoint if there is one."""

    retries: int = Field(1, ge=0, le=10, description="Attempts after the first.")
    when: list[RetriedFailure] = Field(
        ["connect", "refused", "reset"],
        max_length=32,
        description="`connect`: no connection; `refused`: the endpoint says that it began nothing; "
        "`reset`: cut before any byte of the response; `5xx` or a number: such a status; "
        "`unavailable` and the like: such a gRPC status.",
    )
    per_try: Duration = duration(
        "0",
        "From the request's last byte to the response's head, for each attempt alone; one "
        "that takes longer is tried again if the method may be. 0: no bound but `timeout`.",
    )


def _retry_off(value: object) -> object:
    return {"retries": 0} if value is not None and off(value) is None else value


class Route(Model):
    """Requests that match, and what is done with them: `upstream`, `redirect` or `respond`."""

    name: Name = Field(description="Its unique name, in metrics and logs.")
    listeners: list[Name] = Field(
        default_factory=list, max_length=1000, description="Where it serves; everywhere if empty."
    )
    match: Match = Field(Match(), description="Which requests; every one when absent.")
    paths: RoutePaths = Field(
        RoutePaths(), description="What it refuses although its listener lets it pass."
    )
    priority: int = Field(
        0, ge=-(1 << 31), le=(1 << 31) - 1, description="Higher wins before specificity does."
    )
    upstream: Name | None = Field(None, description="Forward to this upstream.")
    redirect: Redirect | None = Field(None, description="Send the client elsewhere.")
    respond: Respond | None = Field(None, description="Answer at once.")
    rewrite: Rewrite | None = Field(None, description="What is sent on instead.")
    timeout: Duration = duration(
        "15s", "From the request's last byte to the response's head, all attempts; 0: no bound."
    )
    idle_timeout: Duration = duration("5m", "Between two bytes of the response; 0: no bound.")
    body_bytes_per_second: BodyRate | None = Field(
        None,
        description="Least rate of a request's body after its first 20 s; 0: any rate. The "
        "listener's if absent.",
    )
    retry: Annotated[Retry, BeforeValidator(_retry_off, json_schema_input_type=Retry | Off)] = (
        Field(Retry(), description="Which failures are tried again; `off` for none.")
    )
    tracing: RouteTracing | None = Field(
        None, description="Which traces are sampled; as all others when absent."
    )
    upgrade: list[UpgradeToken] = Field(
        default_factory=list,
        max_length=16,
        description="Protocols that may be upgraded to, such as `websocket`; `connect` lets the "
        "method CONNECT pass.",
    )
    layers: Annotated[list[RouteLayer], AfterValidator(distinct)] = Field(
        default_factory=list, max_length=64, description="What a request passes after routing."
    )
    request_headers: FieldChanges = Field(FieldChanges(), description="Changes to what is sent on.")
    response_headers: FieldChanges = Field(
        FieldChanges(), description="Changes to what is sent back."
    )

    @model_validator(mode="after")
    def _one_action(self) -> Route:
        one_of(self, "upstream", "redirect", "respond")
        if self.upstream is None:
            for key in ("rewrite", "upgrade", "request_headers", "response_headers"):
                if key in self.model_fields_set:
                    raise ValueError(f"{key} needs an upstream")
        breakers = sum(layer.circuit_breaker is not None for layer in self.layers)
        if breakers > 1:
            raise ValueError("a route has at most one circuit_breaker")
        if breakers and self.upstream is None:
            raise ValueError("a circuit_breaker needs an upstream")
        return self
