"""`meshcore check FILE`."""

from pathlib import Path

import click

from meshcore._core import Engine
from meshcore.cli.report import reported
from meshcore.config.admin import open_to_all
from meshcore.config.compile import compile
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
        # Nothing that loads should be refused here; if it is, better now than at the start.
        Engine(seed=0).apply(compile(config).core_json())
    tokens = config.admin.token_file if config.admin is not None else None
    if remark := open_to_all(tokens) if tokens is not None else None:
        click.echo(f"{file}: admin.token_file: {remark}", err=True)
    counts = (
        _count(len(config.listeners), "listener"),
        _count(len(config.routes), "route"),
        _count(len(config.upstreams), "upstream"),
    )
    click.echo(f"{file}: ok ({', '.join(counts)})")


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
