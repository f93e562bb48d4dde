"""The documents name every reason, metric and command that there is, and no others."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import meshcore
import meshcore.testing
from meshcore._core import Reason
from meshcore.cli import main

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = "".join(path.read_text() for path in [ROOT / "README.md", *sorted(DOCS.glob("*.md"))])
OF_LAYERS = "meshcore_layer_"  # and what a layer counts, `_total`
NOT_TOLD = {"answered", "upstream_status"}  # an endpoint's own answers have no reason in the log


def test_every_reason_is_in_the_table() -> None:
    text = (DOCS / "configuration.md").read_text()
    table = set(re.findall(r"^\| `([a-z_]+)` \| (?:\d{3}, \d+|—) \|", text, re.MULTILINE))
    assert table == {reason.name.lower() for reason in Reason} - NOT_TOLD


def test_all_that_limiters_have_is_documented() -> None:
    text = (DOCS / "library.md").read_text()
    for kind in (meshcore.TokenBucket, meshcore.ClientLimiter):
        names = {name for name in dir(kind) if not name.startswith("_")}
        assert {name for name in names if not re.search(rf"\b{name}\b", text)} == set()


def metrics() -> set[str]:
    """The names that our code writes, not those of its documentation and its tests."""
    rust = [
        re.split(r"^#\[cfg\((?:all\()?test", path.read_text(), maxsplit=1, flags=re.MULTILINE)[0]
        for path in (ROOT / "rust").glob("*/src/**/*.rs")
    ]
    python = [path.read_text() for path in (ROOT / "python").rglob("*.py")]
    lines = [line for text in rust + python for line in text.splitlines()]
    code = "\n".join(line for line in lines if not line.lstrip().startswith("//"))
    return set(re.findall(r'"(meshcore_[a-z0-9_]+)"', code))


def test_every_metric_is_in_a_table() -> None:
    found = metrics()
    assert len(found) > 40
    cells = re.findall(r"^\| (`meshcore_[^|]+)\|", PAGES, re.MULTILINE)
    told = {name for cell in cells for name in re.findall(r"meshcore_[a-z0-9_]+", cell)}
    assert sorted(found ^ told) == [OF_LAYERS]


COMMANDS = sorted(main.commands)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_its_options_are_told(name: str) -> None:
    assert re.search(rf"meshcore {name}\b", PAGES)
    options = {each for param in main.commands[name].params for each in param.opts}
    long = {each for each in options if each.startswith("--")}
    assert {each for each in long if not re.search(rf"(?<!\w){each}\b", PAGES)} == set()


def test_the_reference_of_commands_is_made_from_all_of_them() -> None:
    page = (DOCS / "commands.md").read_text()
    assert re.findall(r"^    :(?:module|command): (\S+)$", page, re.MULTILINE) == [
        "meshcore.cli",
        "main",
    ]


def test_the_documents_tell_of_no_other_command() -> None:
    code = re.findall(r"^```(?:sh|console)\n(.*?)^```", PAGES, re.MULTILINE | re.DOTALL)
    code += re.findall(r"`([^`\n]+)`", PAGES)
    lines = [line for each in code for line in each.splitlines()]
    called = {
        found[1] for line in lines if (found := re.match(r"(?:\$ )?meshcore ([a-z]\w*)", line))
    }
    assert called <= {*COMMANDS}
    assert len(called) > 8


def test_the_reference_of_python_has_every_public_name_once() -> None:
    found = re.findall(r"^::: (\S+)$", (DOCS / "api.md").read_text(), re.MULTILINE)
    public = {f"meshcore.{name}" for name in meshcore.__all__ if name != "__version__"}
    public |= {f"meshcore.testing.{name}" for name in meshcore.testing.__all__}
    assert sorted(found) == sorted(public)
