"""The command line: `meshcore run`, `check`, `shared`, `demo`, `schema` and `version`, a file
each, and orders to a running program.

Exit codes: 0; 1 when the system refuses something (no such file, a port in use); 2 when the
configuration or the command line is wrong, or `check --strict` has warnings.
"""

import click

from meshcore.cli.check import check
from meshcore.cli.demo import demo
from meshcore.cli.order import breaker, drain, reload, rollback, status, upgrade
from meshcore.cli.run import run
from meshcore.cli.schema import schema
from meshcore.cli.shared import shared
from meshcore.cli.version import show_version, version

__all__ = ["main"]


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=show_version,
    help="Print the version and exit.",
)
def main() -> None:
    """A layer-7 proxy: Python carries bytes and time, Rust makes every decision."""


ORDERS = (reload, rollback, upgrade, drain, breaker, status)
for command in (run, check, *ORDERS, shared, demo, schema, version):
    main.add_command(command)
