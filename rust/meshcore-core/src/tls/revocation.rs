//! Lists of revoked certificates (RFC 5280 §5), and which certificates they are about.
//!
//! webpki parses them; which list is about a certificate is decided here. webpki passes over a list
//! whose issuer is spelt otherwise, or that is of another distribution point, and a revoked
//! certificate would come in as one of an issuer without a list does. Here a name is compared as
//! §7.1 says, and what a list of the issuer does not cover is refused, for nobody knows how it
//! stands.

use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};
use std::time::Duration;
use webpki::{Cert, CertRevocationList, Error, OwnedCertRevocationList, VerifiedPath};
use x509_cert::Certificate;
use x509_cert::crl::CertificateList;
use x509_cert::der::asn1::{AnyRef, BitStringRef};
use x509_cert::der::oid::ObjectIdentifier;
use x509_cert::der::{self, Decode, Reader, SliceReader};
use x509_cert::ext::pkix::crl::dp::IssuingDistributionPoint;
use x509_cert::ext::pkix::name::{DistributionPointName, GeneralName};
use x509_cert::ext::pkix::{CrlDistributionPoints, KeyUsage};

use super::distinguished_name::SameName;
use super::{ContextError, certificates, words};

/// `id-ce-issuingDistributionPoint` (§5.2.5).
const POINT: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.28");

/// What a list of revoked certificates says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListFacts {
    /// Whose it is, as RFC 4514 writes names.
    pub issuer: String,
    /// When it was made, in seconds since 1970.
    pub this_update_s: u64,
    /// Until when there is to be a newer one, in seconds since 1970.
    pub next_update_s: Option<u64>,
    /// It is about authorities alone.
    pub is_of_authorities: bool,
    name: SameName,
}

impl ListFacts {
    /// Of each list in a PEM text. O(bytes).
    ///
    /// # Errors
    /// [`ContextError`]: they are none, or of a kind that is not taken.
    pub fn read(pem: &[u8]) -> Result<Vec<Self>, ContextError> {
        let lists = Lists::compile(&lists_in(pem)?, false)?.each;
        if lists.is_empty() {
            Err(ContextError::NoList)
        } else {
            Ok(lists.iter().map(of).collect())
        }
    }

    /// Whether it can be about what these authorities signed, or about one of these certificates:
    /// its issuer is among them, or theirs. O(certificates).
    #[must_use]
    pub fn is_of(&self, ca_pem: &[u8]) -> bool {
        let all = certificates::chain(ca_pem).unwrap_or_default();
        let mut read = all.iter().filter_map(|each| Certificate::from_der(each).ok());
        read.any(|each| {
            let each = each.tbs_certificate;
            [&each.subject, &each.issuer].iter().any(|name| SameName::of(name) == self.name)
        })
    }
}

fn of(list: &List) -> ListFacts {
    ListFacts {
        issuer: list.told.clone(),
        this_update_s: list.this_update_s,
        next_update_s: list.next_update_s,
        is_of_authorities: list.point.as_ref().is_some_and(|point| point.only_contains_ca_certs),
        name: list.issuer.clone(),
    }
}

pub(super) fn lists_in(
    pem: &[u8],
) -> Result<Vec<CertificateRevocationListDer<'static>>, ContextError> {
    super::pem::items(pem, "X509 CRL")
}

/// One list, made ready.
#[derive(Debug)]
struct List {
    issuer: SameName,
    /// The same for people.
    told: String,
    this_update_s: u64,
    next_update_s: Option<u64>,
    point: Option<IssuingDistributionPoint>,
    revoked: CertRevocationList<'static>,
    signed: Signed,
}

/// What of a list is signed, and how.
#[derive(Debug)]
struct Signed {
    message: Vec<u8>,
    algorithm: Vec<u8>,
    signature: Vec<u8>,
}

/// Whether a list is about a certificate.
enum Scope {
    Covered,
    /// It is about certificates of another kind.
    OtherKind,
    /// It is about those of another distribution point.
    Unknown,
}

