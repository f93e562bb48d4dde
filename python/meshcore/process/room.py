"""How much memory workers share: what `segment_max` says, or what the configuration takes.

A configuration does not show what its blocks take, how they lie and with which columns, but
the segment itself. So where a number is needed, one is made and looked at: its file is sparse.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final, TypeVar

from meshcore._core import Engine, Segment
from meshcore.config.units import format_size
from meshcore.errors import ConfigError, Diagnostic, SegmentFullError

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshcore.config.snapshot import Snapshot

P = TypeVar("P")

# For `auto`: room for a hundred times what most configurations take. Pages that are never written
# cost nothing.
LEAST_BYTES: Final = 256 << 20
# As much as `segment_max` may say.
MOST_BYTES: Final = 64 << 30
# By how much the next try is larger.
STEP: Final = 4
MIB: Final = 1 << 20


def slots_for(workers: int) -> int:
    """Columns of the segment for this many workers: as many again may be there in an upgrade, and
    some that die or drain."""
    return max(8, 2 * workers + 4)


def share(
    snapshot: Snapshot, workers: int, seed: int, words: bytes | None = None
) -> tuple[Segment, Engine, int]:
    """A segment with a configuration's blocks, the engine that writes it, and how many blocks have
    the words that another program exported.

    With `auto` half of it is left for what later configurations add. Raises `ConfigError`, which
    says the size to set when it does not fit.
    """
    size, most = sizes(snapshot)
    while True:
        segment = Segment.create(
            max_bytes=size,
            worker_slots=slots_for(workers),
            seed=secrets.randbits(64),
            like=words,
        )
        engine = Engine.control(segment, seed=seed)
        try:
            kept = engine.import_words(words) if words is not None else 0
            engine.apply(snapshot.core_json())
        except SegmentFullError:
            if size >= most:
                raise too_small(snapshot, slots_for(workers), size) from None
        else:
            if 2 * segment.reserved_bytes <= size or size >= most:
                return segment, engine, kept
        size = min(STEP * size, most)


def alone(snapshot: Snapshot, seed: int, prepare: Callable[[Engine], P]) -> tuple[Engine, P, int]:
    """An engine for one process with room for a configuration, what ``prepare`` made of that, and
    how many bytes of room. Raises as `share`."""
    size, most = sizes(snapshot)
    while True:
        engine = Engine(seed=seed, segment_max=size)
        try:
            return engine, prepare(engine), size
        except SegmentFullError:
            if size >= most:
                raise too_small(snapshot, 1, size) from None
            size = min(STEP * size, most)


def sizes(snapshot: Snapshot) -> tuple[int, int]:
    """The size to begin with, and the greatest one."""
    given = snapshot.segment_max_bytes
    return (LEAST_BYTES, MOST_BYTES) if given is None else (given, given)


def need(snapshot: Snapshot, slots: int) -> int:
    """Bytes that a program takes which starts with this configuration and has this many columns, in
    whole MiB.

    As long as compiling it takes. Raises `ConfigError`.
    """
    size = LEAST_BYTES
    while True:
        segment = Segment.create(max_bytes=size, worker_slots=slots, seed=0)
        try:
            Engine.control(segment, seed=0).apply(snapshot.core_json())
        except SegmentFullError:
            if size >= MOST_BYTES:
                raise
            size = min(STEP * size, MOST_BYTES)
        else:
            return -(-segment.reserved_bytes // MIB) * MIB


def check_room(snapshot: Snapshot) -> int:
    """What a configuration takes in a program with its own number of workers, in bytes. Raises
    `ConfigError` if it is more than its `segment_max`."""
    least, given = need(snapshot, slots_for(snapshot.workers)), snapshot.segment_max_bytes
    if given is not None and least > given:
        raise _full(given, f"set it to at least {format_size(least)}")
    return least


def too_small(snapshot: Snapshot, slots: int, max_bytes: int, *, runs: bool = False) -> ConfigError:
    """What to say of a configuration that does not fit; ``runs``: into the memory of a program,
    which stays as large as it is."""
    least, given = need(snapshot, slots), snapshot.segment_max_bytes
    hints = []
    if given is not None and least > given:
        hints.append(f"set it to at least {format_size(least)}")
    if runs:
        hints.append("an upgrade or a restart makes room")
    return _full(max_bytes, ": ".join(hints))


def _full(max_bytes: int, hint: str) -> ConfigError:
    message = f"shared memory is full at {format_size(max_bytes)}"
    return ConfigError([Diagnostic(("segment_max",), message, hint or None)])
