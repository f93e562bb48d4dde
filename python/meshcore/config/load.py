"""Reads a configuration and says everything that is wrong with it, with line and column."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from meshcore.config import gc_pause
from meshcore.config.check import check_data
from meshcore.config.document import MAX_BYTES
from meshcore.config.explain import explain
from meshcore.config.file import read_file
from meshcore.config.hints import shown
from meshcore.config.include import gather, included
from meshcore.config.model import Config
from meshcore.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from meshcore.config.include import Fetch
    from meshcore.config.tree import Tree
    from meshcore.errors import Diagnostic

__all__ = ["Loaded", "load_bytes", "load_file", "load_text", "read"]


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration, and where its parts stand."""

    config: Config
    tree: Tree

    def placed(self, diagnostics: Iterable[Diagnostic]) -> list[Diagnostic]:
        """These with their places, in the order of the file, and with what to write."""
        return self.tree.placed(self.tree.hinted(list(diagnostics)))

    @property
    def included(self) -> dict[str, bytes]:
        """The further files that it is made of, and what is in each."""
        return dict(included(self.tree))


def load_file(path: str | Path, *, env: bool = False) -> Config:
    """The configuration in a YAML file; files that it names begin at the file's folder.

    ``env`` is as `env: on` in the file: ``${NAME}`` is taken from the environment.

    Raises `ConfigError` with every problem, `OSError` when the file cannot be read.
    O(bytes), at most 64 MiB.
    """
    return read(Path(path), env=env).config


def read(path: Path, *, env: bool = False) -> Loaded:
    """As `load_file`, with the places, for warnings."""
    with path.open("rb") as file:
        raw = file.read(MAX_BYTES + 1)
    return _load(raw, str(path), path.parent, env=env)


def load_bytes(
    raw: bytes,
    name: str,
    folder: Path | None,
    *,
    env: bool = False,
    fetch: Fetch = read_file,
    secrets: bool = True,
) -> Loaded:
    """The configuration in what was read of a file. ``fetch`` reads those that it includes;
    without ``secrets`` certificates, keys and the token's file are not looked at.

    Raises `ConfigError` with every problem.
    """
    return _load(raw, name, folder, env=env, fetch=fetch, secrets=secrets)


def load_text(
    text: str, name: str = "<text>", folder: str | Path | None = None, *, env: bool = False
) -> Config:
    """The configuration in a YAML text; relative files begin at `folder`, or where we run.

    Raises `ConfigError` with every problem.
    """
    if not isinstance(text, str):
        raise TypeError(f"text: expected YAML, got {shown(text)}: load_file reads a file")
    return _load(text.encode(), name, None if folder is None else Path(folder), env=env).config


@gc_pause.paused()
def _load(
    raw: bytes,
    name: str,
    folder: Path | None,
    *,
    env: bool,
    fetch: Fetch = read_file,
    secrets: bool = True,
) -> Loaded:
    tree = gather(raw, name, folder, env=env, fetch=fetch)
    problems, config = tree.problems, None
    if tree.root is not None:
        config, diagnostics = validate(tree.root.data, folder, secrets=secrets)
        problems += tree.placed(tree.hinted(diagnostics))
    if problems or config is None:
        raise ConfigError(tree.in_order(problems))
    return Loaded(config, tree)


def validate(
    data: object, folder: Path | None = None, *, secrets: bool = True
) -> tuple[Config | None, list[Diagnostic]]:
    """The model of plain data, or what is wrong with it, cross-references and files included."""
    context = {} if folder is None else {"folder": str(folder)}
    try:
        config = Config.model_validate(data, context=context)
    except ValidationError as error:
        diagnostics = explain(error, Config)
        config = None
    else:
        diagnostics = []
    known = {problem.steps for problem in diagnostics}
    found = check_data(data, folder, secrets=secrets)
    diagnostics += [problem for problem in found if problem.steps not in known]
    return (None if diagnostics else config), diagnostics
