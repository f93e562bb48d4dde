"""`meshcore check FILE`."""

from pathlib import Path

import click

from meshcore.cli.report import reported
from meshcore.config.load import load_file


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
def check(file: Path) -> None:
    """Say everything that is wrong with a configuration FILE.

    One line for each problem on standard error, as file:line:column: path: message (hint); exit
    code 2 if there is any.
    """
    with reported(file):
        config = load_file(file)
    counts = (
        _count(len(config.listeners), "listener"),
        _count(len(config.routes), "route"),
        _count(len(config.upstreams), "upstream"),
    )
    click.echo(f"{file}: ok ({', '.join(counts)})")


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
