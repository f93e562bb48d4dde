//! What a certificate says of itself, for people.

use std::net::IpAddr;

use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use webpki::EndEntityCert;
use x509_cert::der::asn1::{AnyRef, UintRef};
use x509_cert::der::oid::ObjectIdentifier;
use x509_cert::der::oid::db::rfc5280::{ANY_EXTENDED_KEY_USAGE, ID_KP_SERVER_AUTH};
use x509_cert::der::{Decode, SliceReader};
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{
    AuthorityKeyIdentifier, ExtendedKeyUsage, SubjectAltName, SubjectKeyIdentifier,
};
use x509_cert::{Certificate, TbsCertificate};

use super::distinguished_name::SameName;
use super::{ContextError, certificates, roots};

/// `rsaEncryption` (RFC 8017 §A.1).
const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");

/// `id-ecPublicKey` (RFC 5480 §2.1.1).
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
/// `id-Ed25519` (RFC 8410 §3).
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

/// Of a key that signs nothing here.
const OTHER_KIND: &str = "other";

/// `id-pe-tlsfeature` (RFC 7633 §6).
const FEATURES: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.1.24");
/// RFC 6066 §8.
const STATUS_REQUEST: u32 = 5;

/// A certificate of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Whose it is: host names, addresses and URIs, in its order.
    pub names: Vec<String>,
    /// When it begins, in seconds since 1970.
    pub not_before_s: u64,
    /// When it ends: its last second.
    pub not_after_s: u64,
    /// Of which kind its key is: `RSA`, `ECDSA`, `Ed25519`, or `other`.
    pub key_kind: &'static str,
    /// Why others may not believe it.
    pub weakness: Option<String>,
    /// It may be shown by a server (RFC 5280 §4.2.1.12).
    pub is_for_servers: bool,
    /// It may sign others (§4.2.1.9, §4.2.1.3).
    pub is_authority: bool,
    /// It says that servers staple an OCSP response to it (RFC 7633).
    pub wants_staple: bool,
    /// It names itself as its issuer.
    pub is_own_issuer: bool,
    /// Its issuer's name and key are those of the certificate behind it, if there is one: the
    /// signature itself is not looked at.
    pub next_is_issuer: bool,
}

impl Facts {
    /// Of each certificate in a PEM text, in order. O(bytes).
    ///
    /// # Errors
    /// [`ContextError`]: the text is no PEM, or what is in it no certificate.
    pub fn read(pem: &[u8]) -> Result<Vec<Self>, ContextError> {
        let read = |der: &CertificateDer<'_>| {
            Certificate::from_der(der).map_err(|why| ContextError::Unreadable(why.to_string()))
        };
        let chain = certificates::chain(pem)?.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        let next = chain.iter().skip(1).map(Some).chain([None]);
        Ok(chain.iter().zip(next).map(|(each, next)| Self::of(each, next)).collect())
    }

    fn of(certificate: &Certificate, next: Option<&Certificate>) -> Self {
        let read = &certificate.tbs_certificate;
        let names = read.get::<SubjectAltName>().ok().flatten();
        Self {
            names: names.into_iter().flat_map(|(_, names)| names.0).filter_map(name).collect(),
            not_before_s: read.validity.not_before.to_unix_duration().as_secs(),
            not_after_s: read.validity.not_after.to_unix_duration().as_secs(),
            key_kind: kind_of(read),
            weakness: weakness(read),
            is_for_servers: is_for_servers(read),
            is_authority: roots::may_sign(certificate),
            wants_staple: wants_staple(read),
            is_own_issuer: is_own_issuer(read),
            next_is_issuer: next.is_none_or(|next| is_issuer(&next.tbs_certificate, read)),
        }
    }
}

/// Of which kind a certificate's key is, for people.
pub(super) fn key_kind(der: &CertificateDer<'_>) -> &'static str {
    Certificate::from_der(der).map_or(OTHER_KIND, |read| kind_of(&read.tbs_certificate))
}

fn kind_of(read: &TbsCertificate) -> &'static str {
    match read.subject_public_key_info.algorithm.oid {
        RSA => "RSA",
        EC => "ECDSA",
        ED25519 => "Ed25519",
        _ => OTHER_KIND,
    }
}

/// Whether it names itself as its issuer (RFC 5280 §6.1), as names are compared (§7.1).
pub(super) fn is_own_issuer(read: &TbsCertificate) -> bool {
    read.issuer == read.subject || SameName::of(&read.issuer) == SameName::of(&read.subject)
}

/// RFC 7633 §4: a list of extensions of TLS by their numbers, `status_request` among them.
fn wants_staple(read: &TbsCertificate) -> bool {
    let mut all = read.extensions.iter().flatten();
    all.find(|each| each.extn_id == FEATURES).is_some_and(|each| {
        let features = Vec::<u32>::from_der(each.extn_value.as_bytes());
        features.is_ok_and(|features| features.contains(&STATUS_REQUEST))
    })
}

fn is_for_servers(read: &TbsCertificate) -> bool {
    let fits =
        |usage: &ObjectIdentifier| [ID_KP_SERVER_AUTH, ANY_EXTENDED_KEY_USAGE].contains(usage);
    let usage = read.get::<ExtendedKeyUsage>().ok().flatten();
    usage.is_none_or(|(_, usage)| usage.0.iter().any(fits))
}

