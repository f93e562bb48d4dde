"""The kinds of value that configuration keys have: parsed once, checked once, described once.

Each is an ``Annotated`` type. The parser takes what people write and raises `ValueError`; the
serializer writes it back, so that a dumped configuration can be loaded again.
"""

from __future__ import annotations

import ipaddress
import os
import re
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    PlainSerializer,
    ValidationInfo,
    WithJsonSchema,
)

from meshcore._core import check_path, check_regex, is_codecs_own, unseen_field
from meshcore.config.address import (
    Address,
    bind_address,
    check_labels,
    endpoint_address,
    host_name,
)
from meshcore.config.hints import HintedError, shown
from meshcore.config.units import (
    Rate,
    format_duration,
    format_percent,
    format_rate,
    format_sample,
    format_size,
    parse_duration,
    parse_mode,
    parse_percent,
    parse_rate,
    parse_sample,
    parse_size,
)

# RFC 9110 §5.6.2.
_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
# RFC 9110 §5.5: visible bytes, spaces and tabs inside; no other control character.
_FIELD_VALUE: Final = re.compile(r"[^\x00-\x20\x7f](?:[^\x00-\x08\x0a-\x1f\x7f]*[^\x00-\x20\x7f])?")
# Names are labels of metrics and parts of messages: one word, and room for `namespace/name:port`.
_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./:@-]{0,254}")
_LAYER: Final = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


