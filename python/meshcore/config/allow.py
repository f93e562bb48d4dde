"""The layer `allow`: which requests pass, by identity, network, method and path."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field, model_validator

from meshcore.config.client_address import Networks
from meshcore.config.client_auth import Names
from meshcore.config.fields import Method, Model, Name, OrText, Switch
from meshcore.config.hints import HintedError, shown
from meshcore.config.path_match import PathMatch

_EVERYBODY = "for every client write networks: [0.0.0.0/0, '::/0', unix]"


def _rule_name(name: str) -> str:
    if name == "none" or name.startswith("shadow:"):
        raise ValueError(f"{name} means something else in the log")
    return name


def _as_names(given: list[object]) -> str | None:
    """How names are written that stand in a list, or alone."""
    names = [name for name in given if isinstance(name, str) and ":" in name]
    if not names or len(names) < len(given):
        return None
    spiffe = [name for name in names if name.startswith("spiffe:")]
    san = [name for name in names if name not in spiffe]
    kinds = {"spiffe": spiffe, "san": san}
    written = [f"{kind}: [{', '.join(of)}]" for kind, of in kinds.items() if of]
    return f"write {{{', '.join(written)}}}"


class Identities(OrText, Names):
    """Whose the connection's certificate is: names, or the word `any`."""

    text_schema: ClassVar = {"enum": ["any"]}

    any: bool | None = Field(None, description="`true`: any that was verified.")

    @model_validator(mode="before")
    @classmethod
    def _one_word(cls, value: object) -> object:
        if value == "any":
            return {"any": True}
        if isinstance(value, dict | cls):
            return value
        wanted = f"expected any or {{spiffe: […], san: […]}}, got {shown(value)}"
        raise HintedError(wanted, _as_names(value if isinstance(value, list) else [value]))

    @model_validator(mode="after")
    def _some(self) -> Identities:
        if self.any is False:
            raise ValueError("leave the key out instead of writing false")
        if self.any is None and not self.all:
            raise ValueError("spiffe, san or any is needed")
        if self.any and self.all:
            raise ValueError("any stands for every name: write it alone")
        return self


class AllowRule(Model):
    """Requests that may pass: whatever is given must hold, of each list one."""

    name: Annotated[Name, AfterValidator(_rule_name)] = Field(
        description="What the log calls it, unique in its layer."
    )
    identities: Identities | None = Field(
        None,
        description="Whose the certificate of the connection is; `any`: any that was "
        "verified. Without one the rule does not hold.",
    )
    networks: Networks | None = Field(
        None, description="Where the client's address lies, as `client_address` finds it."
    )
    methods: list[Method] | None = Field(
        None, min_length=1, max_length=64, description="One of these methods."
    )
    paths: list[PathMatch] | None = Field(
        None, min_length=1, max_length=1_000, description="One of these paths, as routes match."
    )

    @model_validator(mode="after")
    def _says_something(self) -> AllowRule:
        if (self.identities, self.networks, self.methods, self.paths) == (None,) * 4:
            wanted = "at least one of identities, networks, methods, paths is needed"
            raise HintedError(wanted, _EVERYBODY)
        return self


def _distinct(rules: list[AllowRule]) -> list[AllowRule]:
    seen: dict[str, int] = {}
    for place, rule in enumerate(rules):
        if (first := seen.setdefault(rule.name, place)) != place:
            raise ValueError(f"rules {first + 1} and {place + 1} have one name, {rule.name}")
    return rules


class Allow(Model):
    """Lets pass what one of its rules names, and refuses the rest with 403."""

    rules: Annotated[list[AllowRule], AfterValidator(_distinct)] = Field(
        max_length=1_000, description="What may pass; nothing does if there is none."
    )
    shadow: Switch = Field(
        False, description="`on`: nothing is refused; log and metrics say what would have been."
    )
