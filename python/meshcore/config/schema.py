"""The JSON Schema of the configuration, made from the model."""

from typing import Any

from meshcore.config.model import Config

__all__ = ["json_schema"]

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) with a description for every key, of what may be written."""
    schema = Config.model_json_schema(mode="validation")
    _without_titles(schema)
    return {"$schema": DIALECT, "title": "meshcore configuration", **schema}


def _without_titles(part: Any) -> None:
    """Drop the titles that only repeat a key's name; keys called ``title`` have a mapping."""
    if isinstance(part, dict):
        if isinstance(part.get("title"), str):
            del part["title"]
        for inner in part.values():
            _without_titles(inner)
    elif isinstance(part, list):
        for inner in part:
            _without_titles(inner)
