"""What an authority says of a certificate is stapled to it, as long as it is new enough."""

from __future__ import annotations

import asyncio
import base64
import datetime
import hashlib
import re
import ssl
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import trustme
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.x509 import ocsp

from meshcore import Proxy
from meshcore.cli import main
from meshcore.config.compile import compile
from meshcore.config.load import load_text
from meshcore.config.warnings.certificates import certificates as warnings
from meshcore.errors import ConfigError
from meshcore.process.certificates import Certificates as Told
from tests.wire.conftest import Run, Serve, eventually, metric
from tests.wire.h2_mesh import Mesh

NEXT_UPDATE = "meshcore_ocsp_next_update_seconds"
HOUR = datetime.timedelta(hours=1)
GOOD, REVOKED = ocsp.OCSPCertStatus.GOOD, ocsp.OCSPCertStatus.REVOKED


class Authority:
    """Who signs certificates for hosts, and says how they stand."""

    def __init__(self, folder: Path) -> None:
        self._ca, self._folder = trustme.CA(), folder
        self.certificate = x509.load_pem_x509_certificate(self._ca.cert_pem.bytes())
        key = serialization.load_pem_private_key(self._ca.private_key_pem.bytes(), None)
        self.key: Any = key

    def believed_by(self, context: ssl.SSLContext) -> str:
        """A client knows it; the file with its certificate."""
        self._ca.configure_trust(context)
        file = self._folder / "ca.pem"
        self._ca.cert_pem.write_to_path(file)
        return str(file)

    def pair(self, *hosts: str, is_rsa: bool = False) -> dict[str, Any]:
        """A certificate for hosts, and its key."""
        kind = trustme.KeyType.RSA if is_rsa else trustme.KeyType.ECDSA
        made = self._ca.issue_cert(*hosts, key_type=kind)
        stem = f"{hosts[0]}.rsa" if is_rsa else hosts[0]
        cert, key = self._folder / f"{stem}.pem", self._folder / f"{stem}.key"
        made.cert_chain_pems[0].write_to_path(cert)
        made.private_key_pem.write_to_path(key)
        return {"cert": str(cert), "key": str(key)}

    def says(
        self,
        pair: dict[str, Any],
        status: ocsp.OCSPCertStatus = GOOD,
        ends: datetime.timedelta = HOUR,
        algorithm: hashes.HashAlgorithm | None = None,
        begins: datetime.timedelta = -2 * HOUR,
        key_of: x509.Certificate | None = None,
    ) -> str:
        """A file with what it says of a certificate, from some time until so much later; of one
        that another of its name has signed."""
        now = datetime.datetime.now(datetime.UTC)
        key: CertificateIssuerPrivateKeyTypes = self.key
        response = (
            ocsp.OCSPResponseBuilder()
            .add_response(
                cert=x509.load_pem_x509_certificate(Path(pair["cert"]).read_bytes()),
                issuer=key_of or self.certificate,
                algorithm=algorithm or hashes.SHA1(),  # as most responders do
                cert_status=status,
                this_update=now + begins,
                next_update=now + ends,
                revocation_time=now - HOUR if status is REVOKED else None,
                revocation_reason=None,
            )
            .responder_id(ocsp.OCSPResponderEncoding.HASH, self.certificate)
            .sign(key, hashes.SHA256())
        )
        file = Path(pair["cert"]).with_suffix(".der")
        file.write_bytes(response.public_bytes(serialization.Encoding.DER))
        return str(file)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


