//! Those who may sign.
//!
//! webpki looks neither at the dates of an authority nor at whether it is one, and an end entity that
//! may sign others, as `openssl req -x509` makes, is none to it. So only what may sign and is in date
//! is an authority here; and a certificate that was itself given is believed by being the same bytes,
//! if its dates and usage are right.

use std::time::Duration;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use rustls::RootCertStore;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};
use rustls::{CertificateError, DistinguishedName, Error};
use webpki::{
    EndEntityCert, ExtendedKeyUsageValidator, KeyPurposeId, KeyPurposeIdIter,
    RequiredEkuNotFoundContext, VerifiedPath,
};
use x509_cert::der::Decode;
use x509_cert::der::oid::ObjectIdentifier;
use x509_cert::der::oid::db::rfc5280::ANY_EXTENDED_KEY_USAGE;
use x509_cert::ext::pkix::{BasicConstraints, ExtendedKeyUsage, KeyUsage};

use super::revocation::{Listed, Lists, lists_in};
use super::signed::Keys;
use super::{ContextError, certificates, failure, words};

/// How many certificates of one subject are looked at in a chain.
const SAME_NAME: usize = 2;

/// Those who may sign, and what they have taken back.
#[derive(Clone, Debug, Default)]
pub struct Roots {
    certificates: Vec<CertificateDer<'static>>,
    lists: Vec<CertificateRevocationListDer<'static>>,
    uses_expired_lists: bool,
}

impl Roots {
    /// Of certificates of authorities, or of certificates that are believed as they are; and of
    /// revocation lists: where there is one for an issuer, what it lists does not come in, and
    /// behind its date no client that the issuer signed.
    ///
    /// # Errors
    /// [`ContextError`]: a text is no PEM, or there is no certificate in it.
    pub fn from_pem(ca_pem: &[u8], crl_pem: &[u8]) -> Result<Self, ContextError> {
        let lists = lists_in(crl_pem)?;
        let certificates = certificates::chain(ca_pem)?;
        Ok(Self { certificates, lists, uses_expired_lists: false })
    }

    /// Lists are used behind their date as before it.
    #[must_use]
    pub fn using_expired_lists(self) -> Self {
        Self { uses_expired_lists: true, ..self }
    }

    /// Of what a system trusts: what of it cannot be used is left out.
    #[must_use]
    pub fn of(certificates: Vec<CertificateDer<'static>>) -> Self {
        let usable = |each: &CertificateDer<'_>| webpki::anchor_from_trusted_cert(each).is_ok();
        let certificates = certificates.into_iter().filter(usable).collect();
        Self { certificates, ..Self::default() }
    }

    /// The same with the lists of a text.
    ///
    /// # Errors
    /// As [`from_pem`](Self::from_pem).
    pub fn with_lists(self, crl_pem: &[u8]) -> Result<Self, ContextError> {
        Ok(Self { lists: lists_in(crl_pem)?, ..self })
    }

    /// How many certificates there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.certificates.len()
    }

    /// Whether there is none: no certificate is believed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.certificates.is_empty()
    }

    /// Whether all of it can be used.
    ///
    /// # Errors
    /// [`ContextError::UnusableRoots`].
    pub fn check(&self) -> Result<(), ContextError> {
        let usable = |each| x509_cert::Certificate::from_der(each).map_err(unusable);
        self.certificates.iter().try_for_each(|each| {
            webpki::anchor_from_trusted_cert(each)
                .map_err(|why| ContextError::UnusableRoots(words::of_webpki(&why)))?;
            usable(each).map(|_| ())
        })
    }

    /// All of it, in order.
    pub(super) fn parts(&self) -> impl Iterator<Item = &[u8]> {
        let certificates = self.certificates.iter().map(AsRef::as_ref);
        let policy: &[u8] = if self.uses_expired_lists { b"expired lists" } else { b"lists" };
        certificates.chain([policy]).chain(self.lists.iter().map(AsRef::as_ref))
    }

    /// All who may have signed its lists.
    pub(super) fn certificates(&self) -> impl Iterator<Item = &CertificateDer<'static>> {
        self.certificates.iter()
    }

    /// Who may sign is decided at this time; `keys`: who may have signed lists.
    /// O(certificates · lists).
    pub(super) fn compile(&self, now: UnixTime, keys: &Keys) -> Result<Verified, ContextError> {
        let lists = Lists::compile(&self.lists, self.uses_expired_lists, keys)?;
        let (mut store, mut given) = (RootCertStore::empty(), Vec::new());
        for each in &self.certificates {
            let read = x509_cert::Certificate::from_der(each).map_err(unusable)?;
            let Some(listed) = lists.look_up(each, &read, keys) else { continue };
            if may_sign(&read) && is_in_date(&read, now).is_ok() {
                store.add(each.clone()).map_err(unusable)?;
            }
            given.push(Given { der: each.clone(), listed });
        }
        Ok(Verified { store, given, lists })
    }
}

/// RFC 5280 §4.2.1.9, §4.2.1.3. One of version 1 says nothing of it, and may.
pub(super) fn may_sign(read: &x509_cert::Certificate) -> bool {
    let read = &read.tbs_certificate;
    let usage = read.get::<KeyUsage>().ok().flatten();
    is_authority(read) && usage.is_none_or(|(_, usage)| usage.key_cert_sign())
}

