"""The JSON Schema tells every key, in words."""

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from meshcore.config.load import load_text
from meshcore.config.schema import json_schema
from meshcore.errors import ConfigError

SCHEMA = json_schema()  # takes a while


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
    found = dict(properties(SCHEMA))
    assert len(found) > 90
    assert [path for path, key in found.items() if not key.get("description")] == []


def test_defaults_are_shown_as_people_write_them() -> None:
    defs = SCHEMA["$defs"]
    assert defs["ListenerTimeouts"]["properties"]["idle"]["default"] == "75s"
    assert defs["ListenerLimits"]["properties"]["header_bytes"]["default"] == "64KiB"
    assert defs["Http2"]["properties"]["resets"]["default"] == "100/s"
    assert defs["UpstreamLimits"]["properties"]["client_share"]["default"] == "80%"
    assert defs["UpstreamHttp2"]["properties"]["ping"]["default"] == "6m"


def test_short_forms_are_in_the_schema() -> None:
    defs = SCHEMA["$defs"]
    assert defs["Endpoint"]["anyOf"][0]["type"] == "string"
    assert defs["LimitKey"]["anyOf"][0] == {
        "type": "string",
        "enum": ["client", "host", "identity"],
    }
    http1 = defs["ListenerProtocols"]["properties"]["http1"]
    assert http1["enum"] == ["on", "off", True, False]
    assert {"enum": ["off", False]} in [
        {"enum": arm.get("enum")} for arm in defs["Upstream"]["properties"]["ejection"]["anyOf"]
    ]


def test_unknown_keys_are_refused_everywhere() -> None:
    schema = SCHEMA
    objects = [d for d in schema["$defs"].values() if d.get("type") == "object"]
    assert all(d["additionalProperties"] is False for d in [schema, *objects])


def places(
    part: dict[str, Any], path: tuple[Any, ...] = ()
) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Every example of the schema, and where in a configuration it may be written."""
    if "$ref" in part:
        part = SCHEMA["$defs"][part["$ref"].rpartition("/")[2]]
    for example in part.get("examples", []):
        yield path, example
    for arm in (*part.get("anyOf", ()), *part.get("oneOf", ())):
        yield from places(arm, path)
    for key, inner in part.get("properties", {}).items():
        yield from places(inner, (*path, key))
    if isinstance(inner := part.get("additionalProperties"), dict):
        yield from places(inner, (*path, "edge"))
    if isinstance(inner := part.get("items"), dict):
        yield from places(inner, (*path, 0))


EXAMPLES = list(places(SCHEMA))


def configuration(path: tuple[Any, ...], example: Any) -> str:
    """One in which an example is written, in the places that its neighbours leave it."""
    whole: Any = {"version": 1, "listeners": {"edge": {"bind": "127.0.0.1:1"}}}
    at = whole
    for step, following in zip(path, (*path[1:], None), strict=True):
        empty: Any = example if following is None else [] if following == 0 else {}
        if isinstance(at, list):
            at.append(empty)
        elif following is None or step not in at:
            at[step] = empty
        at = at[step]
    return yaml.safe_dump(whole)


@pytest.mark.parametrize(
    ("path", "example"), EXAMPLES, ids=[f"{'.'.join(map(str, p))}={e}" for p, e in EXAMPLES]
)
def test_an_example_is_accepted_where_it_stands(path: tuple[Any, ...], example: Any) -> None:
    """What else that place needs, and is not there, is nothing against it."""
    try:
        load_text(configuration(path, example))
    except ConfigError as error:
        where = [step for step in path if step != 0]
        against = [p for p in error.problems if p.path.endswith(str(where[-1]))]
        assert [str(problem) for problem in against if "missing" not in problem.message] == []


def test_the_examples_are_found() -> None:
    assert (("admin", "bind"), "unix:/run/mesh.sock") in EXAMPLES
    assert len({path for path, _ in EXAMPLES}) > 50
