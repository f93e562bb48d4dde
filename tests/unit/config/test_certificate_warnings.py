"""Certificates that others do not believe, or soon will not, are told of with their place."""

from __future__ import annotations

import datetime
import subprocess
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from meshcore.config.load import load_bytes
from meshcore.config.warnings.certificates import certificates

DAY = datetime.timedelta(days=1)
NOW = datetime.datetime.now(datetime.UTC)
TLS = (
    "version: 1\nlisteners:\n  edge:\n    bind: 127.0.0.1:1\n    tls: {cert: a.pem, key: a.key%s}\n"
)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def issue(
    folder: Path,
    authority: trustme.CA,
    *hosts: str,
    file: str = "a",
    not_after: datetime.datetime = NOW + 90 * DAY,
    not_before: datetime.datetime = NOW - 90 * DAY,
    key_type: trustme.KeyType = trustme.KeyType.ECDSA,
) -> None:
    pair = authority.issue_cert(
        *hosts, not_after=not_after, not_before=not_before, key_type=key_type
    )
    pair.cert_chain_pems[0].write_to_path(folder / f"{file}.pem")
    pair.private_key_pem.write_to_path(folder / f"{file}.key")


def told(folder: Path, text: str) -> list[str]:
    found = load_bytes(text.encode(), "m", folder)
    return [str(problem) for problem in found.placed(certificates(found.config))]


@pytest.mark.parametrize(
    ("left", "says"),
    [
        (31 * DAY, None),
        (29.5 * DAY, "the certificate expires in 29 days, on "),
        (1.5 * DAY, "the certificate expires in 1 day, on "),
        (0.5 * DAY, "the certificate expires in less than a day, on "),
        (-0.5 * DAY, "the certificate expired less than a day ago, on "),
        (-9.5 * DAY, "the certificate expired 9 days ago, on "),
    ],
)
def test_one_that_ends_soon_or_has_ended(
    tmp_path: Path, authority: trustme.CA, left: datetime.timedelta, says: str | None
) -> None:
    issue(tmp_path, authority, "a.test", not_after=NOW + left)
    lines = told(tmp_path, TLS % "")
    if says is None:
        assert lines == []
    else:
        date = f"{NOW + left:%Y-%m-%d}"
        assert lines == [f"m:5:17: listeners.edge.tls.cert: {says}{date}"]


@pytest.mark.parametrize(("left", "warns"), [(0.9, False), (0.4, False), (0.3, True)])
@pytest.mark.parametrize("life", [DAY / 24, DAY, 45 * DAY], ids=["hour", "day", "45 days"])
def test_one_of_a_short_life_is_not_old_at_once(
    tmp_path: Path, authority: trustme.CA, life: datetime.timedelta, left: float, warns: bool
) -> None:
    end = NOW + left * life
    issue(tmp_path, authority, "a.test", not_before=end - life, not_after=end)
    assert any("expires in" in line for line in told(tmp_path, TLS % "")) is warns


def test_each_kind_of_a_name_is_looked_at(tmp_path: Path, authority: trustme.CA) -> None:
    issue(tmp_path, authority, "a.test", "A.test", "b.test")
    rsa = trustme.KeyType.RSA
    issue(tmp_path, authority, "a.test", file="r", key_type=rsa, not_after=NOW + 9.5 * DAY)
    both = ", certificates: [{cert: r.pem, key: r.key}], sni: {b.test: "
    both += "{cert: a.pem, key: a.key, certificates: [{cert: r.pem, key: r.key}]}}"
    ends = f"the certificate expires in 9 days, on {NOW + 9.5 * DAY:%Y-%m-%d}"
    of_b = f"listeners.edge.tls.sni['b.test'].certificates[0].cert: {tmp_path}/r.pem"
    assert [line.partition(": ")[2] for line in told(tmp_path, TLS % both)] == [
        f"listeners.edge.tls.certificates[0].cert: {ends}",
        f"listeners.edge.tls.certificates[0].cert: {tmp_path}/r.pem is not of b.test, as "
        f"{tmp_path}/a.pem is",
        f"listeners.edge.tls.sni['b.test'].certificates[0].cert: {ends}",
        f"{of_b} is not of b.test, but of a.test",
    ]


@pytest.mark.parametrize("tls", ["{}", "{insecure: true}", "{ca: ca.pem}"])
def test_a_system_without_authorities(
    tmp_path: Path, authority: trustme.CA, monkeypatch: pytest.MonkeyPatch, tls: str
) -> None:
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    text = f"version: 1\nupstreams: {{one: {{endpoints: ['a.test:1'], tls: {tls}}}}}\n"
    text += "listeners: {edge: {bind: '127.0.0.1:1'}}\nroutes: [{name: all, upstream: one}]\n"
    (tmp_path / "none").mkdir()
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "none"))
    lines = told(tmp_path, text)
    assert any("this system has no authorities" in line for line in lines) is (tls == "{}")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    assert not any("this system has no" in line for line in told(tmp_path, text))


