"""Whether a restart would read what is in force: the file, and all that it names."""

from __future__ import annotations

import base64
import datetime
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from meshcore.cli import main
from tests.process.program import Program
from tests.process.test_workers import get
from tests.wire.conftest import Certificates
from tests.wire.identities import Signer
from tests.wire.test_ocsp import Authority

MESH = """\
version: 1
drain: 5s
watch: {watch}
admin: {{bind: "127.0.0.1:0"}}
ticket_keys: ticket.keys
listeners:
  edge:
    bind: "127.0.0.1:0"
    tls: {{cert: a.test.pem, key: a.test.key, ocsp: a.test.der{more}}}
routes: [{{name: hello, respond: {{body: hello}}}}]
"""


def key() -> str:
    return base64.b64encode(os.urandom(48)).decode() + "\n"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    made = Authority(tmp_path)
    made.says(made.pair("a.test"))
    (tmp_path / "ticket.keys").write_text(key())
    (tmp_path / "ticket.keys").chmod(0o600)
    return made


def written(folder: Path, watch: str = "on", more: str = "") -> Path:
    file = folder / "mesh.yaml"
    file.write_text(MESH.format(watch=watch, more=more))
    return file


def in_force(program: Program) -> tuple[bool, bool, bool]:
    """Whether the file is, whether the last change was taken, and whether one is told that was
    not."""
    status = program.status()
    told = status["file_is_in_force"], status["last_reload_success"], status["refused"] is not None
    success = "meshcore_config_last_reload_success"
    metrics = get(program.line(r"listening (\S+) \(admin\)")[1] + "/metrics")[1].decode()
    assert f"{success} {int(told[1])}\n" in metrics
    return told


