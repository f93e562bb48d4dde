"""Where configurations come from: a file, or whatever else can give one.

Nothing behind a source knows what its documents are made of: history keeps them, a step back and an
upgrade give them back to a source of the same kind.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from meshcore.config.snapshot import Snapshot
    from meshcore.errors import ConfigError, LayerError


@dataclass(frozen=True, slots=True)
class Draft:
    """A configuration that was read and is not in force."""

    snapshot: Snapshot
    document: bytes
    """What its source makes the same configuration of again."""


class Source(Protocol):
    """Gives one configuration after another. Its methods are called in threads beside the loop,
    one at a time, except where something else is said."""

    @property
    def name(self) -> str:
        """What messages call it."""

    @property
    def folder(self) -> Path:
        """Where layers in Python may lie, too."""

    @property
    def identity(self) -> bytes:
        """What tells it from every other source on this host, in whichever process."""

    def read(self, version: int) -> Draft:
        """What it says now, as the configuration of a version.

        Raises `ConfigError` with every problem, `OSError` when it cannot be had.
        """

    def restore(self, document: bytes, version: int) -> Snapshot:
        """The configuration of an earlier draft's document. Raises as `read`."""

    def placed(self, error: LayerError, document: bytes) -> ConfigError:
        """What a worker says of a layer, with its places in a document."""

    def says(self, digest: bytes, files: Mapping[str, bytes]) -> bool:
        """Whether what it says now is the document of a SHA-256, and the files that the document
        names are those of `Snapshot.files`. Cheap, and called in the loop."""

    def overview(self) -> dict[str, Any]:
        """What `status` tells of it. Called in the loop."""

    async def watch(self, in_force: Callable[[], Draft], changed: Callable[[], None]) -> None:
        """Call ``changed`` whenever it says something else than what is in force, until cancelled.

        Awaited in the loop. What it raises is told, and it is called again later.
        """