class Model(BaseModel):
    """Immutable, without unknown keys, and without guesses such as ``"5"`` for 5."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class OrText(Model):
    """A mapping that may be written as a single text too."""

    text_schema: ClassVar[dict[str, Any]]
    """The JSON Schema of that text."""

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: Any, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        mapping = handler.resolve_ref_schema(handler(core_schema))
        return {"anyOf": [{"type": "string", **cls.text_schema}, mapping]}


def _host_pattern(text: str) -> str:
    """``example.com``, ``*.example.com``, ``example.*``, ``[v6]`` or ``*``, in lower case."""
    if text == "*":
        return text
    if text.startswith("[") and text.endswith("]"):
        return f"[{ipaddress.IPv6Address(text[1:-1])}]"
    if "/" in text:
        bare = text.partition("://")[2].partition("/")[0] or text.partition("/")[0]
        raise HintedError("a host has no scheme and no path", f"write {bare}")
    name = text.lower().removesuffix(".")
    if re.search(r":\d*$", name):
        raise HintedError("a host is matched without its port", f"write {name.rpartition(':')[0]}")
    bare = name.removeprefix("*.") if name.startswith("*.") else name.removesuffix(".*")
    if "*" in bare:
        raise ValueError("`*` stands for whole labels, first or last: *.example.com or example.*")
    check_labels(bare)
    return name


def _server_name(text: str) -> str:
    """``example.com`` or ``*.example.com``: what SNI can ask for (RFC 6066 §3)."""
    if "*" in text.removeprefix("*.").removesuffix(".*") and text != "*":
        raise ValueError("`*` stands for one whole label, the first: *.example.com")
    name = _host_pattern(text)
    if name == "*":
        raise HintedError("* is not a name", "tls.cert is for every name that sni does not have")
    if name.endswith(".*"):
        raise ValueError(f"no certificate can be for {name}: *.example.com stands for one label")
    if name.startswith("[") or re.fullmatch(r"[\d.]+", name):
        raise HintedError("clients ask for names, not for addresses", "tls.cert is shown then")
    return name


def _authority(text: str) -> str:
    """A host to send, with or without port."""
    bare = re.sub(r":\d{1,5}$", "", text)
    if bare.startswith("[") and bare.endswith("]"):
        ipaddress.IPv6Address(bare[1:-1])
    else:
        host_name(bare)
    return text.lower()


def _name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise ValueError(
            "a name is one word of up to 255 letters, digits and _ . / : @ -, "
            "and begins with a letter, digit or _"
        )
    return text


def _upgrade(text: str) -> str:
    # RFC 9110 §7.8: `name` or `name/version`; names are compared without regard to case.
    name, slash, version = text.partition("/")
    _token(name)
    if slash:
        _token(version)
    if name.lower() == "h2c":
        # RFC 9113 §3.1 deprecates it; passed on, it would carry requests past the routes.
        raise ValueError("h2c cannot be upgraded to: a plain listener speaks it from the start")
    if text != text.lower():
        raise ValueError(f"write {text.lower()}: protocols are in lower case")
    return text


def _token(text: str) -> str:
    if not _TOKEN.fullmatch(text):
        raise HintedError(f"{shown(text)} is not a name (RFC 9110 §5.6.2)", _as_token(text))
    return text


def _as_token(text: str) -> str:
    bare = text.strip().removesuffix(":")
    if _TOKEN.fullmatch(bare):
        return f"write {bare}"
    joined = "-".join(bare.split())
    if _TOKEN.fullmatch(joined):
        return f"it has no blanks: write {joined}"
    return "letters, digits and ! # $ % & ' * + - . ^ _ ` | ~ may be in it"


def _field_name(text: str) -> str:
    return _token(text).lower()


def _rule_field(text: str, host: str) -> str:
    """The name of a field that rules may go by."""
    name = _field_name(text)
    why = unseen_field(name)
    if why == "host":
        raise HintedError("a request names its host in several ways, this is one of them", host)
    if why == "connection":
        raise ValueError(f"{name} is about one connection, and taken out before any rule sees it")
    if why == "twin":
        plain = name.replace("_", "-")
        raise HintedError(
            f"{name} is taken out before any rule sees it: services would read it as {plain}",
            None if unseen_field(plain) else f"write {plain}",
        )
    return name


def _changeable_name(text: str) -> str:
    name = _field_name(text)
    if is_codecs_own(name):
        hint = (
            "use rewrite.host"
            if name == "host"
            else "it frames the message or steers its connection"
        )
        raise ValueError(f"{name} cannot be changed: {hint}")
    return name


def _field_value(text: str) -> str:
    if text and not _FIELD_VALUE.fullmatch(text):
        raise ValueError("a field's value is one line without spaces around it (RFC 9110 §5.5)")
    return text


def _method(text: str) -> str:
    _token(text)
    if text != text.upper():
        raise ValueError(f"methods are case-sensitive: write {text.upper()}")
    return text


def _path(text: str) -> str:
    if not text.startswith("/"):
        raise ValueError("a path begins with /")
    if re.search(r"[\x00-\x20\x7f?#]", text):
        raise ValueError("a path has no space, control character, ? or #")
    check_path(text)
    return text


def _target(text: str) -> str:
    path, _, query = text.partition("?")
    if re.search(r"[^\x21-\x7e]|#", query):
        raise ValueError("a query has no space, control character or #, and is escaped")
    _path(path)
    return text


def layer_class(value: object) -> str:
    """Where a layer in Python is found."""
    if not isinstance(value, str) or not _LAYER.fullmatch(value) or ".py:" in value:
        raise HintedError(f"expected module:Class, got {shown(value)}", _as_layer(value))
    return value


def _as_layer(value: object) -> str | None:
    """``pkg.module.Class`` and ``pkg/module.py:Class`` as they should be."""
    text = str(value).replace(".py:", ":").replace("/", ".")
    if ":" not in text:
        text = ":".join(text.rsplit(".", 1))
    return f"write {text}" if _LAYER.fullmatch(text) else None


def _regex(text: str) -> str:
    if not text:
        raise ValueError("an empty regex matches nothing but the empty text")
    try:
        check_regex(text)
    except ValueError as error:
        # The compiler's message shows the pattern over several lines; the last says what is wrong.
        reason = str(error).strip().splitlines()[-1].removeprefix("error: ")
        raise ValueError(f"bad regex: {reason}") from None
    return text


def beside_the_file(text: str, info: ValidationInfo) -> str:
    """A path; a relative one begins at the folder of the configuration file."""
    folder = (info.context or {}).get("folder")
    return text if folder is None else os.path.join(folder, text)


Off = Literal["off", False]
"""How something that is on by default is switched off."""


def off(value: object) -> object:
    """``off`` and ``false`` as ``None``."""
    return None if value is False or value == "off" else value


def _switch(value: object) -> bool:
    if isinstance(value, bool):
        return value
    if value in ("on", "off"):
        return value == "on"
    meant = {"yes": "on", "1": "on", "no": "off", "0": "off"}.get(str(value).lower())
    raise HintedError(f"expected on or off, got {shown(value)}", meant and f"write {meant}")


def one_of(model: Model, *names: str) -> None:
    """Raise `ValueError` unless exactly one of these fields of `model` is given."""
    given = [name for name in names if getattr(model, name) is not None]
    if len(given) != 1:
        raise ValueError(
            f"exactly one of {', '.join(names)} is needed, {' and '.join(given) or 'none'} given"
        )


def _text(pattern: str, *examples: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": pattern, "examples": list(examples)})


def _serialized(function: Any) -> PlainSerializer:
    return PlainSerializer(function, return_type=str)


Duration = Annotated[
    int,
    BeforeValidator(parse_duration),
    _serialized(format_duration),
    WithJsonSchema(
        {
            "type": ["string", "integer"],
            "pattern": r"^(0|(\d+(\.\d+)?(ns|us|ms|s|m|h|d))+)$",
            "maximum": 0,
            "minimum": 0,
            "examples": ["30s", "250ms", "1m30s", 0],
        }
    ),
]
"""Nanoseconds, written ``30s``."""

Size = Annotated[
    int,
    BeforeValidator(parse_size),
    _serialized(format_size),
    WithJsonSchema(
        {
            "type": ["string", "integer"],
            "pattern": r"^\d+(\.\d+)?\s*([KMGT]iB|[kMGT]?B)?$",
            "minimum": 0,
            "examples": ["64KiB", "10MB", 1500],
        }
    ),
]
"""Bytes, written ``64KiB``."""

Percent = Annotated[
    int,
    BeforeValidator(parse_percent),
    _serialized(format_percent),
    WithJsonSchema(
        {
            "type": ["string", "integer"],
            "pattern": r"^\d+\s*%?$",
            "minimum": 0,
            "maximum": 100,
            "examples": ["80%", 80],
        }
    ),
]
"""A whole part of a hundred, written ``80%``."""


Sample = Annotated[
    int,
    BeforeValidator(parse_sample),
    _serialized(format_sample),
    WithJsonSchema(
        {
            "type": ["string", "integer"],
            "pattern": r"^\d{1,3}(\.\d{1,4})?\s*%$",
            "minimum": 0,
            "maximum": 100,
            "examples": ["1%", "0.01%", 100],
        }
    ),
]
"""Parts per million, written as a percentage: ``0.01%``."""


def _a_part(percent: int) -> int:
    if percent == 0:
        raise ValueError("0% lets nothing pass: must be at least 1%")
    return percent


Share = Annotated[Percent, AfterValidator(_a_part)]
"""A percentage that cannot be nothing."""

Switch = Annotated[
    bool,
    BeforeValidator(_switch, json_schema_input_type=Literal["on", "off", True, False]),
]
"""``on`` or ``off``; ``true`` and ``false`` as well."""

RateText = Annotated[
    Rate,
    BeforeValidator(lambda value: value if isinstance(value, Rate) else parse_rate(value)),
    _serialized(format_rate),
    _text(r"^\d+/\d*(ns|us|ms|s|m|h|d)$", "100/s", "6000/m", "5/10s"),
]
"""Tokens per period, written ``100/s``."""

BindAddress = Annotated[
    Address,
    BeforeValidator(bind_address),
    _serialized(str),
    _text(
        r"^(unix:/.+|\[.+\]:\d+|[^:\[\]]+:\d+)$",
        "0.0.0.0:8443",
        "[::]:8443",
        "unix:/run/mesh.sock",
    ),
]
"""Where to listen."""

FileMode = Annotated[
    int,
    BeforeValidator(parse_mode),
    _serialized(lambda mode: f"{mode:04o}"),
    WithJsonSchema(
        {
            "type": ["string", "integer"],
            "pattern": r"^(0o?)?[67][0-7]{2}$",
            "examples": ["0600", "0660"],
        }
    ),
]
"""Permission bits of a file, written in octal."""

EndpointAddress = Annotated[
    Address,
    BeforeValidator(endpoint_address),
    _serialized(str),
    _text(
        r"^(unix:/.+|\[.+\]:\d+|[^:\[\]]+:\d+)$",
        "127.0.0.1:9001",
        "api.internal:80",
        "unix:/run/api.sock",
    ),
]
"""Where to connect."""

Name = Annotated[str, AfterValidator(_name)]
HostPattern = Annotated[str, AfterValidator(_host_pattern)]
ServerName = Annotated[str, AfterValidator(_server_name)]
Authority = Annotated[str, AfterValidator(_authority)]
MatchedField = Annotated[str, AfterValidator(lambda text: _rule_field(text, "use match.host"))]
CountedField = Annotated[str, AfterValidator(lambda text: _rule_field(text, "write key: host"))]
ChangeableName = Annotated[str, AfterValidator(_changeable_name)]
FieldValue = Annotated[str, AfterValidator(_field_value)]
Method = Annotated[str, AfterValidator(_method)]
UpgradeToken = Annotated[str, AfterValidator(_upgrade)]
Path = Annotated[str, AfterValidator(_path)]
Target = Annotated[str, AfterValidator(_target)]
Regex = Annotated[str, AfterValidator(_regex)]
LAYER_PATTERN: Final = r"^[\w.]+:[\w.]+$"
LayerClass = Annotated[
    str, BeforeValidator(layer_class), _text(LAYER_PATTERN, "mypkg.layers:AddTenant")
]
FilePath = Annotated[str, Field(min_length=1), AfterValidator(beside_the_file)]
"""A file; a relative path begins at the folder of the configuration file."""


BodyRate = Annotated[int, Field(ge=0, le=1 << 32)]
"""Bytes in a second."""


def _at_least(least: str) -> AfterValidator:
    def check(value: int) -> int:
        if value < parse_duration(least):
            raise ValueError(f"must be at least {least}")
        return value

    return AfterValidator(check)


def within(least: str, most: str) -> AfterValidator:
    """A validator of sizes."""

    def check(value: int) -> int:
        if not parse_size(least) <= value <= parse_size(most):
            raise ValueError(f"must be within {least} and {most}")
        return value

    return AfterValidator(check)


# The schema's own examples lie within what is accepted, as a test demands of all of them.
# The core's tables count whole milliseconds.
Span = Annotated[Duration, _at_least("1ms"), Field(examples=["30s", "250ms", "1m30s"])]
"""A duration that cannot be nothing."""

HeadSize = Annotated[Size, within("256B", "1MiB"), Field(examples=["64KiB", "16kB", 1500])]
"""Bytes of a head or of a part of it."""

# RFC 9113 §6.9.2: windows begin with 65,535, and a connection's cannot be made smaller.
StreamWindow = Annotated[Size, within("65535", "16MiB"), Field(examples=["256KiB", 65535])]
"""Bytes of a stream's flow-control window."""

