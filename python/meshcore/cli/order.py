"""`meshcore reload`, `rollback`, `upgrade`, `drain` and `status`: orders to a running program."""

from __future__ import annotations

import http.client
import json
import socket
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

import click

from meshcore.admin.server import is_ours
from meshcore.cli.report import BAD_CONFIG, REFUSED_BY_SYSTEM
from meshcore.process.supervisor import local_name

# A large configuration takes seconds to compile; a drain is not waited for.
TIMEOUT_S: Final = 300.0
# What the admin port answers when a configuration is wrong.
UNPROCESSABLE: Final = 422


class _Local(http.client.HTTPConnection):
    """A connection to the program that serves a file, whatever port it has."""

    def __init__(self, file: Path) -> None:
        super().__init__("localhost", timeout=TIMEOUT_S)
        self._name = local_name(file)

    def connect(self) -> None:
        """Connect to its unix socket."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._name)
        if not is_ours(self.sock):
            raise PermissionError("it belongs to another user")


def ask(file: Path, admin: str | None, method: str, path: str, **given: object) -> Any:
    """The answer of the program that serves `file`, or of the admin port at a URL.

    Ends the command with the errors that it tells, and the exit code that fits.
    """
    query = urlencode({name: value for name, value in given.items() if value is not None})
    connection: http.client.HTTPConnection = _Local(file)
    if admin is not None:
        url = urlsplit(admin if "//" in admin else f"http://{admin}")
        connection = http.client.HTTPConnection(url.netloc, timeout=TIMEOUT_S)
    try:
        connection.request(method, f"{path}?{query}" if query else path)
        response = connection.getresponse()
        body = response.read()
    except (OSError, http.client.HTTPException) as error:
        where = admin or f"a program that serves {file}"
        click.echo(f"meshcore: cannot reach {where}: {error}", err=True)
        raise SystemExit(REFUSED_BY_SYSTEM) from None
    finally:
        connection.close()
    return _answer(response.status, body)


def _answer(status: int, body: bytes) -> Any:
    try:
        answer = json.loads(body)
    except ValueError:
        answer = {"errors": [body.decode(errors="replace").strip()]}
    if status != http.client.OK:
        for line in answer.get("errors", []):
            click.echo(line, err=True)
        raise SystemExit(BAD_CONFIG if status == UNPROCESSABLE else REFUSED_BY_SYSTEM)
    return answer


_FILE = click.argument("file", type=click.Path(path_type=Path))
_ADMIN = click.option("--admin", help="Ask the admin port at this address instead.")


@click.command()
@_FILE
@_ADMIN
def reload(file: Path, admin: str | None) -> None:
    """Have the program that serves FILE read it again.

    It is checked first and put in force as a whole; exit code 2, and every problem, when it is
    wrong: then nothing has changed.
    """
    answer = ask(file, admin, "POST", "/reload")
    click.echo(f"{file}: configuration {answer['config_version']} is in force")


@click.command()
@_FILE
@_ADMIN
@click.option("--to", "version", type=click.IntRange(1), help="Its number, as `status` shows.")
def rollback(file: Path, admin: str | None, version: int | None) -> None:
    """Put the configuration before the present one in force again, or that of a number.

    FILE itself stays as it is: correct it before the next reload.
    """
    answer = ask(file, admin, "POST", "/rollback", version=version)
    click.echo(f"{file}: configuration {answer['config_version']} is in force")


@click.command()
@_FILE
@_ADMIN
def upgrade(file: Path, admin: str | None) -> None:
    """Start the program that serves FILE anew, in the version that is installed now.

    The new one gets the sockets and all shared state; the old one drains when it is ready.
    """
    answer = ask(file, admin, "POST", "/upgrade")
    click.echo(f"{file}: process {answer['pid']} has taken over")


@click.command()
@_FILE
@_ADMIN
@click.option("--listener", help="Close this listener, until the next reload.")
@click.option("--worker", type=click.IntRange(0), help="Replace this worker by a new one.")
def drain(file: Path, admin: str | None, listener: str | None, worker: int | None) -> None:
    """Drain the program that serves FILE and end it; or drain a part of it."""
    if listener is not None and worker is not None:
        raise click.UsageError("a listener or a worker, not both")
    ask(file, admin, "POST", "/drain", listener=listener, worker=worker)


@click.command()
@_FILE
@_ADMIN
@click.option("--json", "as_json", is_flag=True, help="Everything, as one JSON object.")
def status(file: Path, admin: str | None, as_json: bool) -> None:
    """Show workers, listeners and the last configurations of the program that serves FILE."""
    answer = ask(file, admin, "GET", "/status")
    if as_json:
        click.echo(json.dumps(answer, indent=2))
        return
    state = "ready" if answer["ready"] else "not ready"
    click.echo(f"{file}: {state}, process {answer['pid']}, meshcore {answer['version']}")
    for name, url in answer["listeners"].items():
        click.echo(f"listener {name}: {url}")
    for each in answer["workers"]:
        click.echo(
            f"worker {each['worker']}: {each['state']}, process {each['pid']}, "
            f"configuration {each['config_version']}, for {each['for_s']} s"
        )
    for each in reversed(answer["history"]):
        mark = "*" if each["version"] == answer["config_version"] else " "
        click.echo(f"{mark} configuration {each['version']}: {each['time']} {each['origin']}")
