"""What newcomers write, and what they are told: what is wrong, where, and what to write instead."""

from pathlib import Path

import pytest

from meshcore.config.load import load_text
from meshcore.errors import ConfigError

BOOK = Path(__file__).parents[2] / "data" / "mistakes.txt"
# Words of the tools below, which mean nothing to whoever writes a configuration.
INNER = (
    "Input should",
    "literal[",
    "constrained",
    "None",
    "True",
    "False",
    "dict",
    "token",
    "node",
)


def mistakes() -> list[tuple[str, str, list[str]]]:
    """Of each: its name, the text, and the lines that it brings."""
    found = []
    for part in BOOK.read_text().split("=== ")[1:]:
        name, *lines = part.split("\n")
        told = [line[2:] for line in lines if line.startswith("> ")]
        written = lines[: lines.index(f"> {told[0]}")]
        found.append((name, "\n".join(written) + "\n", told))
    return found


@pytest.mark.parametrize(
    ("name", "text", "lines"), mistakes(), ids=[name for name, *_ in mistakes()]
)
def test_a_mistake_is_told_with_what_to_write(name: str, text: str, lines: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load_text(text, "m")
    told = [str(problem).removeprefix("m:") for problem in caught.value.problems]
    assert told == lines, name
    assert all(problem.line and problem.column for problem in caught.value.problems)
    assert not [word for word in INNER for line in told if word in line]
