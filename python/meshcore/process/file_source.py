"""A YAML file, with the files that it includes and names, as the source of configurations."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from meshcore.config.compile import compile
from meshcore.config.document import MAX_BYTES
from meshcore.config.file import NO_FILE, digest_of, read_file
from meshcore.config.include import bundle, fetch_from, unbundle
from meshcore.config.load import load_bytes
from meshcore.process.cores import cores
from meshcore.process.history import MOST
from meshcore.process.layer_places import placed
from meshcore.process.source import Draft
from meshcore.process.warned import Warned
from meshcore.process.watch import watch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from meshcore.config.load import Loaded
    from meshcore.config.snapshot import Snapshot
    from meshcore.errors import ConfigError, LayerError

    _Stamp = tuple[int, ...]


class FileSource:
    """A `Source`; a document is the text of the file and of those that it includes."""

    def __init__(self, path: Path, *, env: bool = False) -> None:
        """``env`` is as `env: on` in the file: ``${NAME}`` is taken from the environment."""
        self.path = path
        self._env = env
        self._was_read = False
        self._warned = Warned()
        self._included: dict[bytes, tuple[str, ...]] = {}  # by SHA-256 of a document
        self._seen: tuple[list[_Stamp], bytes] | None = None  # of the files, and of what was read
        self._named: dict[str, tuple[_Stamp, bytes]] = {}  # the same of each file that is named

    @property
    def name(self) -> str:
        """The path, as it was given."""
        return str(self.path)

    @property
    def folder(self) -> Path:
        """The file's folder, where relative paths begin."""
        return self.path.parent

    @property
    def identity(self) -> bytes:
        """The path without links, by which other processes know it."""
        return os.fsencode(self.path.resolve())

    def read(self, version: int) -> Draft:
        """As `Source.read`; the log is told what is surely a mistake in it."""
        raw = self._read()
        loaded = load_bytes(raw, self.name, self.folder, env=self._env)
        self._warned.log_new(loaded)  # an earlier document has had its warnings
        document = bundle(raw, loaded.included)
        self._note(document, loaded.included)
        return Draft(_compiled(loaded, version), document)

    def _read(self) -> bytes:
        if self._was_read:
            return read_file(self.path, MAX_BYTES)
        with self.path.open("rb") as file:  # a shell's `<(…)`, too, which can be read once
            raw = file.read(MAX_BYTES + 1)
        self._was_read = True
        return raw

    def restore(self, document: bytes, version: int) -> Snapshot:
        """As `Source.restore`; files that it names, such as certificates, are read anew."""
        snapshot = _compiled(self._loaded(document), version)
        self._note(document, unbundle(document)[1])
        return snapshot

    def _note(self, document: bytes, included: Iterable[str]) -> None:
        """Which files a document is made of, for as many as history keeps and one more."""
        self._included[hashlib.sha256(document).digest()] = tuple(included)
        for old in list(self._included)[: -MOST - 1]:
            del self._included[old]

    def _loaded(self, document: bytes) -> Loaded:
        raw, files = unbundle(document)
        return load_bytes(raw, self.name, self.folder, env=self._env, fetch=fetch_from(files))

    def placed(self, error: LayerError, document: bytes) -> ConfigError:
        """As `Source.placed`, with line and column."""
        return placed(error, self._loaded(document))

    def says(self, digest: bytes, files: Mapping[str, bytes]) -> bool:
        """As `Source.says`; what is read is read again only when it looks like another. What cannot
        be read says nothing. O(files)."""
        self._named = {name: seen for name, seen in self._named.items() if name in files}
        try:
            is_same = self._digest_now(self._included.get(digest, ())) == digest
        except OSError:
            return False
        return is_same and all(self._named_now(name) == was for name, was in files.items())

    def _named_now(self, name: str) -> bytes:
        """The SHA-256 of a file that a configuration names."""
        try:
            stamp = _stamp(name)
        except OSError:
            return NO_FILE
        if (seen := self._named.get(name)) is not None and seen[0] == stamp:
            return seen[1]
        digest = digest_of(name)
        if digest != NO_FILE:  # else it may be read the next time
            self._named[name] = (stamp, digest)
        return digest

    def _digest_now(self, included: tuple[str, ...]) -> bytes:
        stamps = [_stamp(self.path), *map(_stamp, included)]
        if self._seen is None or self._seen[0] != stamps:
            texts = {name: read_file(name, MAX_BYTES) for name in included}
            document = bundle(read_file(self.path, MAX_BYTES), texts)
            self._seen = (stamps, hashlib.sha256(document).digest())
        return self._seen[1]

    def overview(self) -> dict[str, Any]:
        """The path."""
        return {"file": self.name}

    async def watch(self, in_force: Callable[[], Draft], changed: Callable[[], None]) -> None:
        """As `Source.watch`: the file, those that it includes, and the certificates it names."""
        await watch(lambda: self._files(in_force()), changed)

    def _files(self, draft: Draft) -> dict[Path, bytes]:
        """What a configuration was made of, and the SHA-256 of each."""
        main, included = unbundle(draft.document)
        texts = {self.path: main, **{Path(name): text for name, text in included.items()}}
        named = {Path(name): digest for name, digest in draft.snapshot.files.items()}
        return {name: hashlib.sha256(text).digest() for name, text in texts.items()} | named


def _compiled(loaded: Loaded, version: int) -> Snapshot:
    return compile(loaded.config, version, cores=cores())


def _stamp(path: str | Path) -> _Stamp:
    found = os.stat(path)
    times = (found.st_mtime_ns, found.st_ctime_ns)
    return (found.st_dev, found.st_ino, found.st_size, *times)