def test_one_that_has_not_begun(tmp_path: Path, authority: trustme.CA) -> None:
    issue(tmp_path, authority, "a.test", not_before=NOW + 2 * DAY)
    (line,) = told(tmp_path, TLS % "")
    assert f"the certificate is not valid before {NOW + 2 * DAY:%Y-%m-%d}" in line


@pytest.mark.parametrize(
    ("host", "names", "fits"),
    [
        ("a.test", ["a.test"], True),
        ("a.b.test", ["*.b.test"], True),
        ("a.test", ["b.test", "c.test"], False),
        ("a.b.test", ["*.test"], False),
        ("*.b.test", ["*.b.test"], True),
        ("*.b.test", ["a.b.test"], False),
        ("*.b.test", ["b.test"], False),
    ],
)
def test_one_that_is_not_of_its_name(
    tmp_path: Path, authority: trustme.CA, host: str, names: list[str], fits: bool
) -> None:
    issue(tmp_path, authority, "elsewhere.test")
    issue(tmp_path, authority, *names, file="b")
    lines = told(tmp_path, TLS % f', sni: {{"{host}": {{cert: b.pem, key: b.key}}}}')
    of = f"b.pem is not of {host}, but of {', '.join(names)}"
    assert [line for line in lines if of in line] == ([] if fits else lines)
    assert bool(lines) is not fits