@pytest.mark.usefixtures("authority")
@pytest.mark.parametrize("name", ["a.test.pem", "a.test.key", "ticket.keys", "mesh.yaml"])
@pytest.mark.parametrize("how", ["cut", "gone"])
def test_what_was_refused_is_told_of_until_it_is_again_as_before(
    tmp_path: Path, name: str, how: str
) -> None:
    with Program(written(tmp_path), "--workers", "1") as program:
        program.line(r"\(admin\)")
        assert in_force(program) == (True, True, False)
        file = tmp_path / name
        content = file.read_bytes()
        if how == "gone":
            file.unlink()
        else:
            file.write_bytes(content[: len(content) // 2])
        program.line("reload refused")
        assert in_force(program) == (False, False, True)
        file.write_bytes(content)
        assert in_force(program) == (True, True, False)
        program.line("mesh.yaml is again as configuration 1")


def test_a_new_certificate_is_not_in_force_before_a_reload(
    tmp_path: Path, authority: Authority
) -> None:
    file = written(tmp_path, "off")
    with Program(file, "--workers", "1") as program:
        program.line(r"\(admin\)")
        authority.says(authority.pair("a.test"))
        assert in_force(program) == (False, True, False)
        shown = CliRunner().invoke(main, ["status", str(file)]).output
        assert f"{file}, or a file that it names, differs from configuration 1, which is" in shown
        program.order("/reload")
        assert in_force(program) == (True, True, False)


@pytest.mark.parametrize("is_first_there", [True, False])
def test_a_renewed_certificate_does_not_wait_for_its_response(
    tmp_path: Path, authority: Authority, is_first_there: bool
) -> None:
    file, der = written(tmp_path), tmp_path / "a.test.der"
    if not is_first_there:
        der.unlink()

    def ocsp(program: Program) -> tuple[Any, str]:
        """How it stands, as `status` has it and as it says it."""
        (told,) = program.status()["certificates"]
        shown = CliRunner().invoke(main, ["status", str(file)]).output
        (line,) = (x for x in shown.splitlines() if "certificate of" in x)
        return told["ocsp"] and told["ocsp"]["lack"], line.rpartition(", OCSP ")[2]

    with Program(file, "--workers", "1") as program:
        program.line(r"\(admin\)")
        if is_first_there:
            assert ocsp(program)[0] is None
            pair = authority.pair("a.test")
            program.line("reload: configuration 2 is in force")
            # With a look between its two files it is the third.
            program.until(lambda: ocsp(program) == ("other", "OF ANOTHER CERTIFICATE, NOT SHOWN"))
            program.line("tls.ocsp: .*a.test.der says nothing of .*a.test.pem: it is not shown")
        else:
            assert ocsp(program) == ("missing", "MISSING, NOT SHOWN")
            program.line("there is no .*a.test.der yet: nothing is stapled to .*a.test.pem meanw")
            pair = {"cert": str(tmp_path / "a.test.pem")}
        authority.says(pair)
        program.until(lambda: ocsp(program)[1].startswith("good until"))
        assert in_force(program) == (True, True, False)


def refused_upgrade(program: Program, file: Path) -> str:
    """What is told of it; the program goes on."""
    done = CliRunner().invoke(main, ["upgrade", str(file)])
    assert done.exit_code == 1
    assert "the new program did not get ready: " in done.output
    assert program.status()["ready"]
    return done.output


@pytest.mark.usefixtures("authority")
def test_an_upgrade_that_is_refused_says_why(tmp_path: Path) -> None:
    file = written(tmp_path, "off")
    with Program(file, "--workers", "1") as program:
        program.line(r"\(admin\)")
        (tmp_path / "ticket.keys").write_text("x\n")
        assert "ticket.keys line 1 is no Base64" in refused_upgrade(program, file)


@pytest.mark.usefixtures("authority")
def test_an_upgrade_whose_workers_have_no_such_layer_says_so(tmp_path: Path) -> None:
    file = written(tmp_path, "off")
    with Program(file, "--workers", "1") as program:
        program.line(r"\(admin\)")
        file.write_text(
            file.read_text().replace("{name: h", "{layers: [{python: nowhere:X}], name: h")
        )
        assert "No module named 'nowhere'" in refused_upgrade(program, file)


@pytest.mark.usefixtures("authority")
def test_keys_of_tickets_that_all_may_read_are_told_of_by_the_log(tmp_path: Path) -> None:
    (tmp_path / "ticket.keys").chmod(0o644)
    with Program(written(tmp_path), "--workers", "1") as program:
        program.line(r"ticket_keys: every user of this machine can read .*ticket.keys \(mode 0644")


@pytest.mark.usefixtures("authority")
@pytest.mark.parametrize(("use", "told"), [("", "nobody whom it is about comes in"), ("use", "")])
def test_status_and_metrics_tell_when_each_list_ends(tmp_path: Path, use: str, told: str) -> None:
    """Also of one that had ended when it was loaded."""
    believed = tmp_path / "believed"
    believed.mkdir()
    for name, ends in (("now", 1), ("late", -1)):
        signer = Signer(tmp_path / name, name, Certificates(believed))
        signer.revoke(ends_in=datetime.timedelta(days=ends))
    expired = ", crl_expired: use" if use else ""
    more = (
        ", client_auth: {ca: [now/now/ca.pem, late/late/ca.pem], "
        f"crl: [now/now/crl.pem, late/late/crl.pem]{expired}}}"
    )
    file = written(tmp_path, more=more)
    with Program(file, "--workers", "1") as program:
        at = program.line(r"listening (\S+) \(admin\)")[1]
        late, now = program.status()["revocation_lists"]
        assert (late["issuer"], late["expired"], now["issuer"], now["expired"]) == (
            *("CN=late", True),
            *("CN=now", False),
        )
        lines = get(f"{at}/metrics")[1].decode().splitlines()
        due = [x for x in lines if x.startswith("meshcore_crl_next_update_seconds{")]
        assert len(due) == 2
        where = 'listener="edge",upstream="",server_name="",issuer="CN=late"'
        assert any(where in line for line in due)
        shown = CliRunner().invoke(main, ["status", str(file)]).output
        line = f"revocation list of listener edge: CN=late, until {late['next_update']}, EXPIRED, "
        assert line + (told or "still used") in shown
        assert f"revocation list of listener edge: CN=now, until {now['next_update']}\n" in shown


@pytest.mark.usefixtures("authority")
@pytest.mark.parametrize("ca", ["now/now/ca.pem, late/late/ca.pem", "now/now/ca.pem"])
def test_the_log_tells_of_each_list_that_has_ended(tmp_path: Path, ca: str) -> None:
    """Also of an authority that clients bring, as intermediate ones are."""
    believed = tmp_path / "believed"
    believed.mkdir()
    for name, ends in (("now", 1), ("late", -1)):
        signer = Signer(tmp_path / name, name, Certificates(believed))
        signer.revoke(ends_in=datetime.timedelta(days=ends))
    more = f", client_auth: {{ca: [{ca}], crl: [now/now/crl.pem, late/late/crl.pem]}}"
    with Program(written(tmp_path, more=more), "--workers", "1") as program:
        program.line(
            "listener edge: the revocation list of CN=late expired at .*: nobody whom it is"
        )
