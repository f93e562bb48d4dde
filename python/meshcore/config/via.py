"""What meshcore calls itself towards other proxies, and when a request goes in a circle."""

from __future__ import annotations

import re
from typing import Annotated, Final

from pydantic import AfterValidator, Field

from meshcore.config.fields import Model

# A token (RFC 9110 §5.6.2) that looks like one name; behind it comes that of the listener.
_PSEUDONYM: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


def _pseudonym(text: str) -> str:
    if not _PSEUDONYM.fullmatch(text):
        raise ValueError(
            "a pseudonym is one word of up to 64 letters, digits and _ . -, and begins with a "
            "letter or digit"
        )
    return text


class Via(Model):
    """What is written into `via`, and looked for there."""

    name: Annotated[str, AfterValidator(_pseudonym)] | None = Field(
        None,
        description="A pseudonym of this program, another for each replica; a random one if "
        "absent, kept over reloads and upgrades.",
    )
    max_visits: int = Field(
        3,
        ge=1,
        le=100,
        description="A request that came through the same listener this often is answered 508.",
    )
