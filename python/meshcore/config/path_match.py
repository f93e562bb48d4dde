"""Which paths: of routes, and of rules of the `allow` layer."""

from __future__ import annotations

from pydantic import Field, model_validator

from meshcore.config.fields import Model, Path, Regex, one_of


class PathMatch(Model):
    """Exactly one of these."""

    exact: Path | None = Field(None, description="This path.")
    prefix: Path | None = Field(
        None, description="This path and what is below it, by whole segments."
    )
    regex: Regex | None = Field(
        None, max_length=8192, description="A regular expression over the whole path, linear time."
    )

    @model_validator(mode="after")
    def _one(self) -> PathMatch:
        one_of(self, "exact", "prefix", "regex")
        return self
