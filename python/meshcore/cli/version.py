"""`meshcore version`."""

import platform

import click

from meshcore._core import __version__


@click.command()
def version() -> None:
    """Print the version of meshcore and of the Python that it runs on."""
    click.echo(f"meshcore {__version__} (Python {platform.python_version()})")
