"""Watches the configuration's file, and the certificates that it names, for changes."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Final

from watchfiles import awatch

from meshcore.config.file import digest_of
from meshcore.process.aside import aside

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

# It tells of every file in the folders that are watched, the program's own log among them.
logging.getLogger("watchfiles").setLevel(logging.WARNING)

# What writes several files, or one in pieces, is done after this long without a further event.
QUIET_MS: Final = 200
# Not every file system tells of changes, and none of those before we asked.
LOOK_MS: Final = 5_000


async def watch(loaded: Callable[[], dict[Path, bytes]], changed: Callable[[], None]) -> None:
    """Call `changed` when a file's content becomes another, until cancelled; `loaded` is what the
    configuration in force was made of.

    What was found and refused, or gone back from, is not tried again until it changes. Folders are
    watched, not files: a mounted config map changes by swapping a link beside them, and an editor
    renames another file over the old one.
    """
    seen = loaded()
    while True:
        before = loaded()
        seen = {path: seen.get(path, digest) for path, digest in before.items()}
        events = awatch(
            *{folder for path in seen for folder in _folders(path)},
            step=QUIET_MS,
            recursive=False,
            rust_timeout=LOOK_MS,
            yield_on_timeout=True,
            raise_interrupt=False,
        )
        async for _ in events:
            if loaded().keys() != seen.keys():
                break  # other certificates are named now
            now = await aside(_digests, seen)
            if now != seen:
                seen = now
                if now != loaded():
                    changed()


def _folders(path: Path) -> set[Path]:
    """Where the name is, and where what it leads to is: links may be swapped at either."""
    path = path.absolute()
    return {each for each in (path.parent, path.resolve().parent) if each.is_dir()}


def _digests(files: Iterable[Path]) -> dict[Path, bytes]:
    """One may be gone for a moment, between a removal and a rename."""
    return {path: digest_of(path) for path in files}
