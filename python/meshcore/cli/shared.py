"""`meshcore shared [NAME]`: the shared states of this user's programs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NoReturn

import click

from meshcore.cli.report import BAD_CONFIG, REFUSED_BY_SYSTEM
from meshcore.errors import MeshcoreError

if TYPE_CHECKING:
    from meshcore.library.breaker import CircuitBreaker
    from meshcore.library.shared_listing import SharedPart


@click.command()
@click.argument("name", required=False)
@click.option("--breaker", help="The breaker to open or close.")
@click.option("--open", "open_for", metavar="DURATION", help="How long it stays open, as in 5m.")
@click.option("--close", is_flag=True, help="Close it now.")
@click.option("--json", "as_json", is_flag=True, help="Everything, as JSON.")
def shared(
    name: str | None, breaker: str | None, open_for: str | None, close: bool, as_json: bool
) -> None:
    """List the parts of the SharedState of a NAME, with their rules and how they stand; without a
    NAME, the states of this user.

    With --breaker, open or close one by hand, for all processes that share it. When its time is
    over, one that was opened finds out by probes whether it may close, as always.
    """
    if (breaker is not None) != (open_for is not None or close) or (open_for is not None and close):
        raise click.UsageError("--breaker NAME with --open DURATION or --close")
    # No other command needs the library.
    from meshcore.library import shared_listing

    if name is None:
        if breaker is not None:
            raise click.UsageError("NAME says of which state")
        names = shared_listing.names_of_states()
        click.echo(
            json.dumps(names, indent=2) if as_json else "\n".join(names), nl=as_json or bool(names)
        )
        return
    try:
        state = shared_listing.existing(name)
        if breaker is not None:
            _set(shared_listing.breaker(state, breaker), open_for)
        parts = [each for each in shared_listing.parts(state) if breaker in (None, each.name)]
    except FileNotFoundError:
        _end(f"no shared state {name} of this user", REFUSED_BY_SYSTEM)
    except KeyError:
        _end(f"no breaker {breaker} in the shared state {name}", REFUSED_BY_SYSTEM)
    except ValueError as error:
        _end(str(error), BAD_CONFIG)
    except (OSError, MeshcoreError) as error:
        _end(str(error), REFUSED_BY_SYSTEM)
    if as_json:
        click.echo(json.dumps([each._asdict() for each in parts], indent=2))
        return
    for each in parts:
        click.echo(_line(each))


def _set(breaker: CircuitBreaker, open_for: str | None) -> None:
    if open_for is None:
        breaker.force_closed()
    else:
        breaker.force_open(open_for)


def _line(part: SharedPart) -> str:
    state = ", ".join(f"{name} {_shown(value)}" for name, value in part.state.items())
    rules = ", ".join(f"{name} {value}" for name, value in part.rules.items())
    return f"{part.kind} {part.name}: {state + ' ' if state else ''}({rules})"


def _shown(value: object) -> str:
    return f"{value:.3f} s" if isinstance(value, float) else str(value)


def _end(line: str, code: int) -> NoReturn:
    click.echo(f"meshcore: {line}", err=True)
    raise SystemExit(code)
