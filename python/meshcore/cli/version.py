"""`meshcore version`, also `meshcore --version`."""

import platform

import click

from meshcore._core import __version__


@click.command()
def version() -> None:
    """Print the version of meshcore and of the Python that it runs on."""
    _print()


def show_version(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    """What the option does, before all else."""
    if wanted:
        _print()
        context.exit()


def _print() -> None:
    click.echo(f"meshcore {__version__} (Python {platform.python_version()})")