impl List {
    fn read(list: &[u8]) -> Result<Self, ContextError> {
        let unusable = |why: der::Error| ContextError::UnusableRoots(why.to_string());
        let revoked = OwnedCertRevocationList::from_der(list)
            .map_err(|why| ContextError::UnusableRoots(words::of_webpki(&why)))?;
        let read = CertificateList::from_der(list).map_err(unusable)?.tbs_cert_list;
        let point = read.crl_extensions.iter().flatten().find(|each| each.extn_id == POINT);
        let point =
            point.map(|each| IssuingDistributionPoint::from_der(each.extn_value.as_bytes()));
        Ok(Self {
            issuer: SameName::of(&read.issuer),
            told: read.issuer.to_string(),
            this_update_s: read.this_update.to_unix_duration().as_secs(),
            next_update_s: read.next_update.map(|end| end.to_unix_duration().as_secs()),
            point: point.transpose().map_err(unusable)?,
            revoked: revoked.into(),
            signed: Signed::read(list).map_err(unusable)?,
        })
    }

    fn scope(&self, der: &[u8], is_authority: bool) -> Result<Scope, Error> {
        let Some(point) = &self.point else { return Ok(Scope::Covered) };
        if point.only_contains_ca_certs && !is_authority
            || point.only_contains_user_certs && is_authority
        {
            return Ok(Scope::OtherKind);
        }
        let Some(own) = &point.distribution_point else { return Ok(Scope::Covered) };
        let read = Certificate::from_der(der).map_err(|_| Error::BadDer)?.tbs_certificate;
        let points = read.get::<CrlDistributionPoints>().map_err(|_| Error::BadDer)?;
        // One that names no point may be in any of its issuer's lists.
        let Some((_, points)) = points else { return Ok(Scope::Covered) };
        let is_same = points.0.iter().any(|each| {
            let whole = each.crl_issuer.is_none() && each.reasons.is_none();
            whole && each.distribution_point.as_ref().is_some_and(|name| share_a_name(name, own))
        });
        Ok(if is_same { Scope::Covered } else { Scope::Unknown })
    }

    fn has(&self, serial: &[u8]) -> Result<bool, Error> {
        self.revoked.find_serial(serial).map(|found| found.is_some())
    }
}

/// §6.3.3 (b)(2)(i).
fn share_a_name(one: &DistributionPointName, other: &DistributionPointName) -> bool {
    use DistributionPointName::FullName;
    let (FullName(one), FullName(other)) = (one, other) else { return false };
    let is_uri = |name: &&GeneralName| matches!(name, GeneralName::UniformResourceIdentifier(_));
    one.iter().filter(is_uri).any(|name| other.contains(name))
}

impl Signed {
    fn read(list: &[u8]) -> der::Result<Self> {
        let mut list = SliceReader::new(AnyRef::from_der(list)?.value())?;
        let message = list.tlv_bytes()?.to_vec();
        let algorithm = AnyRef::decode(&mut list)?.value().to_vec();
        let signature = BitStringRef::decode(&mut list)?.raw_bytes().to_vec();
        Ok(Self { message, algorithm, signature })
    }

    /// Whether the holder of this key has signed it. O(bytes).
    fn verify(&self, spki: &[u8], known: &WebPkiSupportedAlgorithms) -> Result<(), Error> {
        let parts = || {
            let mut spki = SliceReader::new(AnyRef::from_der(spki)?.value())?;
            let algorithm = AnyRef::decode(&mut spki)?.value();
            Ok::<_, der::Error>((algorithm, BitStringRef::decode(&mut spki)?.raw_bytes()))
        };
        let (algorithm, key) = parts().map_err(|_| Error::BadDer)?;
        let is_signed = known.all.iter().any(|each| {
            each.signature_alg_id().as_ref() == self.algorithm
                && each.public_key_alg_id().as_ref() == algorithm
                && each.verify_signature(key, &self.message, &self.signature).is_ok()
        });
        if is_signed { Ok(()) } else { Err(Error::InvalidCrlSignatureForPublicKey) }
    }
}

/// Lists of several issuers, made ready.
#[derive(Debug)]
pub(super) struct Lists {
    each: Vec<List>,
    uses_expired: bool,
}

/// How a certificate that is believed as it is stands by the lists.
#[derive(Debug)]
pub(super) struct Listed {
    /// Until when its issuer's list holds, in seconds since 1970, if there is one.
    due_s: Option<u64>,
    is_covered: bool,
}