ConnectionWindow = Annotated[Size, within("65535", "1GiB"), Field(examples=["4MiB", 65535])]
"""Bytes of a connection's flow-control window; 2^31 - 1 is the protocol's most."""


def duration(default: str, description: str) -> Any:
    """A field with a duration and its default, shown as people write it."""
    shown: dict[str, Any] = {"default": default}
    return Field(parse_duration(default), description=description, json_schema_extra=shown)


def size(default: str, description: str) -> Any:
    """A field with a size and its default, shown as people write it."""
    shown: dict[str, Any] = {"default": default}
    return Field(parse_size(default), description=description, json_schema_extra=shown)


def percent(default: str, description: str) -> Any:
    """A field with a percentage and its default, shown as people write it."""
    shown: dict[str, Any] = {"default": default}
    return Field(parse_percent(default), description=description, json_schema_extra=shown)


def sample(default: str, description: str) -> Any:
    """The same for `Sample`."""
    shown: dict[str, Any] = {"default": default}
    return Field(parse_sample(default), description=description, json_schema_extra=shown)


def rate(default: str, description: str) -> Any:
    """A field with a rate and its default, shown as people write it."""
    shown: dict[str, Any] = {"default": default}
    return Field(parse_rate(default), description=description, json_schema_extra=shown)
