"""The access log: what is written of requests, and where to."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, Literal, get_args

from pydantic import AfterValidator, Field, ValidationInfo, model_validator

from meshcore.config.fields import Model, OrText, beside_the_file
from meshcore.config.hints import HintedError, nearest, shown
from meshcore.errors import Diagnostic

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

STDOUT: Final = "stdout"

Format = Literal["text", "json"]

_FORMATS: Final = get_args(Format)


def _destination(text: str, info: ValidationInfo) -> str:
    if text == STDOUT:
        return text
    if text in ("-", "stderr", "off"):
        raise HintedError(f"{text} is no file", f"write stdout, or ./{text} for such a file")
    return beside_the_file(text, info)


class AccessLog(OrText):
    """One line for each request. A format alone goes to standard output."""

    text_schema: ClassVar[dict[str, Any]] = {"enum": list(_FORMATS)}

    format: Format = Field("text", description="How a line is written.")
    to: Annotated[
        str,
        Field(min_length=1, json_schema_extra={"examples": [STDOUT, "access.log"]}),
        AfterValidator(_destination),
    ] = Field(
        STDOUT,
        description="`stdout`, or a file that lines are appended to; a relative path begins at the "
        "folder of the configuration file.",
    )

    @model_validator(mode="before")
    @classmethod
    def _from_word(cls, value: object) -> object:
        if isinstance(value, dict | Model):
            return value
        if isinstance(value, str) and value in _FORMATS:
            return {"format": value}
        raise HintedError(
            f"expected off, text, json or a mapping of format and to, got {shown(value)}",
            _meant(value),
        )


def _meant(value: object) -> str | None:
    if value is True or value in ("on", "yes", STDOUT):
        return "write json"
    if isinstance(value, str) and "/" in value:
        return f"write {{format: text, to: {value}}}"
    return nearest(value, ("off", *_FORMATS)) if isinstance(value, str) else None


def check_access_log(log: object, folder: Path | None) -> Iterator[Diagnostic]:
    """Whether lines can be appended where they are to go. Nothing is opened, and no file made."""
    to = log.get("to") if isinstance(log, dict) else None
    if not isinstance(to, str) or to in ("", STDOUT):
        return
    file = to if folder is None else os.path.join(folder, to)
    if (found := _why_not_appended(file)) is not None:
        why, hint = found
        yield Diagnostic(("access_log", "to"), f"cannot append to {file}: {why}", hint)


def _why_not_appended(file: str) -> tuple[str, str | None] | None:
    try:
        mode = os.stat(file).st_mode
    except FileNotFoundError:
        within = os.path.dirname(os.path.realpath(file))
        if not os.path.isdir(within):
            return f"there is no folder {within}", "files are made here, folders are not"
        if not os.access(within, os.W_OK | os.X_OK):
            return f"no permission to make a file in {within}", None
        return None
    except OSError as error:
        return str(error.strerror), None
    if stat.S_ISDIR(mode):
        return "it is a folder", "name a file in it"
    if stat.S_ISSOCK(mode):
        return "it is a socket", None
    return None if os.access(file, os.W_OK) else ("no permission to write", None)
