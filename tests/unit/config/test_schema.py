"""The JSON Schema tells every key, in words."""

from collections.abc import Iterator
from typing import Any

from meshcore.config.schema import json_schema


def properties(part: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(part, dict):
        for key, value in part.get("properties", {}).items():
            yield f"{path}.{key}", value
        for key, value in part.items():
            yield from properties(value, f"{path}/{key}")
    elif isinstance(part, list):
        for number, value in enumerate(part):
            yield from properties(value, f"{path}/{number}")


def test_every_key_has_a_description() -> None:
    found = dict(properties(json_schema()))
    assert len(found) > 90
    assert [path for path, key in found.items() if not key.get("description")] == []


def test_defaults_are_shown_as_people_write_them() -> None:
    defs = json_schema()["$defs"]
    assert defs["ListenerTimeouts"]["properties"]["idle"]["default"] == "75s"
    assert defs["ListenerLimits"]["properties"]["header_bytes"]["default"] == "64KiB"
    assert defs["Http2"]["properties"]["resets"]["default"] == "100/s"
    assert defs["UpstreamLimits"]["properties"]["client_share"]["default"] == "80%"
    assert defs["UpstreamHttp2"]["properties"]["ping"]["default"] == "6m"


def test_short_forms_are_in_the_schema() -> None:
    defs = json_schema()["$defs"]
    assert defs["Endpoint"]["anyOf"][0]["type"] == "string"
    assert defs["LimitKey"]["anyOf"][0] == {"type": "string", "enum": ["client", "host"]}
    http1 = defs["ListenerProtocols"]["properties"]["http1"]
    assert http1["enum"] == ["on", "off", True, False]
    assert {"enum": ["off", False]} in [
        {"enum": arm.get("enum")} for arm in defs["Upstream"]["properties"]["ejection"]["anyOf"]
    ]


def test_unknown_keys_are_refused_everywhere() -> None:
    schema = json_schema()
    objects = [d for d in schema["$defs"].values() if d.get("type") == "object"]
    assert all(d["additionalProperties"] is False for d in [schema, *objects])