def test_one_of_nobody(tmp_path: Path) -> None:
    """With a common name alone."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a.test")])
    write(tmp_path, certificate(name, key), key)
    (line,) = told(tmp_path, TLS % "")
    assert "a.pem has no subject alternative name: clients believe no other" in line


def certificate(name: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    builder = x509.CertificateBuilder(name, name, key.public_key(), 7, NOW, NOW + 90 * DAY)
    return builder.sign(key, hashes.SHA256())


def write(folder: Path, made: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
    pem = serialization.Encoding.PEM
    (folder / "a.pem").write_bytes(made.public_bytes(pem))
    form = serialization.PrivateFormat.PKCS8
    (folder / "a.key").write_bytes(
        key.private_bytes(pem, form, serialization.NoEncryption()),
    )


def test_what_is_weak(tmp_path: Path, authority: trustme.CA) -> None:
    """A chain of an RSA key of 1,024 bits, signed by way of SHA-1, behind a good certificate."""
    issue(tmp_path, authority, "a.test")
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=r -keyout root.key -out root.pem && "
        "openssl req -newkey rsa:1024 -nodes -subj /CN=w -keyout weak.key -out csr && "
        "openssl x509 -req -sha1 -days 99 -in csr -CA root.pem -CAkey root.key -out weak.pem && "
        "openssl x509 -req -sha256 -days 99 -in csr -CA root.pem -CAkey root.key -out few.pem"
    )
    subprocess.run(command, shell=True, check=True, cwd=tmp_path, capture_output=True)
    with (tmp_path / "a.pem").open("ab") as file:
        for name in ("weak", "few"):
            file.write((tmp_path / f"{name}.pem").read_bytes())
    lines = told(tmp_path, TLS % "")
    alone = [line for line in lines if "was not signed by the one behind it" not in line]
    assert [line.partition(".cert: ")[2] for line in alone] == [
        "certificate 2 of the chain is signed by way of SHA-1 or MD5: many do not believe it",
        "certificate 3 of the chain has an RSA key of 1024 bits: many do not believe it",
    ]


def test_authorities_that_are_all_of_the_past(tmp_path: Path, authority: trustme.CA) -> None:
    issue(tmp_path, authority, "a.test")
    issue(tmp_path, authority, "b.test", file="past", not_after=NOW - 2 * DAY)
    text = TLS % ", client_ca: past.pem" + (
        "upstreams:\n"
        "  u: {endpoints: ['b:1'], tls: {ca: past.pem, cert: past.pem, key: past.key}}\n"
    )
    assert [line.partition(": ")[2] for line in told(tmp_path, text)] == [
        f"listeners.edge.tls.client_ca: all of its certificates have expired, the last on "
        f"{NOW - 2 * DAY:%Y-%m-%d}",
        f"listeners.edge.tls.client_ca: {tmp_path / 'past.pem'} is no authority: it lets in "
        "itself and nobody else "
        "(the certificate that signed it lets in all that it signed)",
        f"upstreams.u.tls.ca: all of its certificates have expired, the last on "
        f"{NOW - 2 * DAY:%Y-%m-%d}",
        f"upstreams.u.tls.cert: the certificate expired 2 days ago, on {NOW - 2 * DAY:%Y-%m-%d}",
    ]
    with (tmp_path / "past.pem").open("ab") as file:
        file.write((tmp_path / "a.pem").read_bytes())  # a bundle keeps what is past
    assert not any("all of its" in line for line in told(tmp_path, text))


@pytest.mark.parametrize("wrong", ["expired", "revoked", None])
def test_a_response_that_is_not_shown_or_tells_against_it(
    tmp_path: Path, authority: trustme.CA, wrong: str | None
) -> None:
    issue(tmp_path, authority, "a.test")
    root = x509.load_pem_x509_certificate(authority.cert_pem.bytes())
    key = serialization.load_pem_private_key(authority.private_key_pem.bytes(), None)
    is_revoked = wrong == "revoked"
    response = (
        ocsp.OCSPResponseBuilder()
        .add_response(
            cert=x509.load_pem_x509_certificate((tmp_path / "a.pem").read_bytes()),
            issuer=root,
            algorithm=hashes.SHA1(),
            cert_status=ocsp.OCSPCertStatus.REVOKED if is_revoked else ocsp.OCSPCertStatus.GOOD,
            this_update=NOW - 3 * DAY,
            next_update=NOW + (-DAY if wrong == "expired" else DAY),
            revocation_time=NOW - 3 * DAY if is_revoked else None,
            revocation_reason=None,
        )
        .responder_id(ocsp.OCSPResponderEncoding.HASH, root)
        .sign(key, hashes.SHA256())  # type: ignore[arg-type]  # trustme's is one that signs
    )
    (tmp_path / "a.der").write_bytes(response.public_bytes(serialization.Encoding.DER))
    says = {
        "expired": f"it expired on {NOW - DAY:%Y-%m-%d}: it is not shown any more",
        "revoked": "it says that the certificate is revoked: clients refuse it",
        None: None,
    }[wrong]
    lines = told(tmp_path, TLS % ", ocsp: a.der")
    assert [line.partition(".ocsp: ")[2] for line in lines] == ([] if says is None else [says])


def test_one_for_clients_alone_is_not_for_servers(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([])
    host = x509.SubjectAlternativeName([x509.DNSName("a.test")])
    for usages, fits in (
        ([ExtendedKeyUsageOID.CLIENT_AUTH], False),
        ([ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH], True),
        ([ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE], True),
    ):
        made = x509.CertificateBuilder(name, name, key.public_key(), 7, NOW, NOW + 90 * DAY)
        made = made.add_extension(host, critical=False)
        made = made.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        write(tmp_path, made.sign(key, hashes.SHA256()), key)
        lines = told(tmp_path, TLS % "")
        assert len(lines) == (not fits)
        says = "a.pem is for clients alone: clients do not believe a server that shows it"
        assert all(line.endswith(says) for line in lines)


def test_a_chain_whose_second_did_not_sign_the_first(tmp_path: Path, authority: trustme.CA) -> None:
    child = authority.create_child_ca()
    issue(tmp_path, child, "a.test")
    leaf = tmp_path / "a.pem"
    with leaf.open("ab") as file:
        file.write(child.cert_pem.bytes())
    assert told(tmp_path, TLS % "") == []
    issue(tmp_path, child, "a.test")
    with leaf.open("ab") as file:
        file.write(authority.create_child_ca().cert_pem.bytes())
    (line,) = told(tmp_path, TLS % "")
    assert ".cert: the certificate was not signed by the one behind it" in line


@pytest.mark.parametrize("auth", ["client_ca: %s", "client_auth: {ca: %s}"])
def test_a_client_where_its_authority_is_meant(
    tmp_path: Path, authority: trustme.CA, auth: str
) -> None:
    issue(tmp_path, authority, "a.test")
    issue(tmp_path, authority, "b.test", file="leaf")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    key = ec.generate_private_key(ec.SECP256R1())
    alone = certificate(x509.Name([]), key).public_bytes(serialization.Encoding.PEM)
    (tmp_path / "alone.pem").write_bytes(alone)
    # Names that are the same by RFC 5280 §7.1.
    issuer, subject = (
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, x)]) for x in (" One", "one")
    )
    builder = x509.CertificateBuilder(issuer, subject, key.public_key(), 7, NOW, NOW + 90 * DAY)
    spelt = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    (tmp_path / "spelt.pem").write_bytes(spelt)
    for file in ("ca.pem", "alone.pem", "spelt.pem"):
        assert told(tmp_path, TLS % f", {auth % file}") == []
    (line,) = told(tmp_path, TLS % f", {auth % 'leaf.pem'}")
    assert "leaf.pem is no authority: it lets in itself and nobody else" in line


@pytest.mark.parametrize(
    ("left", "keys", "says"),
    [
        (2 * DAY, "", None),
        (0.5 * DAY, "", "expires within a day, and then nobody of its issuer comes in"),
        (-2 * DAY, "", f"expired on {NOW - 2 * DAY:%Y-%m-%d}: nobody of its issuer comes in"),
        (-2 * DAY, ", crl_expired: use", "it goes on being used"),
    ],
)
def test_a_list_whose_next_one_is_due(
    tmp_path: Path,
    authority: trustme.CA,
    left: datetime.timedelta,
    keys: str,
    says: str | None,
) -> None:
    issue(tmp_path, authority, "a.test")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    root = x509.load_pem_x509_certificate(authority.cert_pem.bytes())
    key = serialization.load_pem_private_key(authority.private_key_pem.bytes(), None)
    made = x509.CertificateRevocationListBuilder(root.subject, NOW - 9 * DAY, NOW + left)
    made = made.add_extension(x509.CRLNumber(1), critical=False)
    signed = made.sign(key, hashes.SHA256())  # type: ignore[arg-type]  # trustme's signs
    (tmp_path / "list.pem").write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    auth = f", client_auth: {{ca: ca.pem, crl: list.pem{keys}}}"
    lines = told(tmp_path, TLS % auth)
    if says is None:
        assert lines == []
    else:
        (line,) = lines
        assert f".client_auth.crl: {tmp_path / 'list.pem'} " in line
        assert line.endswith(says)


@pytest.mark.parametrize("has_response", [True, False])
def test_one_that_demands_a_response(tmp_path: Path, has_response: bool) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    made = x509.CertificateBuilder(x509.Name([]), x509.Name([]), key.public_key(), 7)
    made = made.not_valid_before(NOW - DAY).not_valid_after(NOW + 90 * DAY)
    made = made.add_extension(x509.SubjectAlternativeName([x509.DNSName("a.test")]), critical=False)
    made = made.add_extension(x509.TLSFeature([x509.TLSFeatureType.status_request]), critical=False)
    write(tmp_path, made.sign(key, hashes.SHA256()), key)
    (line,) = told(tmp_path, TLS % (", ocsp: a.der" if has_response else ""))
    demands = f"{tmp_path}/a.pem demands that an OCSP response is stapled to it (RFC 7633), and "
    assert (demands in line) is not has_response
    assert (f"there is no {tmp_path}/a.der yet" in line) is has_response


def test_two_keys_in_a_file(tmp_path: Path, authority: trustme.CA) -> None:
    issue(tmp_path, authority, "a.test")
    issue(tmp_path, authority, "b.test", file="b")
    with (tmp_path / "a.key").open("ab") as file:
        file.write((tmp_path / "b.key").read_bytes())
    (line,) = told(tmp_path, TLS % "")
    assert f"tls.key: {tmp_path}/a.key holds 2 keys: the first is used" in line


def test_two_kinds_in_a_file(tmp_path: Path, authority: trustme.CA) -> None:
    issue(tmp_path, authority, "a.test")
    issue(tmp_path, authority, "a.test", file="b", key_type=trustme.KeyType.RSA)
    with (tmp_path / "a.pem").open("ab") as file:
        file.write((tmp_path / "b.pem").read_bytes())
    (line,) = told(tmp_path, TLS % "")
    assert line.endswith(
        "others may not believe it (one with another kind of key, RSA, has a file of its own, "
        "named under certificates)"
    )


def test_a_name_that_lacks_a_kind_that_its_wildcard_has(
    tmp_path: Path, authority: trustme.CA
) -> None:
    issue(tmp_path, authority, "x.w.test", file="x")
    issue(tmp_path, authority, "a.test")
    issue(tmp_path, authority, "*.w.test", file="w", key_type=trustme.KeyType.RSA)
    issue(tmp_path, authority, "x.w.test", file="r", key_type=trustme.KeyType.RSA)
    sni = ", sni: {'*.w.test': {cert: w.pem, key: w.key}, x.w.test: {cert: x.pem, key: x.key%s}}"
    (line,) = told(tmp_path, TLS % (sni % ""))
    assert "tls.sni['x.w.test']: x.w.test has no certificate with a key of RSA, as *.w.t" in line
    both = ", certificates: [{cert: r.pem, key: r.key}]"
    assert told(tmp_path, TLS % (sni % both)) == []
