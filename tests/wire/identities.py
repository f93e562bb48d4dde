"""Clients and endpoints with certificates that a test makes of any names."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
import subprocess
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import NameOID

from tests.wire.conftest import Certificates

_NOW = datetime.datetime.now(datetime.UTC)
_DAY = datetime.timedelta(days=1)


def _general(name: str) -> x509.GeneralName:
    kind, _, text = name.partition(":")
    if kind == "dns":
        return x509.DNSName(text)
    if kind == "ip":
        return x509.IPAddress(ipaddress.ip_address(text))
    if kind == "email":
        return x509.RFC822Name(text)
    return x509.UniformResourceIdentifier(name)


def _subject(text: str, kind: _ASN1Type | None = None) -> x509.Name:
    name = NameOID.COMMON_NAME
    return x509.Name([x509.NameAttribute(name, text, _type=kind)] if text else [])


# A URI, a directory's name, or one below the issuer's.
Point = str | x509.Name | x509.RelativeDistinguishedName


def directory(*names: str) -> x509.Name:
    """A name of some parts, each below the one before it."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name) for name in names])


def below(name: str) -> x509.RelativeDistinguishedName:
    """The part of a name that stands below its issuer's."""
    return x509.RelativeDistinguishedName([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _full(point: Point | None) -> list[x509.GeneralName] | None:
    if isinstance(point, str):
        return [x509.UniformResourceIdentifier(point)]
    return [x509.DirectoryName(point)] if isinstance(point, x509.Name) else None


def _relative(point: Point | None) -> x509.RelativeDistinguishedName | None:
    return point if isinstance(point, x509.RelativeDistinguishedName) else None


def point_of(
    point: Point | None, *, users: bool = False, authorities: bool = False
) -> x509.IssuingDistributionPoint:
    """What of its issuer's certificates a list is about (RFC 5280 §5.2.5)."""
    return x509.IssuingDistributionPoint(
        full_name=_full(point),
        relative_name=_relative(point),
        only_contains_user_certs=users,
        only_contains_ca_certs=authorities,
        only_some_reasons=None,
        indirect_crl=False,
        only_contains_attribute_certs=False,
    )


class Holder:
    """Who has a certificate, and whom it believes."""

    def __init__(self, folder: Path, serial: int, believed: Certificates) -> None:
        self.cert, self.key = str(folder / f"{serial}.pem"), str(folder / f"{serial}.key")
        self.serial = serial
        self._believed = believed

    def client(self, *alpn: str) -> ssl.SSLContext:
        """For a test's client."""
        context = self._believed.client(*alpn)
        context.load_cert_chain(self.cert, self.key)
        return context

    def origin(self, *alpn: str) -> ssl.SSLContext:
        """For a test's origin."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.cert, self.key)
        if alpn:
            context.set_alpn_protocols(list(alpn))
        return context


class Signer:
    """An authority of clients; ``tells_keys``: in what it signs is the key by which it does."""

    def __init__(
        self, folder: Path, name: str, believed: Certificates, *, tells_keys: bool = True
    ) -> None:
        self.tells_keys = tells_keys
        self._folder = folder / name
        self._folder.mkdir(parents=True)
        self._believed = believed
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _subject(name)
        usage = x509.KeyUsage(
            digital_signature=True,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=True,
            crl_sign=True,
            encipher_only=False,
            decipher_only=False,
        )
        made = self._builder(self._name, self._key, 1)
        made = made.add_extension(x509.BasicConstraints(True, None), critical=True)
        made = made.add_extension(usage, critical=True)
        made = made.add_extension(self._key_id(), critical=False)
        self.ca = str(self._folder / "ca.pem")
        self._serial = self.serial = 1
        self._write(self.ca, made.sign(self._key, hashes.SHA256()))

    def packed(self) -> str:
        """The same authority with its key spelt with one coordinate alone, which takes openssl: the
        file."""
        key, ca = self._folder / "packed_key.pem", self._folder / "packed.pem"
        plain = self._key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        pack = ["openssl", "ec", "-conv_form", "compressed", "-out", str(key)]
        subprocess.run(pack, input=plain, check=True, capture_output=True)
        name = self._name.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value
        sign = ["openssl", "req", "-x509", "-new", "-key", str(key), "-subj", f"/CN={name!s}"]
        sign += ["-addext", "keyUsage=critical,keyCertSign,cRLSign", "-days", "5", "-out", str(ca)]
        subprocess.run(sign, check=True, capture_output=True)
        return str(ca)

    def _key_id(self) -> x509.SubjectKeyIdentifier:
        return x509.SubjectKeyIdentifier.from_public_key(self._key.public_key())

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, serial: int
    ) -> x509.CertificateBuilder:
        made = x509.CertificateBuilder(self._name, subject, key.public_key(), serial)
        return made.not_valid_before(_NOW - _DAY).not_valid_after(_NOW + 9 * _DAY)

    @staticmethod
    def _write(path: str, made: x509.Certificate | x509.CertificateRevocationList) -> None:
        Path(path).write_bytes(made.public_bytes(serialization.Encoding.PEM))

    def issue(
        self,
        *names: str,
        subject: str = "",
        usage: list[x509.ObjectIdentifier] | None = None,
        listed_at: Point | None = None,
    ) -> Holder:
        """A certificate of ``dns:…``, ``ip:…``, ``email:…`` and URIs, for some usage, whose
        revocation would be told at some point."""
        self._serial += 1
        holder = Holder(self._folder, self._serial, self._believed)
        key = ec.generate_private_key(ec.SECP256R1())
        made = self._builder(_subject(subject), key, self._serial)
        if names:
            general = x509.SubjectAlternativeName([_general(name) for name in names])
            made = made.add_extension(general, critical=False)
        if usage is not None:
            made = made.add_extension(x509.ExtendedKeyUsage(usage), critical=False)
        if listed_at is not None:
            point = x509.DistributionPoint(_full(listed_at), _relative(listed_at), None, None)
            made = made.add_extension(x509.CRLDistributionPoints([point]), critical=False)
        if self.tells_keys:
            made = made.add_extension(self._authority_key_id(), critical=False)
        self._write(holder.cert, made.sign(self._key, hashes.SHA256()))
        self._write_key(holder.key, key)
        return holder

    def below(self, folder: Path, name: str, *, key_id: bytes | None = None) -> Signer:
        """An authority that this one signed, which calls the key it was signed by ``key_id``."""
        made = Signer(folder, name, self._believed)
        self._serial += 1
        made.serial = self._serial
        signed = x509.CertificateBuilder(
            self._name, made._name, made._key.public_key(), self._serial
        )
        signed = signed.not_valid_before(_NOW - _DAY).not_valid_after(_NOW + 9 * _DAY)
        signed = signed.add_extension(x509.BasicConstraints(True, None), critical=True)
        signed = signed.add_extension(made._key_id(), critical=False)
        own = (
            x509.AuthorityKeyIdentifier(key_id, None, None) if key_id else self._authority_key_id()
        )
        signed = signed.add_extension(own, critical=False)
        self._write(made.ca, signed.sign(self._key, hashes.SHA256()))
        return made

    def itself(self) -> Holder:
        """With the certificate that it signed itself."""
        holder = Holder(self._folder, 1, self._believed)
        holder.cert = self.ca
        self._write_key(holder.key, self._key)
        return holder

    @staticmethod
    def _write_key(path: str, key: ec.EllipticCurvePrivateKey) -> None:
        pem = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        Path(path).write_bytes(pem)

    def _authority_key_id(self) -> x509.AuthorityKeyIdentifier:
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())

    def revoke(
        self,
        *holders: Holder | Signer,
        ends_in: datetime.timedelta = _DAY,
        spelt: str = "",
        point: x509.IssuingDistributionPoint | None = None,
    ) -> str:
        """A file with the list of these; ``ends_in``: when the next one is due; ``spelt``: the
        issuer's name, in another kind of string."""
        name = _subject(spelt, _ASN1Type.PrintableString) if spelt else self._name
        made = x509.CertificateRevocationListBuilder(name, _NOW - 9 * _DAY, _NOW + ends_in)
        if point is not None:
            made = made.add_extension(point, critical=True)
        for holder in holders:
            each = x509.RevokedCertificateBuilder(holder.serial, _NOW - 8 * _DAY).build()
            made = made.add_revoked_certificate(each)
        # RFC 5280 §5.2.3; without a number a list is refused.
        made = made.add_extension(x509.CRLNumber(1), critical=False)
        if self.tells_keys:
            made = made.add_extension(self._authority_key_id(), critical=False)
        path = str(self._folder / "crl.pem")
        self._write(path, made.sign(self._key, hashes.SHA256()))
        return path
