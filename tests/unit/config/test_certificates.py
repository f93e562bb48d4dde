"""Certificates and keys: found beside the file, tried before anything starts."""

import base64
import ssl
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from tests.wire.conftest import Certificates
from tests.wire.identities import Signer

from meshcore.config.compile import compile
from meshcore.config.load import load_file
from meshcore.config.snapshot import CertificateSpec, TrustSpec
from meshcore.errors import ConfigError


@pytest.fixture(scope="session")
def _authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="session")
def _rsa(_authority: trustme.CA) -> list[trustme.Blob]:
    made = _authority.issue_cert("edge.example.com", key_type=trustme.KeyType.RSA)
    return [made.private_key_pem, made.cert_chain_pems[0]]


@pytest.fixture
def tls_files(tmp_path: Path, _authority: trustme.CA, _rsa: list[trustme.Blob]) -> Path:
    """A folder with ca.pem and three pairs: edge.pem, edge.key, other.pem, other.key, and rsa.pem,
    rsa.key, which is of edge too."""
    _authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    for name in ("edge", "other"):
        pair = _authority.issue_cert(f"{name}.example.com")
        pair.private_key_pem.write_to_path(tmp_path / f"{name}.key")
        for blob in pair.cert_chain_pems:
            blob.write_to_path(tmp_path / f"{name}.pem", append=True)
    for file, blob in zip(("rsa.key", "rsa.pem"), _rsa, strict=True):
        blob.write_to_path(tmp_path / file)
    return tmp_path


def test_tls_files_begin_at_the_folder_of_the_file(tls_files: Path) -> None:
    file = tls_files / "mesh.yaml"
    file.write_text(
        """
version: 1
listeners:
  edge:
    bind: 127.0.0.1:0
    tls:
      cert: edge.pem
      key: edge.key
      client_ca: ca.pem
      min_version: "1.3"
      certificates: [{cert: rsa.pem, key: rsa.key}]
      sni:
        "*.Example.com": {cert: other.pem, key: other.key, certificates: [
          {cert: rsa.pem, key: rsa.key}]}
"""
    )
    snapshot = compile(load_file(file))
    tls = snapshot.listeners[0].tls
    assert tls is not None
    edge, key, other, other_key, rsa, rsa_key, ca = (
        (tls_files / name).read_bytes()
        for name in (
            *("edge.pem", "edge.key", "other.pem", "other.key", "rsa.pem", "rsa.key"),
            "ca.pem",
        )
    )
    assert tls.certificates == (
        CertificateSpec(None, edge, key),
        CertificateSpec(None, rsa, rsa_key),
        CertificateSpec("*.example.com", other, other_key),
        CertificateSpec("*.example.com", rsa, rsa_key),
    )
    assert {str(tls_files / "rsa.pem"), str(tls_files / "rsa.key")} <= {*snapshot.files}
    assert (tls.clients, tls.min_version) == (TrustSpec(ca.decode()), "1.3")


def test_unusable_certificates(tls_files: Path) -> None:
    (tls_files / "junk.pem").write_text("no certificate")
    file = tls_files / "mesh.yaml"
    file.write_text(
        """\
version: 1
listeners:
  a: {bind: a:1, tls: {cert: edge.pem, key: other.key}}
  b: {bind: a:2, tls: {cert: junk.pem, key: edge.key, client_ca: junk.pem}}
  c: {bind: a:3, tls: {cert: edge.pem, key: edge.key, sni: {
    x.y: {cert: none.pem, key: edge.key, client_ca: junk.pem}}}}
upstreams:
  u: {endpoints: [b:1], tls: {ca: none.pem}}
"""
    )
    with pytest.raises(ConfigError) as caught:
        load_file(file)
    found = [(p.path, p.line) for p in caught.value.problems]
    assert found == [
        ("listeners.a.tls.key", 3),
        ("listeners.b.tls.cert", 4),
        ("listeners.b.tls.client_ca", 4),
        ("listeners.c.tls.sni['x.y'].cert", 6),
        ("listeners.c.tls.sni['x.y'].client_ca", 6),
        ("upstreams.u.tls.ca", 8),
    ]


