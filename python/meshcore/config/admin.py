"""`admin` of the configuration: where the admin port is, and who may ask what there."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any, Final

from pydantic import Field, model_validator

from meshcore.config.fields import BindAddress, FileMode, FilePath, HostPattern, Model, Switch
from meshcore.config.file import read_file, why_not_read
from meshcore.errors import Diagnostic

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Far more than any token has; another file that is named by mistake is not read to its end.
MAX_TOKEN_BYTES: Final = 4096
# What can stand in a field behind the scheme, and is no space (RFC 9110 §11.4).
_TOKEN: Final = re.compile(rb"[\x21-\x7e]+")


class Admin(Model):
    """The port for people and scrapers: health, readiness, metrics, status and orders."""

    bind: BindAddress = Field(description="`host:port`, `[v6]:port` or `unix:/path`.")
    mode: FileMode = Field(
        0o600,
        description="Who may connect to the unix socket of `bind`.",
        json_schema_extra={"default": "0600"},
    )
    token_file: FilePath | None = Field(
        None,
        description="A file with the token that clients show, as `authorization: Bearer`; "
        "not for /healthz, /readyz and /metrics.",
    )
    read_only: Switch = Field(False, description="`on`: no orders are taken here.")
    hosts: list[HostPattern] = Field(
        default_factory=list,
        max_length=1_000,
        description="Names that this port is asked by, besides `localhost` and addresses.",
    )

    @model_validator(mode="after")
    def _a_mode_is_of_a_file(self) -> Admin:
        if "mode" in self.model_fields_set and self.bind.path is None:
            raise ValueError("mode is for a unix socket: bind is none")
        return self


def check_admin(admin: dict[str, Any], folder: Path | None) -> Iterator[Diagnostic]:
    """What is wrong with the token's file; it is read."""
    file = admin.get("token_file")
    if isinstance(file, str) and file:
        path = file if folder is None else os.path.join(folder, file)
        try:
            token_in(read_bounded(path))
        except OSError as error:
            yield Diagnostic(("admin", "token_file"), *why_not_read(file, path, error))
        except ValueError as error:
            yield Diagnostic(("admin", "token_file"), f"{path} {error}")


def read_bounded(path: str) -> bytes:
    """What is in the token's file, up to more than it may hold. Raises `OSError`."""
    return read_file(path, MAX_TOKEN_BYTES)


def token_in(content: bytes) -> bytes:
    """The token in what was read of its file, without what is around it.

    Raises `ValueError` when there is none in it.
    """
    if len(content) > MAX_TOKEN_BYTES:
        raise ValueError(f"holds more than a token: at most {MAX_TOKEN_BYTES} bytes")
    token = content.strip()
    if not token:
        raise ValueError("is empty: it holds the token")
    if not _TOKEN.fullmatch(token):
        raise ValueError("holds more than a token: one word of visible ASCII characters")
    return token
