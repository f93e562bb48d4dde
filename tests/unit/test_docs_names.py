"""The documents name every reason and every metric that there is."""

from __future__ import annotations

import re
from pathlib import Path

import meshcore
import meshcore.testing
from meshcore._core import Reason

DOCS = Path(__file__).parents[2] / "docs"
CORE = Path(__file__).parents[2] / "rust" / "meshcore-core" / "src" / "exchange" / "metrics.rs"
PROCESS = Path(__file__).parents[2] / "python" / "meshcore" / "process"
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


def test_every_metric_is_in_a_table() -> None:
    text = "".join(path.read_text() for path in DOCS.glob("*.md"))
    places = [CORE, *PROCESS.glob("*.py")]
    names = {
        name for path in places for name in re.findall(r'"(meshcore_[a-z0-9_]+)"', path.read_text())
    }
    assert len(names) > 25
    told = set(re.findall(r"meshcore_[a-z0-9_]+", text))
    assert names <= told


def test_the_reference_of_python_has_every_public_name_once() -> None:
    found = re.findall(r"^::: (\S+)$", (DOCS / "api.md").read_text(), re.MULTILINE)
    public = {f"meshcore.{name}" for name in meshcore.__all__ if name != "__version__"}
    public |= {f"meshcore.testing.{name}" for name in meshcore.testing.__all__}
    assert sorted(found) == sorted(public)