def test_a_key_with_a_password_is_refused_and_nobody_is_asked(tls_files: Path) -> None:
    key = tls_files / "locked.key"
    pem = (tls_files / "edge.key").read_bytes()
    private = serialization.load_pem_private_key(pem, None)
    locked = serialization.BestAvailableEncryption(b"secret")
    form = serialization.PrivateFormat.PKCS8
    key.write_bytes(private.private_bytes(serialization.Encoding.PEM, form, locked))
    file = tls_files / "mesh.yaml"
    file.write_text(
        "version: 1\nlisteners: {a: {bind: a:1, tls: {cert: edge.pem, key: locked.key}}}\n"
    )
    with pytest.raises(ConfigError, match="is encrypted"):
        load_file(file)


def told(folder: Path, tls: str) -> list[str]:
    file = folder / "mesh.yaml"
    file.write_text(f"version: 1\nlisteners: {{a: {{bind: a:1, tls: {{{tls}}}}}}}\n")
    with pytest.raises(ConfigError) as caught:
        load_file(file)
    return [str(p).replace(f"{folder}/", "") for p in caught.value.problems]


@pytest.mark.parametrize(
    ("tls", "line"),
    [
        (
            "cert: edge.key, key: edge.pem",
            "2:40: listeners.a.tls.cert: cert and key are swapped: edge.key is a key, edge.pem a "
            "certificate (write cert: edge.pem, key: edge.key)",
        ),
        (
            "cert: edge.pem, key: other.key",
            "2:55: listeners.a.tls.key: other.key is not the key of edge.pem (the first "
            "certificate of edge.pem must be the key's own, its issuers follow)",
        ),
        (
            "cert: edge.pem, key: other.key, sni: {a.b: {cert: other.pem, key: other.key}}",
            "2:55: listeners.a.tls.key: other.key is not the key of edge.pem (but that of "
            "other.pem)",
        ),
        (
            "cert: edge.pem, key: edge.key, certificates: [{cert: other.pem, key: other.key}]",
            "2:87: listeners.a.tls.certificates[0].cert: other.pem has an ECDSA key, as edge.pem "
            "has (certificates of one name have keys of different kinds; other names stand in sni)",
        ),
        (
            "cert: edge.pem, key: edge.key, certificates: [{cert: rsa.pem, key: rsa.key}, "
            "{cert: rsa.pem, key: rsa.key}]",
            "2:118: listeners.a.tls.certificates[1].cert: rsa.pem stands there already "
            "(certificates of one name have keys of different kinds; other names stand in sni)",
        ),
        (
            "cert: edge.pem, key: edge.key, certificates: [{cert: rsa.pem, key: edge.key}]",
            "2:101: listeners.a.tls.certificates[0].key: edge.key is not the key of rsa.pem (but "
            "that of edge.pem)",
        ),
        (
            "cert: edge.pem, key: edge.key, certificates: [{cert: rsa.pem, key: rsa.key, ocsp: "
            "empty.pem}]",
            "2:116: listeners.a.tls.certificates[0].ocsp: empty.pem is empty",
        ),
        (
            "cert: turned.pem, key: edge.key",
            "2:57: listeners.a.tls.key: edge.key is not the key of turned.pem (but that of "
            "certificate 2 in it, which must be the first: behind each stands the one that signed "
            "it)",
        ),
        (
            "cert: cut.pem, key: edge.key, ocsp: cut.pem",
            "2:40: listeners.a.tls.cert: cannot use cut.pem with edge.key: not readable: it is cut "
            "off: no line says -----END CERTIFICATE-----",
        ),
        (
            "cert: all.p12, key: edge.key",
            "2:40: listeners.a.tls.cert: no certificate in all.p12: it is PKCS #12 (openssl pkcs12 "
            "-in FILE -nokeys -out NEW writes PEM)",
        ),
        (
            "cert: edge.pem, key: all.p12",
            "2:55: listeners.a.tls.key: no private key in all.p12: it is PKCS #12 (openssl pkcs12 "
            "-in FILE -nocerts -noenc -out NEW writes PEM)",
        ),
        ("cert: empty.pem, key: edge.key", "2:40: listeners.a.tls.cert: empty.pem is empty"),
        ("cert: edge.pem, key: empty.pem", "2:55: listeners.a.tls.key: empty.pem is empty"),
        ("cert: ., key: edge.key", "2:40: listeners.a.tls.cert: cannot read .: Is a directory"),
        (
            "cert: edge.pem, key: ca.pem",
            "2:55: listeners.a.tls.key: no private key in ca.pem: it holds a certificate",
        ),
        (
            "cert: request.pem, key: edge.key",
            "2:40: listeners.a.tls.cert: no certificate in request.pem: it holds a certificate "
            "request",
        ),
        (
            "cert: edge.der, key: edge.key",
            "2:40: listeners.a.tls.cert: no certificate in edge.der: not PEM (openssl x509 -inform "
            "der -in FILE makes PEM of it)",
        ),
        (
            "cert: edge.pem, key: edge.key, client_ca: empty.pem",
            "2:76: listeners.a.tls.client_ca: empty.pem is empty",
        ),
    ],
)
def test_what_is_said_of_a_file_that_is_another(tls_files: Path, tls: str, line: str) -> None:
    (tls_files / "empty.pem").write_text("\n")
    request = "-----BEGIN CERTIFICATE REQUEST-----\n-----END CERTIFICATE REQUEST-----\n"
    (tls_files / "request.pem").write_text(request)
    pem = (tls_files / "edge.pem").read_text()
    (tls_files / "cut.pem").write_text(pem[:300])
    pack = ["openssl", "pkcs12", "-export", "-in", "edge.pem", "-inkey", "edge.key"]
    pack += ["-passout", "pass:", "-out", "all.p12"]
    subprocess.run(pack, cwd=tls_files, check=True)
    (tls_files / "edge.der").write_bytes(ssl.PEM_cert_to_DER_cert(pem))
    (tls_files / "turned.pem").write_text((tls_files / "ca.pem").read_text() + pem)
    found = [each.replace(f"{tls_files}: ", ".: ") for each in told(tls_files, tls)]
    assert found == [f"mesh.yaml:{line}"]


