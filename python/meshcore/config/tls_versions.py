"""Which TLS may be spoken: `min_version` and `policy` of listeners and upstreams."""

from __future__ import annotations

from typing import Final, Literal

from pydantic import Field, model_validator

from meshcore.config.fields import Model
from meshcore.config.hints import HintedError

Version = Literal["1.2", "1.3"]
_OLDEST: Final[dict[str, Version]] = {"modern": "1.3", "intermediate": "1.2"}


class TlsVersions(Model):
    """The versions of a `tls`."""

    min_version: Version = Field("1.2", description="The oldest TLS that may speak.")
    policy: Literal["modern", "intermediate"] | None = Field(
        None,
        description="What Mozilla calls so, in place of `min_version`: `modern` is TLS 1.3 alone, "
        "`intermediate` TLS 1.2 with ECDHE and AEAD, and 1.3.",
    )

    @model_validator(mode="after")
    def _one_minimum(self) -> TlsVersions:
        if self.policy is None or "min_version" not in self.model_fields_set:
            return self
        if self.min_version != self.oldest:
            raise HintedError(
                f"policy: {self.policy} begins with TLS {self.oldest}, "
                f"min_version with {self.min_version}",
                "write one of them",
            )
        return self

    @property
    def oldest(self) -> Version:
        """The oldest version that may speak."""
        return self.min_version if self.policy is None else _OLDEST[self.policy]
