"""The documentation names what there is, and its example works."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshcore.config.fields import Model
from meshcore.config.load import load_text
from meshcore.errors import ConfigError

DOCS = Path(__file__).parents[3] / "docs"
TEXT = (DOCS / "configuration.md").read_text()
ALLOW = (DOCS / "authorization.md").read_text()


def test_the_examples_are_configurations() -> None:
    example, *parts = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
    for part in parts:
        load_text(f"version: 1\n{part}")
    with pytest.raises(ConfigError) as caught:
        load_text(example)
    # Only its certificate is not there.
    assert [p.path for p in caught.value.problems] == [
        "listeners.edge.tls.cert",
        "listeners.edge.tls.key",
    ]


def models(kind: type[Model] = Model) -> Iterator[type[Model]]:
    """Every kind of mapping that a configuration has."""
    for each in kind.__subclasses__():
        yield each
        yield from models(each)


def keys(model: type[Model]) -> set[str]:
    return {field.alias or name for name, field in model.model_fields.items()}


@pytest.mark.parametrize("model", sorted({*models()}, key=repr))
def test_every_key_is_documented(model: type[Model]) -> None:
    code = re.findall(r"`([^`\n]+)`", TEXT + ALLOW)
    words = {word for each in code for word in re.findall(r"\w+", each)}
    assert keys(model) - words == set()