impl Lists {
    /// Of several, each of another issuer. O(bytes).
    pub(super) fn compile(
        lists: &[CertificateRevocationListDer<'static>],
        uses_expired: bool,
    ) -> Result<Self, ContextError> {
        let mut each: Vec<List> = Vec::with_capacity(lists.len());
        for list in lists {
            let list = List::read(list)?;
            // Only one would be looked at, and a list does not tell by which key of its issuer it
            // counts.
            if each.iter().any(|other| other.issuer == list.issuer) {
                return Err(ContextError::TwoLists(list.told));
            }
            each.push(list);
        }
        Ok(Self { each, uses_expired })
    }

    fn of_issuer(&self, issuer: &SameName) -> Option<&List> {
        self.each.iter().find(|list| list.issuer == *issuer)
    }

    /// How a certificate stands whose issuer's key is not known; `None`: it is revoked.
    pub(super) fn look_up(&self, der: &CertificateDer<'_>, read: &Certificate) -> Option<Listed> {
        let issuer = SameName::of(&read.tbs_certificate.issuer);
        let Some(list) = self.of_issuer(&issuer) else {
            return Some(Listed { due_s: None, is_covered: true });
        };
        let is_covered = !matches!(list.scope(der, false), Err(_) | Ok(Scope::Unknown));
        let is_in = list.has(read.tbs_certificate.serial_number.as_bytes()).unwrap_or(true);
        (!is_in).then_some(Listed { due_s: list.next_update_s, is_covered })
    }

    /// Whether it comes in now.
    pub(super) fn admit(&self, listed: &Listed, now: UnixTime) -> Result<(), Error> {
        if !listed.is_covered {
            return Err(Error::UnknownRevocationStatus);
        }
        listed.due_s.map_or(Ok(()), |due_s| self.is_in_force(due_s, now))
    }

    fn is_in_force(&self, next_update_s: u64, now: UnixTime) -> Result<(), Error> {
        if self.uses_expired || now.as_secs() < next_update_s {
            return Ok(());
        }
        let next_update = UnixTime::since_unix_epoch(Duration::from_secs(next_update_s));
        Err(Error::CrlExpired { time: now, next_update })
    }

    /// Whether nobody in a chain that ends at an authority was revoked. O(chain · signatures), and
    /// nothing where there are no lists.
    pub(super) fn verify(
        &self,
        path: &VerifiedPath<'_>,
        now: UnixTime,
        known: &WebPkiSupportedAlgorithms,
    ) -> Result<(), Error> {
        if self.each.is_empty() {
            return Ok(());
        }
        let leaf: &Cert<'_> = path.end_entity();
        let signers: Vec<_> = path.intermediate_certificates().collect();
        for (place, of) in std::iter::once(leaf).chain(signers.iter().copied()).enumerate() {
            let signer = signers.get(place).copied();
            let spki = match signer {
                Some(signer) => signer.subject_public_key_info(),
                None => webpki::spki_for_anchor(path.anchor()),
            };
            let issuer = SameName::of_content(of.issuer()).map_err(|_| Error::BadDer)?;
            let Some(list) = self.of_issuer(&issuer) else { continue };
            match list.scope(&of.der(), place > 0)? {
                Scope::OtherKind => continue,
                Scope::Unknown => return Err(Error::UnknownRevocationStatus),
                Scope::Covered => list.signed.verify(&spki, known)?,
            }
            if let Some(next_update_s) = list.next_update_s {
                self.is_in_force(next_update_s, now)?;
            }
            if signer.is_some_and(|signer| !may_list(&signer.der())) {
                return Err(Error::IssuerNotCrlSigner);
            }
            if list.has(of.serial())? {
                return Err(Error::CertRevoked);
            }
        }
        Ok(())
    }
}

/// §4.2.1.3: one that says what its key is for says that it signs lists.
fn may_list(der: &[u8]) -> bool {
    let Ok(read) = Certificate::from_der(der) else { return false };
    let usage = read.tbs_certificate.get::<KeyUsage>();
    usage.is_ok_and(|usage| usage.is_none_or(|(_, usage)| usage.crl_sign()))
}
