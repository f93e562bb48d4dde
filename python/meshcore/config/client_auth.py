"""Whom TLS believes, and who of them comes in: `client_auth` of listeners, `peer` of upstreams."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from meshcore._core import check_tls_name, is_trust_domain
from meshcore.config.client_address import network
from meshcore.config.fields import FilePath, Model
from meshcore.config.hints import HintedError, shown

SPIFFE = "spiffe://"
IP: Final = "ip:"
# How many a hint names.
_SHOWN_DOMAINS: Final = 10


def _listed(value: object) -> object:
    return [value] if isinstance(value, str) else value


Files = Annotated[
    list[FilePath],
    Field(min_length=1, max_length=64),
    BeforeValidator(_listed, json_schema_input_type=FilePath | list[FilePath]),
]
"""Files, or one."""


def _spiffe(text: str) -> str:
    if not text.startswith(SPIFFE):
        raise HintedError(
            f"expected {SPIFFE}domain/path, got {shown(text)}", "other names go under san"
        )
    check_tls_name(text)
    return text


def _san(text: str) -> str:
    if text.lower().startswith("spiffe:"):
        raise HintedError(f"{shown(text)} is a SPIFFE ID", "write it under spiffe")
    if ":" not in text:
        kind = "email" if "@" in text else "dns"
        raise HintedError(f"{shown(text)} does not say of which kind it is", f"write {kind}:{text}")
    if text.lower().startswith(IP):
        network(text[len(IP) :])
    check_tls_name(text)
    return text


def _trust_domain(name: str) -> str:
    if not is_trust_domain(name):
        bare = name.removeprefix(SPIFFE).rstrip("/").lower()
        hint = f"write {bare}" if is_trust_domain(bare) else None
        raise HintedError(f"{shown(name)} is not a trust domain", hint)
    return name


SpiffeName = Annotated[str, AfterValidator(_spiffe)]
SanName = Annotated[str, AfterValidator(_san)]
TrustDomain = Annotated[str, AfterValidator(_trust_domain)]


class Names(Model):
    """Names of which a certificate must have one."""

    spiffe: Annotated[
        list[SpiffeName],
        Field(max_length=1_000),
        BeforeValidator(_listed, json_schema_input_type=str | list[str]),
    ] = Field(
        default_factory=list,
        description="SPIFFE IDs: `spiffe://domain/ns/*/sa/web`; `*` is one segment, `**` at the "
        "end one or more.",
    )
    san: Annotated[
        list[SanName],
        Field(max_length=1_000),
        BeforeValidator(_listed, json_schema_input_type=str | list[str]),
    ] = Field(
        default_factory=list,
        description="Other names: `dns:*.example.com`, `uri:https://example.com/*`, "
        "`ip:10.0.0.0/8`, `email:*@example.com`.",
    )

    @model_validator(mode="after")
    def _some(self) -> Names:
        if not self.all:
            raise ValueError("spiffe or san is needed")
        return self

    @property
    def all(self) -> list[str]:
        """In one list."""
        return [*self.spiffe, *self.san]


class Trust(Model):
    """Who may sign certificates, and what they have taken back."""

    ca: Files | None = Field(None, description="CA files.")
    trust_domains: dict[TrustDomain, Files] = Field(
        default_factory=dict,
        max_length=1_000,
        description="CA files by SPIFFE trust domain: each vouches for its own SPIFFE IDs alone.",
    )
    crl: Files | None = Field(None, description="Files with lists of revoked certificates.")
    crl_expired: Literal["refuse", "use"] = Field(
        "refuse",
        description="What a list is worth behind the time at which its next one was due: `refuse` "
        "lets in no client that its issuer signed, `use` goes on with it.",
    )

    def check_names(self, names: Names | None, key: str) -> None:
        """Whether an authority is known for these names, of that key. Raises `ValueError`."""
        if self.crl is None and "crl_expired" in self.model_fields_set:
            raise ValueError("crl_expired has no meaning without crl")
        ids = names.spiffe if names is not None else []
        wanted = [text.removeprefix(SPIFFE).partition("/")[0] for text in ids]
        if self.trust_domains:
            known = f"known: {', '.join(sorted(self.trust_domains)[:_SHOWN_DOMAINS])}"
            for number, domain in enumerate(wanted):
                if domain not in self.trust_domains:
                    message = f"nobody vouches for {domain}: it is not in trust_domains"
                    raise HintedError(message, known, key, "spiffe", number)
        elif len({*wanted}) > 1:
            hint = "write trust_domains: {domain: FILE, …}"
            raise HintedError("SPIFFE IDs of several domains need a CA for each", hint)


class ClientAuth(Trust):
    """Which clients come in by a certificate."""

    mode: Literal["require", "request"] = Field(
        "require",
        description="`require`: who shows no certificate does not come in; `request`: it comes in "
        "without identity.",
    )
    match: Names | None = Field(
        None, description="Who comes in; all that the CAs signed if absent."
    )

    @model_validator(mode="after")
    def _vouched_for(self) -> ClientAuth:
        if self.ca is None and not self.trust_domains:
            raise HintedError("ca or trust_domains is needed", "write ca: FILE")
        self.check_names(self.match, "match")
        return self
