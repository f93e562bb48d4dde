"""How failures are told: lines on standard error and an exit code, never a traceback."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from meshcore.errors import ConfigError, LayerError
from meshcore.process.fleet import WorkerFailedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from meshcore.errors import Diagnostic

REFUSED_BY_SYSTEM = 1
BAD_CONFIG = 2


@contextlib.contextmanager
def reported(file: Path) -> Iterator[None]:
    """Ends the program with the right lines and code when reading `file` fails."""
    try:
        yield
    except ConfigError as error:
        console = _console()
        for problem in problems_of(error, file):
            console.print(_line(problem, str(problem)))
        raise SystemExit(BAD_CONFIG) from None
    except LayerError as error:
        _console().print(Text(f"{file}: {error}"))
        raise SystemExit(BAD_CONFIG) from None
    except WorkerFailedError as error:
        _console().print(Text(f"meshcore: {file}: {error}"))
        raise SystemExit(error.code) from None
    except OSError as error:
        where = "" if error.filename in (None, str(file)) else f"{error.filename}: "
        _console().print(Text(f"meshcore: {file}: {where}{error.strerror or error}"))
        raise SystemExit(REFUSED_BY_SYSTEM) from None


def problems_of(error: ConfigError, file: Path) -> tuple[Diagnostic, ...]:
    """What is wrong; what the core refuses has no place in the file, but still a file."""
    return tuple(replace(each, file=each.file or str(file)) for each in error.problems)


def print_warnings(warnings: Iterable[Diagnostic]) -> None:
    """A line for each on standard error."""
    console = _console()
    for problem in warnings:
        console.print(_line(problem, problem.as_warning(), "yellow"))


def _console() -> Console:
    # Lines are for editors and grep too: never folded.
    return Console(stderr=True, highlight=False, soft_wrap=True)


def _line(problem: Diagnostic, whole: str, colour: str = "red") -> Text:
    """The text of a problem, coloured on a terminal."""
    line = Text(whole)
    place, found, _ = whole.partition(f": {problem.message}")
    if found:
        line.stylize("bold", 0, len(place))
        line.stylize(colour, len(place) + 2, len(place) + 2 + len(problem.message))
    if problem.hint:
        line.stylize("cyan", len(whole) - len(problem.hint) - 2)
    return line