/// RFC 5280 §4.2.1.9. One of version 1 does not say, and may be.
pub(super) fn is_authority(read: &x509_cert::TbsCertificate) -> bool {
    match read.get::<BasicConstraints>().ok().flatten() {
        Some((_, constraints)) => constraints.ca,
        None => read.version == x509_cert::Version::V1,
    }
}

pub(super) fn is_in_date(read: &x509_cert::Certificate, now: UnixTime) -> Result<(), Error> {
    let valid = &read.tbs_certificate.validity;
    let now = Duration::from_secs(now.as_secs());
    if now < valid.not_before.to_unix_duration() {
        return Err(Error::InvalidCertificate(CertificateError::NotValidYet));
    }
    if now > valid.not_after.to_unix_duration() {
        return Err(Error::InvalidCertificate(CertificateError::Expired));
    }
    Ok(())
}

fn unusable(why: impl ToString) -> ContextError {
    ContextError::UnusableRoots(why.to_string())
}

/// What a certificate is used as (RFC 5280 §4.2.1.12).
pub(super) struct Usage {
    pub(super) oid: ObjectIdentifier,
    /// For the message about one that is of another use.
    pub(super) webpki: webpki::KeyUsage,
    /// A name with `*` stands for many.
    pub(super) stands_for: bool,
}

impl Usage {
    /// Whether this is it, or any.
    fn is(&self, oid: &ObjectIdentifier) -> bool {
        *oid == self.oid || *oid == ANY_EXTENDED_KEY_USAGE
    }
}

/// Of a whole chain, an authority's too: what says nothing is for anything.
impl ExtendedKeyUsageValidator for Usage {
    fn validate(&self, named: KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        let mut present = Vec::new();
        for each in named {
            let each = each?;
            let is = |oid: &ObjectIdentifier| each == KeyPurposeId::new(oid.as_bytes());
            if is(&self.oid) || is(&ANY_EXTENDED_KEY_USAGE) {
                return Ok(());
            }
            present.push(each.to_decoded_oid());
        }
        if present.is_empty() {
            return Ok(());
        }
        let required = self.webpki;
        Err(webpki::Error::RequiredEkuNotFoundContext(RequiredEkuNotFoundContext {
            required,
            present,
        }))
    }
}

/// A certificate that is believed as it is.
#[derive(Debug)]
struct Given {
    der: CertificateDer<'static>,
    listed: Listed,
}

/// Roots that were made ready.
#[derive(Debug)]
pub(super) struct Verified {
    store: RootCertStore,
    given: Vec<Given>,
    lists: Lists,
}

impl Verified {
    /// Who may sign, for clients that choose their certificate by it; empty for any where one that
    /// is believed as it is may have been signed by others.
    pub(super) fn hints(&self) -> Option<Vec<DistinguishedName>> {
        (self.given.len() == self.store.len()).then(|| self.store.subjects())
    }

    /// Whether a chain ends here. O(chain).
    pub(super) fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        usage: &Usage,
        now: UnixTime,
        known: &WebPkiSupportedAlgorithms,
    ) -> Result<(), Error> {
        if let Some(given) = self.given.iter().find(|each| each.der == *leaf) {
            self.lists.admit(&given.listed, now).map_err(failure::of_webpki)?;
            return may_be_used(leaf, usage, now);
        }
        let read = EndEntityCert::try_from(leaf).map_err(failure::of_webpki)?;
        let rest = &few_of_each_name(rest);
        let is_unrevoked = |path: &VerifiedPath<'_>| self.lists.verify(path, now, known);
        let anchors = &self.store.roots;
        read.verify_for_usage(known.all, anchors, rest, now, usage, None, Some(&is_unrevoked))
            .map(|_| ())
            .map_err(failure::of_webpki)
    }
}

/// Of certificates of one subject the first two: as many as a change of an authority's key has.
///
/// webpki tries every order of them, and reads them again each time: a dozen of one name, which
/// any client can make, took a second and a half. Now each step of a path has two ways, and a path
/// six steps.
fn few_of_each_name<'a>(rest: &[CertificateDer<'a>]) -> Vec<CertificateDer<'a>> {
    let mut seen: HashMap<Vec<u8>, usize, RandomState> = HashMap::default();
    let is_one_of_few = |each: &&CertificateDer<'_>| {
        let Ok(read) = EndEntityCert::try_from(*each) else { return false };
        let of_name = seen.entry(read.subject().to_vec()).or_default();
        *of_name += 1;
        *of_name <= SAME_NAME
    };
    rest.iter().filter(is_one_of_few).cloned().collect()
}

/// What webpki looks at behind a chain (RFC 5280 §4.1.2.5, §4.2.1.12).
fn may_be_used(leaf: &CertificateDer<'_>, as_what: &Usage, now: UnixTime) -> Result<(), Error> {
    let unreadable = |_| Error::InvalidCertificate(CertificateError::BadEncoding);
    let read = x509_cert::Certificate::from_der(leaf).map_err(unreadable)?;
    is_in_date(&read, now)?;
    let usage = read.tbs_certificate.get::<ExtendedKeyUsage>().map_err(unreadable)?;
    match usage {
        Some((_, usage)) if !usage.0.iter().any(|oid| as_what.is(oid)) => {
            Err(Error::InvalidCertificate(CertificateError::InvalidPurpose))
        }
        _ => Ok(()),
    }
}
