"""llhttp's vectors, read from its Markdown."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).parents[2] / "data" / "llhttp"
VECTOR = re.compile(
    r"<!--\s*meta=(\{[^\n]*?\})\s*-->\n+```http\n(.*?)^```$(?:(?!```).)*```log\n(.*?)^```$",
    re.DOTALL | re.MULTILINE,
)


class Vector(NamedTuple):
    """What is read, and what llhttp says of it."""

    name: str
    lenient: bool
    data: bytes
    error: str | None
    messages: int
    body: int


def bytes_of(text: str) -> bytes:
    """The bytes of an ``http`` block."""
    text = re.sub(r"\\\n", "", text.removesuffix("\n")).replace("\n", "\r\n")
    for written, meant in (("\\r", "\r"), ("\\n", "\n"), ("\\t", "\t"), ("\\f", "\f")):
        text = text.replace(written, meant)
    return re.sub(rb"\\x([0-9a-fA-F]+)", lambda m: bytes([int(m[1], 16)]), text.encode())


def vectors(kind: str) -> list[Vector]:
    """The vectors of ``request`` or ``response``, by file and place."""
    found = []
    for path in sorted((FOLDER / kind).glob("*.md")):
        for number, (meta, text, log) in enumerate(VECTOR.findall(path.read_text()), 1):
            error = re.search(r'error code=\d+ reason="(.*)"', log)
            found.append(
                Vector(
                    f"{path.stem}/{number}",
                    "lenient" in json.loads(meta)["type"],
                    bytes_of(text),
                    error[1] if error else None,
                    log.count("message complete"),
                    sum(map(int, re.findall(r"len=(\d+) span\[body\]", log))),
                )
            )
    return found
