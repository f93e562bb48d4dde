"""`meshcore check FILE`."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from meshcore.cli.report import BAD_CONFIG, print_warnings, problems_of, reported
from meshcore.config.compile import compile
from meshcore.config.load import read
from meshcore.config.units import format_size
from meshcore.config.warnings import warn
from meshcore.config.warnings.hosts import unresolved_hosts
from meshcore.config.warnings.secrets import open_secrets_of_this_host
from meshcore.errors import ConfigError, Diagnostic
from meshcore.process.cores import cores
from meshcore.process.layer_places import problems_at, python_layers
from meshcore.process.layers import layer_problem, look_beside
from meshcore.process.room import check_room

if TYPE_CHECKING:
    from meshcore.config.load import Loaded
    from meshcore.config.model import Config
    from meshcore.errors import Diagnostic, LayerError

# Less is as good as nothing.
WORTH_TELLING_BYTES = 64 << 20


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--env", is_flag=True, help="Take ${NAME} in values from the environment.")
@click.option("--strict", is_flag=True, help="End with 2 if there are warnings.")
@click.option("--offline", is_flag=True, help="Ask the resolver for no name.")
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object on standard output.")
def check(file: Path, env: bool, strict: bool, offline: bool, as_json: bool) -> None:
    """Say everything that is wrong with a configuration FILE, and what is surely a mistake.

    One line for each problem on standard error, as file:line:column: path: message (hint), with
    the word `warning` before the path of what is allowed: a route that never matches, an upstream
    without a route, a layer that cannot be imported, a host that does not resolve. What can be
    imported has to take the arguments that it is given.

    Exit code 2 if something is wrong, or with --strict if there are warnings.
    """
    config: Config | None = None
    room = 0
    errors: tuple[Diagnostic, ...] = ()
    warnings: list[Diagnostic] = []
    with reported(file):
        try:
            loaded, room = _loaded(file, env=env)
            warnings = _warnings(loaded, file, offline=offline)
        except ConfigError as error:
            if not as_json:
                raise
            errors = problems_of(error, file)
        else:
            config = loaded.config
    failed = config is None or (strict and bool(warnings))
    if as_json:
        click.echo(json.dumps(_answer(file, errors, warnings, ok=not failed), indent=2))
    else:
        print_warnings(warnings)
    if failed:
        raise SystemExit(BAD_CONFIG)
    if not as_json:
        click.echo(f"{file}: ok ({_outline(config, warnings, room)})")


def _loaded(file: Path, *, env: bool) -> tuple[Loaded, int]:
    """The configuration, and the bytes of shared memory that it takes."""
    loaded = read(file, env=env)
    # Nothing that loads should be refused here; if it is, better now than at the start.
    return loaded, check_room(compile(loaded.config, cores=cores()))


def _warnings(loaded: Loaded, file: Path, *, offline: bool) -> list[Diagnostic]:
    """Everything that is a warning, in the order of the file. Raises `ConfigError` for arguments
    that a layer does not take."""
    wrong, unusable = _layers(loaded.config, file.parent)
    if wrong:
        raise ConfigError(loaded.placed(wrong))
    secrets = open_secrets_of_this_host(loaded.config)
    problems = [*warn(loaded.config), *secrets, *unusable]
    if not offline:
        problems += unresolved_hosts(loaded.config)
    return loaded.placed(problems)


def _layers(config: Config, folder: Path) -> tuple[list[Diagnostic], list[Diagnostic]]:
    """What is wrong with arguments of layers, and layers that a worker could not use: imported as
    it does. These are no error, as a file may be checked where they are not installed."""
    known: dict[str, LayerError | None] = {}
    wrong: list[Diagnostic] = []
    unusable: list[Diagnostic] = []
    for path, key in python_layers(config):
        if key not in known:
            look_beside(folder)
            # What a module prints is not ours to say, least of all within JSON.
            with contextlib.redirect_stdout(sys.stderr):
                known[key] = layer_problem(key)
        if (error := known[key]) is not None:
            (wrong if error.problems else unusable).extend(problems_at(path, error))
    return wrong, unusable


# Of a `Diagnostic`, what a program reads.
_KEYS: Final = ("path", "message", "hint", "file", "line", "column")


def _plain(problem: Diagnostic) -> dict[str, Any]:
    return {key: getattr(problem, key) for key in _KEYS}


def _answer(file: Path, errors: Any, warnings: list[Diagnostic], *, ok: bool) -> dict[str, Any]:
    return {
        "file": str(file),
        "ok": ok,
        "errors": [_plain(problem) for problem in errors],
        "warnings": [_plain(problem) for problem in warnings],
    }


def _outline(config: Config | None, warnings: list[Diagnostic], room: int) -> str:
    assert config is not None
    counts = [
        _count(len(config.listeners), "listener"),
        _count(len(config.routes), "route"),
        _count(len(config.upstreams), "upstream"),
    ]
    if room >= WORTH_TELLING_BYTES:
        counts.append(f"{format_size(room)} of shared memory")
    if warnings:
        counts.append(_count(len(warnings), "warning"))
    return ", ".join(counts)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
