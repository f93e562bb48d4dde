"""`meshcore check FILE`."""

from pathlib import Path

import click

from meshcore.cli.report import reported
from meshcore.config.admin import open_to_all
from meshcore.config.compile import compile
from meshcore.config.load import load_file
from meshcore.config.units import format_size
from meshcore.process.cores import cores
from meshcore.process.room import check_room

# Less is nothing to anybody.
WORTH_TELLING_BYTES = 64 << 20


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
def check(file: Path) -> None:
    """Say everything that is wrong with a configuration FILE.

    One line for each problem on standard error, as file:line:column: path: message (hint); exit
    code 2 if there is any.
    """
    with reported(file):
        config = load_file(file)
        # Nothing that loads should be refused here; if it is, better now than at the start.
        room = check_room(compile(config, cores=cores()))
    tokens = config.admin.token_file if config.admin is not None else None
    if remark := open_to_all(tokens) if tokens is not None else None:
        click.echo(f"{file}: admin.token_file: {remark}", err=True)
    counts = [
        _count(len(config.listeners), "listener"),
        _count(len(config.routes), "route"),
        _count(len(config.upstreams), "upstream"),
    ]
    if room >= WORTH_TELLING_BYTES:
        counts.append(f"{format_size(room)} of shared memory")
    click.echo(f"{file}: ok ({', '.join(counts)})")


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
