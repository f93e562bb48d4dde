"""HTTP/2 vectors, read from their JSON: HPACK stories and single frames."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

DATA = Path(__file__).parents[2] / "data"
# What holds until a SETTINGS_HEADER_TABLE_SIZE says otherwise (RFC 9113 §6.5.2).
DEFAULT_TABLE_BYTES = 4096


class Block(NamedTuple):
    """A header block: as it comes, what it says, and the table's bound from here on."""

    wire: bytes
    fields: list[tuple[bytes, bytes]]
    table_bytes: int


class Story(NamedTuple):
    """The blocks of one connection, which share a dynamic table."""

    name: str
    blocks: list[Block]


class Frame(NamedTuple):
    """What a frame says; the payload's entries are named as in the vectors' files."""

    kind: int
    flags: int
    stream: int
    payload: dict[str, Any]


class FrameVector(NamedTuple):
    """A frame as it comes, and what it is, or the codes with which it may be refused."""

    name: str
    wire: bytes
    frame: Frame | None
    errors: frozenset[int]


def stories() -> list[Story]:
    """Every HPACK story, by encoder and number."""
    return [_story(path) for path in sorted((DATA / "hpack").glob("*/*.json"))]


def _story(path: Path) -> Story:
    blocks = []
    table_bytes = DEFAULT_TABLE_BYTES
    for case in json.loads(path.read_text())["cases"]:
        table_bytes = case.get("header_table_size", table_bytes)
        fields = [
            (name.encode(), value.encode())
            for field in case["headers"]
            for name, value in field.items()
        ]
        blocks.append(Block(bytes.fromhex(case["wire"]), fields, table_bytes))
    return Story(f"{path.parent.name}/{path.stem}", blocks)


def frames() -> list[FrameVector]:
    """Every frame, the refused ones under `error/`."""
    return [_vector(path) for path in sorted((DATA / "h2frames").glob("*/*.json"))]


def _vector(path: Path) -> FrameVector:
    read = json.loads(path.read_text())
    said = read["frame"]
    frame = None
    if said is not None:
        payload = said["frame_payload"]
        frame = Frame(said["type"], said["flags"], said["stream_identifier"], payload)
    name = f"{path.parent.name}/{path.stem}"
    return FrameVector(name, bytes.fromhex(read["wire"]), frame, frozenset(read["error"] or ()))