def test_one_file_may_hold_both(tls_files: Path) -> None:
    both = (tls_files / "edge.key").read_bytes() + (tls_files / "edge.pem").read_bytes()
    (tls_files / "both.pem").write_bytes(both)
    file = tls_files / "mesh.yaml"
    file.write_text(
        "version: 1\nlisteners: {a: {bind: a:1, tls: {cert: both.pem, key: both.pem}}}\n"
    )
    load_file(file)


def unnumbered_list() -> bytes:
    """A revocation list as `cryptography` makes one that is told nothing more."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "root")])
    now = datetime.now(UTC)
    builder = x509.CertificateRevocationListBuilder().issuer_name(name)
    made = builder.last_update(now).next_update(now + timedelta(days=1))
    signed = made.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM)


def as_version_1(pem: bytes) -> bytes:
    """The same list as `openssl ca -gencrl` makes it without a `crlnumber` file: it says no
    version. What follows is shorter by three bytes; its signature is not looked at."""
    der = bytearray(x509.load_pem_x509_crl(pem).public_bytes(serialization.Encoding.DER))
    at = der.index(b"\x02\x01\x01")
    del der[at : at + 3]
    for length in (2, at - 1):  # of all, and of what is signed
        der[length] -= 3
    packed = base64.encodebytes(der)
    return b"-----BEGIN X509 CRL-----\n" + packed + b"-----END X509 CRL-----\n"


@pytest.mark.parametrize(
    ("auth", "lines"),
    [
        (
            "ca: [ca.pem, none.pem]",
            ["listeners.a.tls.client_auth.ca[1]: cannot read none.pem: No such file or directory"],
        ),
        (
            "trust_domains: {td: [ca.pem, edge.key]}",
            [
                "listeners.a.tls.client_auth.trust_domains.td[1]: no CA certificate in edge.key: "
                "no certificate in it"
            ],
        ),
        (
            "ca: ca.pem, crl: ca.pem",
            [
                "listeners.a.tls.client_auth.crl: no revocation list in ca.pem: it holds a "
                "certificate"
            ],
        ),
        (
            "ca: ca.pem, crl: [crl.der]",
            [
                "listeners.a.tls.client_auth.crl[0]: no revocation list in crl.der: not PEM "
                "(openssl crl -inform der -in FILE makes PEM of it)"
            ],
        ),
        (
            "ca: ca.pem, crl: torn.pem",
            [
                "listeners.a.tls.client_auth.crl: cannot use torn.pem: it is not readable",
            ],
        ),
        (
            "ca: ca.pem, crl: v1.pem",
            [
                "listeners.a.tls.client_auth.crl: cannot use v1.pem: a list without a number (RFC "
                "5280 §5.2.3): name a `crlnumber` file in the configuration of `openssl ca "
                "-gencrl`, or add the extension"
            ],
        ),
        (
            "ca: ca.pem, crl: cut.pem",
            [
                "listeners.a.tls.client_auth.crl: cannot use cut.pem: not readable: it is cut off: "
                "no line says -----END X509 CRL-----"
            ],
        ),
        (
            "ca: ca.pem, crl: [one.pem, two.pem]",
            [
                "listeners.a.tls.client_auth.crl: two revocation lists of CN=one: give the newest "
                "alone, or for each in `ca` the certificate whose key has signed it (lists of one "
                "name are in one.pem and two.pem)"
            ],
        ),
        (
            "ca: ca.pem, crl: unnumbered.pem",
            [
                "listeners.a.tls.client_auth.crl: cannot use unnumbered.pem: a list without a "
                "number (RFC 5280 §5.2.3): name a `crlnumber` file in the configuration of "
                "`openssl ca -gencrl`, or add the extension"
            ],
        ),
    ],
)
def test_what_is_said_of_authorities_and_lists(
    tls_files: Path, auth: str, lines: list[str]
) -> None:
    (tls_files / "crl.der").write_bytes(b"0\x82\x01\x02")
    torn = "-----BEGIN X509 CRL-----\nMAA=\n-----END X509 CRL-----\n"
    (tls_files / "torn.pem").write_text(torn)
    (tls_files / "unnumbered.pem").write_bytes(unnumbered_list())
    (tls_files / "v1.pem").write_bytes(as_version_1(unnumbered_list()))
    whole = (tls_files / "unnumbered.pem").read_text()
    (tls_files / "cut.pem").write_text(whole[:100])
    one = Signer(tls_files, "one", Certificates(tls_files))
    (tls_files / "one.pem").write_bytes(Path(one.revoke()).read_bytes())
    (tls_files / "two.pem").write_bytes(Path(one.revoke()).read_bytes())
    found = told(tls_files, f"cert: edge.pem, key: edge.key, client_auth: {{{auth}}}")
    assert [line.partition(": ")[2] for line in found] == lines


def test_every_file_of_client_auth_is_read(tls_files: Path) -> None:
    file = tls_files / "mesh.yaml"
    file.write_text(
        """
