"""The shared memory, and the engine that names what is in it: one program writes it at a time."""

from __future__ import annotations

import logging
import secrets
from typing import TYPE_CHECKING

from meshcore._core import Engine, Segment
from meshcore.errors import SegmentFullError, SegmentLayoutError
from meshcore.process.room import share

if TYPE_CHECKING:
    from meshcore.config.snapshot import Snapshot
    from meshcore.process.inheritance import Predecessor

log = logging.getLogger("meshcore")


class Registry:
    """What control writes and workers look their words up in."""

    def __init__(self, segment: Segment, engine: Engine) -> None:
        self.segment = segment
        self.engine = engine

    @classmethod
    def begin(cls, snapshot: Snapshot, workers: int, predecessor: Predecessor | None) -> Registry:
        """The predecessor's memory if it fits, or a new one with the words that were in it.

        For a thread beside the loop: it compiles. Raises `ConfigError`, `OSError`.
        """
        seed = secrets.randbits(64)
        if predecessor is None:
            segment, engine, _ = share(snapshot, workers, seed)
            return cls(segment, engine)
        taken = cls._take_over(snapshot, workers, predecessor, seed)
        if taken is not None:
            return taken
        segment, engine, kept = share(snapshot, workers, seed, predecessor.ask_words())
        log.info("%d objects keep their state", kept)
        return cls(segment, engine)

    @classmethod
    def _take_over(
        cls, snapshot: Snapshot, workers: int, predecessor: Predecessor, seed: int
    ) -> Registry | None:
        try:
            given = predecessor.segment()
            if not _fits(given, snapshot, workers):
                return None
            engine = Engine.control(given, seed=seed, adopt=True)
        except SegmentLayoutError as error:
            log.info("the running program's memory is laid out in another way: %s", error)
            return None
        try:
            engine.apply(snapshot.core_json())
        except SegmentFullError:
            return None
        return cls(given, engine)

    def release(self) -> None:
        """Another program writes it from now on."""
        self.segment.release()

    def regain(self, snapshot: Snapshot) -> None:
        """Read it anew, as the configuration in force has it: another program may have written it,
        and is gone. Raises `OSError` without descriptors."""
        self.segment = Segment.open(self.segment.fileno())
        self.engine = Engine.control(self.segment, seed=secrets.randbits(64), adopt=True)
        self.engine.apply(snapshot.core_json())

    @property
    def room(self) -> int:
        """How many workers have columns, and as many again that replace them."""
        return _room(self.segment)

    def free_slots(self) -> list[int]:
        """Columns that no process has."""
        return _free_slots(self.segment)


def _fits(segment: Segment, snapshot: Snapshot, workers: int) -> bool:
    return (
        snapshot.segment_max_bytes in (None, segment.max_bytes)
        and workers <= _room(segment)
        and workers <= len(_free_slots(segment))
    )


def _room(segment: Segment) -> int:
    return segment.worker_slots // 2


def _free_slots(segment: Segment) -> list[int]:
    return [slot for slot in range(segment.worker_slots) if segment.worker(slot).pid == 0]
