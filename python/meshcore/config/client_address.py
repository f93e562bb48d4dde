"""Who may say where a request or a connection really comes from: `client_address` and
`proxy_protocol` of a listener."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, model_validator

from meshcore.config.fields import Model, off
from meshcore.config.hints import HintedError, shown

UNIX = "unix"
"""All clients that connect to a unix socket."""


def network(text: str, others: str = "") -> str:
    """An address or a network as all rules write it; ``others`` is what else may be there."""
    try:
        interface = ipaddress.ip_interface(text)
    except ValueError:
        wanted = f"expected an address, a network such as 10.0.0.0/8{others}"
        raise ValueError(f"{wanted}, got {shown(text)}") from None
    address, around = interface.ip, interface.network
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    if mapped is not None:
        length = max(around.prefixlen - 96, 0)
        narrow = ipaddress.ip_interface(f"{mapped}/{length}").network
        raise HintedError("IPv4 addresses are written as such", f"write {narrow}")
    if "%" in text:
        raise HintedError("a network cannot have a zone", f"write {text.partition('%')[0]}")
    if address != around.network_address:
        hint = f"write {around}, or {address} for it alone"
        raise HintedError(f"{shown(text)} is an address within a network", hint)
    return str(around)


def _network(text: str) -> str:
    return text if text == UNIX else network(text, ", or unix")


Networks = Annotated[
    list[
        Annotated[
            str,
            AfterValidator(_network),
            WithJsonSchema({"type": "string", "examples": ["10.0.0.0/8", "::1", UNIX]}),
        ]
    ],
    # Clouds publish lists of some thousands; the core looks into one of n in O(log n).
    Field(min_length=1, max_length=10_000),
]
"""Networks, single addresses, `unix`."""


class ClientAddress(Model):
    """What is known of proxies in front of us."""

    trusted_hops: int = Field(
        0, ge=0, le=255, description="Proxies in front of us that append to x-forwarded-for."
    )
    trusted: Networks | None = Field(
        None,
        description="In place of trusted_hops: networks and addresses of the proxies in front of "
        "us, `unix` for clients of a unix socket.",
    )
    header: Literal["x-forwarded-for", "forwarded", "x-real-ip"] = Field(
        "x-forwarded-for", description="Where the trusted ones name the client."
    )

    @model_validator(mode="after")
    def _one_way(self) -> ClientAddress:
        if self.trusted is not None and self.trusted_hops:
            raise ValueError("trusted and trusted_hops are two ways to say it: write one of them")
        if self.trusted is None and self.header != "x-forwarded-for":
            raise HintedError("header goes with trusted", "write trusted: [network, …] beside it")
        return self

    def for_core(self) -> dict[str, Any] | None:
        """The trusted networks in the core's words."""
        if self.trusted is None:
            return None
        return {"networks": self.trusted, "header": self.header}


class ProxyProtocol(Model):
    """Who announces connections."""

    trusted: Networks | None = Field(
        None,
        description="Networks and addresses of the balancers in front of us; those of "
        "client_address if absent.",
    )


def _switched(value: object) -> object:
    if value is True or value == "on":
        return {}
    value = off(value)
    if value is None or isinstance(value, dict | ProxyProtocol):
        return value
    wanted = f"expected on, off or {{trusted: [network, …]}}, got {shown(value)}"
    versions = isinstance(value, str) and value.lower() in ("v1", "v2")
    raise HintedError(wanted, "write on: either version is read" if versions else None)


ProxyProtocolSwitch = Annotated[
    ProxyProtocol | None,
    BeforeValidator(
        _switched,
        json_schema_input_type=ProxyProtocol | Literal["on", "off", True, False] | None,
    ),
]
"""``on``, ``off``, or whom it is taken from."""