/// By name, and by the identifiers of keys where both tell them (RFC 5280 §4.2.1.1).
fn is_issuer(by: &TbsCertificate, of: &TbsCertificate) -> bool {
    let own = by.get::<SubjectKeyIdentifier>().ok().flatten().map(|(_, id)| id.0);
    let told = of.get::<AuthorityKeyIdentifier>().ok().flatten();
    let told = told.and_then(|(_, id)| id.key_identifier);
    let same_key = own.zip(told).is_none_or(|(own, told)| own == told);
    by.subject == of.issuer && same_key
}

/// Whether the certificate that begins a PEM text is of a host, or of each under `*.` of one
/// (RFC 9525 §6.3). Of one that cannot be read it is not said.
#[must_use]
pub fn is_for_host(pem: &[u8], host: &str) -> bool {
    let Ok(chain) = certificates::chain(pem) else { return true };
    let host = match host.strip_prefix("*.") {
        Some(parent) => format!("any-host.{parent}"),
        None => host.to_owned(),
    };
    let (Some(leaf), Ok(host)) = (chain.first(), ServerName::try_from(host)) else { return true };
    let Ok(leaf) = EndEntityCert::try_from(leaf) else { return true };
    leaf.verify_is_valid_for_subject_name(&host).is_ok()
}

/// Fewer are not believed any more (CA/Browser Forum, Baseline Requirements §6.1.5).
pub(super) const LEAST_RSA_BITS: usize = 2_048;
/// Signatures by way of MD5 and SHA-1: with RSA, DSA and ECDSA.
const BROKEN: [ObjectIdentifier; 5] = [
    ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.4"),
    ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.5"),
    ObjectIdentifier::new_unwrap("1.2.840.10040.4.3"),
    ObjectIdentifier::new_unwrap("1.2.840.10045.4.1"),
    ObjectIdentifier::new_unwrap("1.3.14.3.2.29"),
];

fn weakness(read: &TbsCertificate) -> Option<String> {
    // A root is believed as it is, however it signed itself.
    if !is_own_issuer(read) && BROKEN.contains(&read.signature.oid) {
        return Some("is signed by way of SHA-1 or MD5".to_owned());
    }
    let key = &read.subject_public_key_info;
    if key.algorithm.oid != RSA {
        return None;
    }
    let bits = rsa_bits(key.subject_public_key.raw_bytes())?;
    (bits < LEAST_RSA_BITS).then(|| format!("has an RSA key of {bits} bits"))
}

/// How many bits a private RSA key has; `None` of any other. O(1).
pub(super) fn rsa_key_bits(key: &PrivateKeyDer<'_>) -> Option<usize> {
    match key {
        PrivateKeyDer::Pkcs1(key) => rsa_private_bits(key.secret_pkcs1_der()),
        PrivateKeyDer::Pkcs8(key) => {
            // RFC 5208 §5: a version, the algorithm, and the key in a string.
            let outer = AnyRef::from_der(key.secret_pkcs8_der()).ok()?;
            let mut parts = SliceReader::new(outer.value()).ok()?;
            AnyRef::decode(&mut parts).ok()?;
            let algorithm = AnyRef::decode(&mut parts).ok()?;
            let kind = ObjectIdentifier::decode(&mut SliceReader::new(algorithm.value()).ok()?);
            let inner = AnyRef::decode(&mut parts).ok()?;
            kind.is_ok_and(|kind| kind == RSA).then(|| rsa_private_bits(inner.value()))?
        }
        _ => None,
    }
}

/// RFC 8017 §A.1.2: a version, and then as in a public one.
fn rsa_private_bits(key: &[u8]) -> Option<usize> {
    let outer = AnyRef::from_der(key).ok()?;
    let mut parts = SliceReader::new(outer.value()).ok()?;
    AnyRef::decode(&mut parts).ok()?;
    modulus_bits(&mut parts)
}

/// RFC 8017 §A.1.1: a sequence that begins with the modulus.
fn rsa_bits(key: &[u8]) -> Option<usize> {
    let outer = AnyRef::from_der(key).ok()?;
    modulus_bits(&mut SliceReader::new(outer.value()).ok()?)
}

fn modulus_bits(parts: &mut SliceReader<'_>) -> Option<usize> {
    let modulus = UintRef::decode(parts).ok()?;
    let first = modulus.as_bytes().first()?;
    Some(8 * modulus.as_bytes().len() - first.leading_zeros() as usize)
}

fn name(name: GeneralName) -> Option<String> {
    match name {
        GeneralName::DnsName(host) => Some(host.to_string()),
        GeneralName::UniformResourceIdentifier(uri) => Some(uri.to_string()),
        GeneralName::IpAddress(bytes) => match *bytes.as_bytes() {
            [a, b, c, d] => Some(IpAddr::from([a, b, c, d]).to_string()),
            ref long => Some(IpAddr::from(<[u8; 16]>::try_from(long).ok()?).to_string()),
        },
        _ => None,
    }
}
