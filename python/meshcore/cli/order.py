"""`meshcore reload`, `rollback`, `upgrade`, `drain`, `breaker`, `status`: orders to a program."""

from __future__ import annotations

import contextlib
import errno
import functools
import http.client
import json
import os
import pwd
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode, urlsplit

import click

from meshcore.admin.server import is_ours
from meshcore.cli.report import BAD_CONFIG, REFUSED_BY_SYSTEM
from meshcore.config.admin import read_bounded, token_in
from meshcore.process.file_source import FileSource
from meshcore.process.local_address import local_name

if TYPE_CHECKING:
    from collections.abc import Callable

# A large configuration takes seconds to compile; a drain is not waited for.
TIMEOUT_S: Final = 300.0
# What the admin port answers when a configuration is wrong.
UNPROCESSABLE: Final = 422


class _Unix(http.client.HTTPConnection):
    """A connection to a unix socket."""

    def __init__(self, name: str, *, only_ours: bool) -> None:
        super().__init__("localhost", timeout=TIMEOUT_S)
        self._name = name
        self._only_ours = only_ours

    def connect(self) -> None:
        """Connect to it; to another user's only where its path was given."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._name)
        if self._only_ours and not is_ours(self.sock):
            raise PermissionError(errno.EPERM, "it belongs to another user")


@dataclass(frozen=True, slots=True)
class Target:
    """Which program is asked: the one that serves a file, or the one that has an admin port."""

    file: Path
    admin: str | None = None
    """Where its port is: ``host:port``, a URL or ``unix:/path``."""
    token_file: str | None = None

    def connection(self) -> http.client.HTTPConnection:
        """A connection that is not open yet."""
        if self.admin is None:
            return _Unix(local_name(FileSource(self.file).identity), only_ours=True)
        if self.admin.startswith("unix:"):
            return _Unix(self.admin.removeprefix("unix:"), only_ours=False)
        url = urlsplit(self.admin if "//" in self.admin else f"http://{self.admin}")
        return http.client.HTTPConnection(url.netloc, timeout=TIMEOUT_S)

    def fields(self) -> dict[str, str]:
        """What a request needs; ends the command when there is no token in the file."""
        if self.admin is None or self.token_file is None:
            return {}
        try:
            token = token_in(read_bounded(self.token_file))
        except OSError as error:
            raise _ended(f"cannot read {self.token_file}: {error.strerror}") from None
        except ValueError as error:
            raise _ended(f"{self.token_file} {error}") from None
        return {"authorization": f"Bearer {token.decode()}"}

    def unreachable(self, error: Exception) -> str:
        """What an error means to who asked."""
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        if self.admin is not None:
            return f"cannot reach the admin port at {self.admin}: {reason}"
        if not isinstance(error, ConnectionRefusedError):
            return f"cannot reach the program that serves {self.file}: {reason}"
        missing = "" if self.file.exists() else ", and there is no such file"
        return f"no program of user {_user()} serves {self.file} here{missing}"


def _user() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:  # containers have numbers without names
        return str(os.geteuid())


def _ended(line: str) -> SystemExit:
    click.echo(f"meshcore: {line}", err=True)
    return SystemExit(REFUSED_BY_SYSTEM)


def ask(target: Target, method: str, path: str, **given: object) -> Any:
    """A program's answer. Ends the command with the errors that it tells, and the exit code that
    fits."""
    query = urlencode({name: value for name, value in given.items() if value is not None})
    fields = target.fields()
    try:
        with contextlib.closing(target.connection()) as connection:
            connection.request(method, f"{path}?{query}" if query else path, headers=fields)
            response = connection.getresponse()
            body = response.read()
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _ended(target.unreachable(error)) from None
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


def _asks(command: Callable[..., None]) -> Callable[..., None]:
    """Have a command take a `Target`."""

    @click.argument("file", type=click.Path(path_type=Path))
    @click.option(
        "--admin", help="Ask the admin port at this address instead: host:port or unix:/path."
    )
    @click.option(
        "--token-file",
        envvar="MESHCORE_TOKEN_FILE",
        show_envvar=True,
        help="Show it the token in this file.",
    )
    @functools.wraps(command)
    def with_target(
        file: Path, admin: str | None, token_file: str | None, **options: object
    ) -> None:
        command(Target(file, admin, token_file), **options)

    return with_target


@click.command()
@_asks
def reload(target: Target) -> None:
    """Have the program that serves FILE read it again.

    It is checked first and put in force as a whole; exit code 2, and every problem, when it is
    wrong: then nothing has changed.
    """
    answer = ask(target, "POST", "/reload")
    click.echo(f"{target.file}: configuration {answer['config_version']} is in force")


@click.command()
@_asks
@click.option("--to", "version", type=click.IntRange(1), help="Its number, as `status` shows.")
def rollback(target: Target, version: int | None) -> None:
    """Put the configuration before the last one in force again, or that of a number.

    The last one is that of the last start, reload, upgrade or rollback: the drain of a listener is
    none. FILE itself stays as it is: correct it before the next reload.
    """
    answer = ask(target, "POST", "/rollback", version=version)
    click.echo(f"{target.file}: configuration {answer['config_version']} is in force")
    _print_other_file(target, ask(target, "GET", "/status"))


def _print_other_file(target: Target, status: dict[str, Any]) -> None:
    if not status.get("file_is_in_force", True):  # an older program does not say
        click.echo(
            f"{target.file}, or a file that it names, differs from configuration "
            f"{status['config_version']}, which is in force: the next reload, upgrade or restart "
            "reads it"
        )


@click.command()
@_asks
def upgrade(target: Target) -> None:
    """Start the program that serves FILE anew, in the version that is installed now.

    The new one gets the sockets and all shared state; the old one drains when it is ready.
    """
    answer = ask(target, "POST", "/upgrade")
    click.echo(f"{target.file}: process {answer['pid']} has taken over")


@click.command()
@_asks
@click.option("--listener", help="Close this listener, until the next reload.")
@click.option("--worker", type=click.IntRange(0), help="Replace this worker by a new one.")
def drain(target: Target, listener: str | None, worker: int | None) -> None:
    """Drain the program that serves FILE and end it; or drain a part of it."""
    if listener is not None and worker is not None:
        raise click.UsageError("a listener or a worker, not both")
    ask(target, "POST", "/drain", listener=listener, worker=worker)


@click.command()
@_asks
@click.option("--upstream", help="The breaker of this upstream.")
@click.option("--route", help="The breaker that this route has of its own.")
@click.option("--open", "open_for", metavar="DURATION", help="How long it stays open, as in 5m.")
@click.option("--close", is_flag=True, help="Close it now.")
def breaker(
    target: Target, upstream: str | None, route: str | None, open_for: str | None, close: bool
) -> None:
    """Open or close a breaker of the program that serves FILE by hand, for all its workers.

    When its time is over, one that was opened finds out by probes whether it may close, as always.
    """
    if (upstream is None) == (route is None):
        raise click.UsageError("--upstream or --route says whose breaker")
    if (open_for is None) != close:
        raise click.UsageError("--open DURATION or --close")
    given = {"upstream": upstream, "route": route, "for": open_for}
    answer = ask(target, "POST", "/breaker", state="closed" if close else "open", **given)
    whose = f"upstream {upstream}" if route is None else f"route {route}"
    click.echo(f"{target.file}: the breaker of {whose} is {answer['state']}")


@click.command()
@_asks
@click.option("--json", "as_json", is_flag=True, help="Everything, as one JSON object.")
def status(target: Target, as_json: bool) -> None:
    """Show workers, listeners and the last configurations of the program that serves FILE."""
    answer = ask(target, "GET", "/status")
    if as_json:
        click.echo(json.dumps(answer, indent=2))
        return
    state = "ready" if answer["ready"] else "not ready"
    click.echo(f"{target.file}: {state}, process {answer['pid']}, meshcore {answer['version']}")
    _print_other_file(target, answer)
    if refused := answer.get("refused"):
        click.echo(f"{refused['origin']} refused at {refused['time']}:")
        for line in refused["problems"]:
            click.echo(f"  {line}")
    for name, url in answer["listeners"].items():
        click.echo(f"listener {name}: {url}{_tls(answer.get('tls', {}).get(name))}")
    _print_certificates(answer)
    _print_lists(answer)
    _print_unlisted(answer)
    for each in answer["workers"]:
        click.echo(
            f"worker {each['worker']}: {each['state']}, process {each['pid']}, "
            f"configuration {each['config_version']}, for {each['for_s']} s"
        )
    _print_breakers(answer)
    _print_shadows(answer)
    for each in reversed(answer["history"]):
        mark = "*" if each["version"] == answer["config_version"] else " "
        click.echo(f"{mark} configuration {each['version']}: {each['time']} {each['origin']}")


def _tls(told: dict[str, Any] | None) -> str:
    """How a listener ends TLS; an older program does not tell."""
    if told is None:
        return ""
    said = [f"TLS from {told['min_version']} on"]
    if (mode := told["client_auth"]) is not None:
        said.append(f"client certificates: {mode}")
    said += [
        f"client certificates of {name}: {mode}"
        for name, mode in told["client_auth_by_name"].items()
    ]
    return f" ({', '.join(said)})"


def _print_certificates(status: dict[str, Any]) -> None:
    """Whose they are, and for how long; an older program tells of none."""
    for each in status.get("certificates", []):
        left = each["days_left"]
        when = f"{left} days left" if left >= 0 else "EXPIRED"
        names = ", ".join(each["names"]) or "no name"
        kind = f"{each['key']} " if "key" in each else ""  # an older program does not tell
        whose = f"{kind}certificate of {_owner(each)}"
        ocsp = _staple(each.get("ocsp"))
        click.echo(f"{whose}: {names}, until {each['not_after']}, {when}{ocsp}")


def _print_lists(status: dict[str, Any]) -> None:
    """Revocation lists, and until when each is; an older program tells of none."""
    for each in status.get("revocation_lists", []):
        due = f"until {each['next_update']}" if each["next_update"] is not None else "without end"
        used = "still used" if each["used_when_expired"] else "nobody whom it is about comes in"
        ended = f", EXPIRED, {used}" if each["expired"] else ""
        click.echo(f"revocation list of {_owner(each)}: {each['issuer']}, {due}{ended}")


def _print_unlisted(status: dict[str, Any]) -> None:
    """Authorities without a revocation list in force; an older program tells of none."""
    for each in status.get("unlisted_authorities", []):
        gets = {"nobody": "nobody whom it signed", "revoked": "whom it has revoked"}
        lacks = f"no revocation list of its key, {gets[each['comes_in']]} comes in"
        if (ended := each.get("list_expired")) is not None:  # an older program does not tell
            lacks = f"its revocation list EXPIRED at {ended}, nobody whom it is about comes in"
        elif each.get("list_forged", False):
            lacks = "the SIGNATURE of its revocation list IS WRONG, nobody whom it signed comes in"
        click.echo(f"authority {each['authority']} of {_owner(each)}: {lacks}")


def _owner(each: dict[str, Any]) -> str:
    """Who goes by a part of TLS, and for which name alone."""
    owner = "listener" if each["listener"] is not None else "upstream"
    asked = f" for {each['server_name']}" if each["server_name"] is not None else ""
    return f"{owner} {each[owner]}{asked}"


def _staple(told: dict[str, Any] | None) -> str:
    if told is None:
        return ""
    if (lack := told.get("lack")) is not None:  # an older program does not tell
        return f", OCSP {'MISSING' if lack == 'missing' else 'OF ANOTHER CERTIFICATE'}, NOT SHOWN"
    due = f" until {told['next_update']}" if told["next_update"] is not None else ""
    how = ""
    if not told["shown"]:
        is_early = not told.get("expired", True)  # an older program does not tell
        how = f", NOT SHOWN BEFORE {told['this_update']}" if is_early else ", NOT SHOWN ANY MORE"
    return f", OCSP {told['status']}{due}{how}"


def _print_breakers(status: dict[str, Any]) -> None:
    """Those of which there is something to tell; an older program tells of none."""
    for each in status.get("breakers", []):
        if each["state"] == "closed" and not each["failures"] and not each["failures_in_row"]:
            continue
        route = f" of route {each['route']}" if each["route"] is not None else ""
        click.echo(f"breaker{route} of upstream {each['upstream']}: {_standing(each)}")
    for each in status.get("ejected", []):
        when = f"probed in {each['probed_in_s']} s" if each["probed_in_s"] else "being probed"
        click.echo(f"ejected from upstream {each['upstream']}: {each['endpoint']}, {when}")
    for what in ("breakers", "ejected"):
        if left := status.get(f"{what}_left_out"):
            click.echo(f"and {left} more {what}: the metrics have all")


def _print_shadows(status: dict[str, Any]) -> None:
    """What refuses nothing; an older program tells of none."""
    for each in status.get("shadows", []):
        kind = "listener" if each["listener"] is not None else "route"
        click.echo(f"allow of {kind} {each[kind]}: in shadow, refuses nothing")
    if left := status.get("shadows_left_out"):
        click.echo(f"and {left} more in shadow")


def _standing(breaker: dict[str, Any]) -> str:
    state: str = breaker["state"]
    if state == "open":
        return f"open, probes pass in {breaker['probes_in_s']} s"
    if state == "half_open":
        return "half open, probes pass"
    in_row = breaker["failures_in_row"]
    said = [f"closed, {in_row} {'failure' if in_row == 1 else 'failures'} in a row"]
    if breaker["failures"]:
        said.append(f"{breaker['failures']} of the {breaker['calls']} calls in its window failed")
    return ", ".join(said)
