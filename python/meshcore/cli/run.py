"""`meshcore run FILE`."""

import logging
import os
import sys
from pathlib import Path

import click

from meshcore._core import KeyLog
from meshcore.cli.report import REFUSED_BY_SYSTEM, reported
from meshcore.config.process import MAX_WORKERS
from meshcore.process.file_source import FileSource
from meshcore.process.supervisor import run_supervised

log = logging.getLogger("meshcore")


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--workers",
    type=click.IntRange(1, MAX_WORKERS),
    help="Worker processes; before what the file says. By default one for each core.",
)
@click.option("--env", is_flag=True, help="Take ${NAME} in values from the environment.")
@click.option(
    "--key-log",
    is_flag=True,
    help="Write the secrets of all TLS sessions to the file that SSLKEYLOGFILE names, with which "
    "its readers can read what was said. To look into a capture, never to serve.",
)
def run(file: Path, workers: int | None, env: bool, key_log: bool) -> None:
    """Serve a configuration FILE until SIGTERM or SIGINT, then drain.

    SIGHUP reloads the file, SIGUSR1 opens the access log anew, SIGUSR2 upgrades the program; a
    second SIGTERM ends at once.

    Exit code 0 after a drain, 1 when the system refuses something, such as an address or a worker,
    2 when the file is wrong.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    secrets = _key_log() if key_log else None
    with reported(file):
        code = run_supervised(FileSource(file, env=env), workers, key_log=secrets)
    if code:
        raise SystemExit(code)


def _key_log() -> str:
    """Where secrets go, which is told loudly. Ends the command where they cannot."""
    path = os.environ.get("SSLKEYLOGFILE")
    if not path:
        raise click.UsageError("--key-log: SSLKEYLOGFILE names no file")
    try:
        KeyLog(path)
    except OSError as error:
        click.echo(f"meshcore: {path}: {error.strerror or error}", err=True)
        raise SystemExit(REFUSED_BY_SYSTEM) from None
    log.warning("SECRETS OF TLS ARE WRITTEN TO %s: with it all traffic can be read", path)
    return path
