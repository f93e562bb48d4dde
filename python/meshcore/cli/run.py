"""`meshcore run FILE`."""

import logging
import sys
from pathlib import Path

import click

from meshcore.cli.report import reported
from meshcore.config.load import load_file
from meshcore.process.run import run_until_signalled


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
def run(file: Path) -> None:
    """Serve a configuration FILE until SIGTERM or SIGINT, then drain.

    Exit code 0 after a drain, 1 when an address cannot be had, 2 when the file is wrong.
    """
    with reported(file):
        config = load_file(file)
        logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
        run_until_signalled(config)
