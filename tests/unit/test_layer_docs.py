"""What layers meet is documented: each member where editors look, and in the guide's table."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import pytest

from meshcore import Layer

ROOT = Path(__file__).parents[2]
STUB = ast.parse((ROOT / "python" / "meshcore" / "_core.pyi").read_text())
GUIDE = (ROOT / "docs" / "library.md").read_text()
# What connections and exchanges ask, and no layer has to.
OURS = {
    "Request": {"chunked", "end", "expects_continue", "idempotent", "tunnel"},
    "Response": {"authenticates", "begins_tunnel", "end", "informational"},
    "Answer": {
        "about", "as_response", "detail", "for_codec_error", "for_reason", "number", "reason",
        "status", "trailers", "with_detail", "with_head_of",
    },
    "Outcome": set[str](),
}  # fmt: skip


def members(name: str) -> dict[str, ast.FunctionDef]:
    (found,) = (x for x in STUB.body if isinstance(x, ast.ClassDef) and x.name == name)
    assert ast.get_docstring(found)
    return {each.name: each for each in found.body if isinstance(each, ast.FunctionDef)}


@pytest.mark.parametrize("name", OURS)
def test_every_member_says_what_it_is(name: str) -> None:
    assert [each for each, node in members(name).items() if not ast.get_docstring(node)] == []


def test_every_hook_says_what_it_is() -> None:
    hooks = [member for member in vars(Layer) if not member.startswith("_")]
    ways = ("request", "response")
    bodies = {f"on_{way}_{what}" for way in ways for what in ("body", "trailers")}
    heads = {"on_request", "on_response", "on_end"}
    others = {"local_answers", "keeps_length", "counts", "count"}
    assert heads | bodies | others == {*hooks}
    assert all(inspect.getdoc(getattr(Layer, hook)) for hook in hooks if hook.startswith("on_"))
    assert inspect.getdoc(Layer)


@pytest.mark.parametrize("name", OURS)
def test_what_layers_use_is_in_the_table(name: str) -> None:
    table = re.findall(r"^\| (.*) \|$", GUIDE, re.MULTILINE)
    prefix = {"Answer": "meshcore.Answer("}.get(name, f"{name.lower()}.")
    rows = [row for row in table if prefix in row or " of either " in row or "_header(" in row]
    told = {word for row in rows for code in re.findall(r"`([^`]+)`", row.split(" | ")[0])
            for word in re.findall(r"\w+", code)}  # fmt: skip
    known = {each for each in members(name) if not each.startswith("_")}
    assert known - OURS[name] <= told
    assert known >= OURS[name]
