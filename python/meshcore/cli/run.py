"""`meshcore run FILE`."""

import logging
import sys
from pathlib import Path

import click

from meshcore.cli.report import reported
from meshcore.config.process import MAX_WORKERS
from meshcore.process.supervisor import run_supervised


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--workers",
    type=click.IntRange(1, MAX_WORKERS),
    help="Worker processes; before what the file says. By default one for each core.",
)
@click.option("--env", is_flag=True, help="Take ${NAME} in values from the environment.")
def run(file: Path, workers: int | None, env: bool) -> None:
    """Serve a configuration FILE until SIGTERM or SIGINT, then drain.

    SIGHUP reloads the file, SIGUSR2 upgrades the program; a second SIGTERM ends at once.

    Exit code 0 after a drain, 1 when the system refuses something, such as an address or a worker,
    2 when the file is wrong.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    with reported(file):
        code = run_supervised(file, workers, env=env)
    if code:
        raise SystemExit(code)