async def shown(proxy: Proxy, host: str, *said: str) -> str:
    """How the certificate for a host stands, as a client is told that says something."""
    at = urlsplit(proxy.addresses["edge"])
    client = await asyncio.create_subprocess_exec(
        *("openssl", "s_client", "-status", "-servername", host),
        *("-connect", f"{at.hostname}:{at.port}", *said),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    printed = (await client.communicate())[0].decode()
    if "OCSP response: no response sent" in printed:
        return "nothing"
    assert "OCSP Response Status: successful" in printed, printed
    return printed.partition("Cert Status: ")[2].partition("\n")[0]


def mesh(tls: dict[str, Any]) -> str:
    return str(Mesh("native", 1).listen(tls=tls))


def test_clients_are_shown_how_each_certificate_stands(
    run: Run, serve: Serve, authority: Authority
) -> None:
    first, second, third = (authority.pair(host) for host in ("a.test", "b.test", "c.test"))
    first["ocsp"] = authority.says(first)
    second["ocsp"] = authority.says(second, REVOKED, algorithm=hashes.SHA256())

    async def go() -> None:
        sni = {"b.test": second, "c.test": third}
        async with serve(mesh(first | {"sni": sni})) as proxy:
            hosts = ("a.test", "b.test", "c.test", "other.test")
            assert [await shown(proxy, x) for x in hosts] == ["good", "revoked", "nothing", "good"]

    run(go())


def test_each_of_one_name_has_its_own(run: Run, serve: Serve, authority: Authority) -> None:
    ecdsa, rsa = (authority.pair("a.test", is_rsa=is_rsa) for is_rsa in (False, True))
    ecdsa["ocsp"], rsa["ocsp"] = authority.says(ecdsa), authority.says(rsa, REVOKED)
    named = {"b.test": ecdsa | {"certificates": [{**rsa, "ocsp": rsa["ocsp"]}]}}
    takes_rsa = ("-sigalgs", "rsa_pss_rsae_sha256")

    async def go() -> None:
        del rsa["ocsp"]
        async with serve(mesh(ecdsa | {"certificates": [rsa], "sni": named})) as proxy:
            assert [await shown(proxy, x) for x in ("a.test", "b.test")] == ["good", "good"]
            found = [await shown(proxy, x, *takes_rsa) for x in ("a.test", "b.test")]
            assert found == ["nothing", "revoked"]
            due = [("", "ECDSA", True), ("", "RSA", False), ("b.test", "RSA", True)]
            for name, key, is_told in due:
                assert bool(metric(proxy, NEXT_UPDATE, server_name=name, key=key)) is is_told

    run(go())


def test_what_has_expired_is_shown_no_more_until_a_reload_finds_a_new_one(
    run: Run, serve: Serve, authority: Authority
) -> None:
    pair = authority.pair("a.test")
    pair["ocsp"] = authority.says(pair, ends=-HOUR)

    async def go() -> None:
        async with serve(mesh(pair)) as proxy:
            assert await shown(proxy, "a.test") == "nothing"
            authority.says(pair)
            await proxy.reload(load_text(mesh(pair)))
            assert await shown(proxy, "a.test") == "good"

    run(go())


def test_what_is_of_a_time_to_come_is_not_shown(
    run: Run, serve: Serve, authority: Authority
) -> None:
    """RFC 6960 §4.2.2.1."""
    pair = authority.pair("a.test")
    pair["ocsp"] = authority.says(pair, begins=HOUR, ends=2 * HOUR)

    async def go() -> None:
        config = load_text(mesh(pair))
        (fault,) = [x for x in warnings(config) if "ocsp" in x.path]
        assert "which is to come: it is not shown before" in fault.message
        async with serve(mesh(pair)) as proxy:
            assert await shown(proxy, "a.test") == "nothing"
            authority.says(pair)
            await proxy.reload(load_text(mesh(pair)))
            assert await shown(proxy, "a.test") == "good"

    run(go())


@pytest.mark.parametrize("algorithm", [hashes.SHA1(), hashes.SHA384()], ids=["sha1", "sha384"])
@pytest.mark.parametrize("is_others", [False, True], ids=["its", "another's"])
def test_the_key_of_the_issuer_counts_where_the_chain_tells_it(
    authority: Authority, tmp_path: Path, is_others: bool, algorithm: hashes.HashAlgorithm
) -> None:
    """Two authorities may have one name, and count alike."""
    (tmp_path / "other").mkdir()
    other = Authority(tmp_path / "other")
    pair = authority.pair("a.test")
    with Path(pair["cert"]).open("ab") as chain:
        chain.write(authority.certificate.public_bytes(serialization.Encoding.PEM))
    issuer = authority.certificate
    if is_others:  # of the same name
        own = other.key.public_key()
        builder = x509.CertificateBuilder(issuer.subject, issuer.subject, own, 1)
        builder = builder.not_valid_before(issuer.not_valid_before_utc)
        builder = builder.not_valid_after(issuer.not_valid_after_utc)
        issuer = builder.sign(other.key, hashes.SHA256())
    pair["ocsp"] = authority.says(pair, algorithm=algorithm, key_of=issuer)
    if not is_others:
        load_text(mesh(pair))
        return
    (told,) = [x for x in warnings(load_text(mesh(pair))) if x.path.endswith("ocsp")]
    assert told.message == f"{pair['ocsp']} says nothing of {pair['cert']}: it is not shown"


def test_a_file_of_it_is_watched_as_certificates_are(authority: Authority) -> None:
    pair = authority.pair("a.test")
    pair["ocsp"] = authority.says(pair)
    assert pair["ocsp"] in compile(load_text(mesh(pair))).files


@pytest.mark.parametrize("wrong", ["another", "authority", "later", "missing"])
def test_what_says_nothing_of_the_certificate_is_not_shown_and_told_of(
    run: Run, serve: Serve, authority: Authority, tmp_path: Path, wrong: str
) -> None:
    """A certificate is renewed before its authority can be asked about it."""
    pair = authority.pair("a.test")
    file = Path(authority.says(pair))
    if wrong == "another":
        file = Path(authority.says(authority.pair("b.test")))
    elif wrong == "authority":
        # The same number of another authority: as `hash` tells.
        other = tmp_path / "other"
        other.mkdir()
        pair = Authority(other).pair("a.test")
    elif wrong == "later":
        trying = ocsp.OCSPResponseStatus.TRY_LATER
        later = ocsp.OCSPResponseBuilder.build_unsuccessful(trying)
        file.write_bytes(later.public_bytes(serialization.Encoding.DER))
    else:
        file.unlink()
    config = load_text(mesh(pair | {"ocsp": str(file)}))
    (told,) = [x for x in warnings(config) if x.path == "listeners.edge.tls.ocsp"]
    assert told.message.endswith("meanwhile" if wrong == "missing" else ": it is not shown")
    assert compile(config).files[str(file)] == (
        b"" if wrong == "missing" else hashlib.sha256(file.read_bytes()).digest()
    )

    async def go() -> None:
        async with serve(mesh(pair | {"ocsp": str(file)})) as proxy:
            assert await shown(proxy, "a.test") == "nothing"
            if wrong == "missing":
                again = authority.says(pair)
                await proxy.reload(load_text(mesh(pair | {"ocsp": again})))
                assert await shown(proxy, "a.test") == "good"

    run(go())


@pytest.mark.parametrize("wrong", ["pem", "base64", "cut"])
def test_what_is_no_response_is_refused(authority: Authority, wrong: str) -> None:
    pair = authority.pair("a.test")
    file = Path(authority.says(pair))
    content = file.read_bytes()
    if wrong == "base64":
        file.write_bytes(base64.encodebytes(content))
    elif wrong == "pem":
        file.write_bytes(Path(pair["cert"]).read_bytes())
    else:
        file.write_bytes(content[:-200])
    with pytest.raises(ConfigError) as caught:
        load_text(mesh(pair | {"ocsp": str(file)}))
    (problem,) = caught.value.problems
    assert problem.path == "listeners.edge.tls.ocsp"
    assert problem.message.startswith(f"cannot staple {file} to {pair['cert']}: ")
    hints = {
        "pem": "it is PEM: openssl ocsp -respout FILE writes DER",
        "base64": "it is Base64: base64 -d FILE makes DER of it",
    }
    assert problem.hint == hints.get(wrong)


def test_what_cannot_be_there_is_refused_and_not_waited_for(authority: Authority) -> None:
    """A file of a folder that is none, unlike one that is not there yet."""
    pair = authority.pair("a.test")
    file = f"{pair['cert']}/a.der"
    with pytest.raises(ConfigError) as caught:
        load_text(mesh(pair | {"ocsp": file}))
    (problem,) = caught.value.problems
    assert problem.path == "listeners.edge.tls.ocsp"
    assert problem.message == f"cannot read {file}: Not a directory"


def test_it_is_told_until_when_each_is_shown(
    run: Run,
    serve: Serve,
    authority: Authority,
    caplog: pytest.LogCaptureFixture,
    passed_s: list[float],
) -> None:
    """And once when it is not shown any more."""
    first, second = authority.pair("a.test"), authority.pair("b.test")
    second["ocsp"] = authority.says(second)
    due_s = int((datetime.datetime.now(datetime.UTC) + HOUR).timestamp())

    async def go() -> None:
        async with serve(mesh(first | {"sni": {"b.test": second}})) as proxy:
            told = metric(proxy, NEXT_UPDATE)
            assert told == metric(proxy, NEXT_UPDATE, listener="edge", server_name="b.test")
            assert due_s - 60 <= told <= due_s + 1
            await asyncio.sleep(0.1)  # time for several looks
            assert caplog.messages == []
            passed_s[0] = 3_700
            await eventually(lambda: len(caplog.messages) > 0)
            await asyncio.sleep(0.1)
            (line,) = caplog.messages
            assert line.startswith(
                "listener edge: the OCSP response of the ECDSA certificate for b.test expired at "
            )
            assert line.endswith(": it is not shown any more")

    run(go())


@pytest.mark.parametrize("knows", [True, False], ids=["this_program", "an_older_one"])
def test_the_status_says_whether_it_is_too_early_or_too_late(
    authority: Authority, monkeypatch: pytest.MonkeyPatch, knows: bool
) -> None:
    pair = authority.pair("a.test")
    begins, ends = HOUR, 2 * HOUR
    response = authority.says(pair, begins=begins, ends=ends)
    snapshot, now_s = compile(load_text(mesh(pair | {"ocsp": response}))), time.time()

    def line(later: datetime.timedelta) -> str:
        status = Told().overview(snapshot, now_s + later.total_seconds())
        for each in status if not knows else ():
            del each["ocsp"]["this_update"], each["ocsp"]["expired"]
        answer = {"certificates": status, "ready": True, "pid": 1, "version": "1"}
        none: dict[str, Any] = {"listeners": {}, "workers": [], "history": []}
        monkeypatch.setattr("meshcore.cli.order.ask", lambda *_: answer | none)
        (told,) = re.findall(r", OCSP good until [-:\dTZ]+(.*)", _printed("status"))
        return str(told)

    (told,) = Told().overview(snapshot, now_s)
    due_s = Told().of(snapshot)[0].staple.next_update_s  # type: ignore[union-attr]  # there is one
    assert due_s is not None
    at_the_end = [Told().overview(snapshot, due_s + x)[0]["ocsp"] for x in (0.0, 0.9, 1.0)]
    assert [x["shown"] for x in at_the_end] == [True, True, False]  # RFC 6960 §4.2.2.1
    assert [x["expired"] for x in at_the_end] == [False, False, True]
    early = f", NOT SHOWN BEFORE {told['ocsp']['this_update']}" if knows else ", NOT SHOWN ANY MORE"
    assert line(0 * HOUR) == early
    assert line(begins + HOUR / 2) == ""
    assert line(ends + HOUR) == ", NOT SHOWN ANY MORE"


def _printed(command: str) -> str:
    return CliRunner().invoke(main, [command, "mesh.yaml"], catch_exceptions=False).output