version: 1
listeners:
  edge:
    bind: 127.0.0.1:0
    tls:
      cert: edge.pem
      key: edge.key
      client_auth:
        mode: request
        ca: [ca.pem, edge.pem]
        trust_domains: {one: ca.pem}
        match: {spiffe: "spiffe://one/**", san: [dns:a.example]}
"""
    )
    snapshot = compile(load_file(file))
    tls = snapshot.listeners[0].tls
    assert tls is not None
    ca, edge = ((tls_files / name).read_text() for name in ("ca.pem", "edge.pem"))
    names = ("spiffe://one/**", "dns:a.example")
    assert tls.clients == TrustSpec(f"{ca}\n{edge}", (("one", ca),), names=names, required=False)
    assert str(tls_files / "ca.pem") in snapshot.files, "it is watched"


def test_an_rsa_key_that_is_too_short_is_told_its_size(tls_files: Path) -> None:
    """In both of its forms."""
    command = (
        "openssl req -x509 -newkey rsa:1024 -nodes -subj /CN=w -keyout few.key -out few.pem && "
        "openssl rsa -traditional -in few.key -out old.key"
    )
    subprocess.run(command, shell=True, check=True, cwd=tls_files, capture_output=True)
    for key in ("few.key", "old.key"):
        (line,) = told(tls_files, f"cert: few.pem, key: {key}")
        assert line.endswith("the key cannot be used: RSA of 1024 bits, and 2048 are the least")
