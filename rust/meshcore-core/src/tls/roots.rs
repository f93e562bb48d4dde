//! Those who may sign, and what they have taken back.
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
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};
use rustls::{CertificateError, DistinguishedName, Error};
use webpki::{
    CertRevocationList, EndEntityCert, ExpirationPolicy, OwnedCertRevocationList,
    RevocationCheckDepth, RevocationOptionsBuilder, UnknownStatusPolicy,
};
use x509_cert::crl::CertificateList;
use x509_cert::der::Decode;
use x509_cert::der::oid::ObjectIdentifier;
use x509_cert::der::oid::db::rfc5280::ANY_EXTENDED_KEY_USAGE;
use x509_cert::ext::pkix::{BasicConstraints, ExtendedKeyUsage, KeyUsage};

use super::{ContextError, certificates, failure};

/// So many certificates of one subject are looked at in a chain.
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
    /// behind its date nobody whom that issuer signed.
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

    /// Whether all of it can be used.
    ///
    /// # Errors
    /// [`ContextError::UnusableRoots`].
    pub fn check(&self) -> Result<(), ContextError> {
        let usable = |each| x509_cert::Certificate::from_der(each).map_err(unusable);
        self.certificates.iter().try_for_each(|each| {
            webpki::anchor_from_trusted_cert(each).map_err(unusable)?;
            usable(each).map(|_| ())
        })
    }

    /// All of it, in order.
    pub(super) fn parts(&self) -> impl Iterator<Item = &[u8]> {
        let certificates = self.certificates.iter().map(AsRef::as_ref);
        let policy: &[u8] = if self.uses_expired_lists { b"expired lists" } else { b"lists" };
        certificates.chain([policy]).chain(self.lists.iter().map(AsRef::as_ref))
    }

    /// Who may sign is decided at this time. O(certificates · lists).
    pub(super) fn compile(&self, now: UnixTime) -> Result<Verified, ContextError> {
        let mut lists = Vec::with_capacity(self.lists.len());
        let mut revoked = Vec::with_capacity(self.lists.len());
        for each in &self.lists {
            lists.push(OwnedCertRevocationList::from_der(each).map_err(unusable)?.into());
            revoked.push(CertificateList::from_der(each).map_err(unusable)?);
        }
        one_of_each_issuer(&revoked)?;
        let (mut store, mut given) = (RootCertStore::empty(), Vec::new());
        for each in &self.certificates {
            let read = x509_cert::Certificate::from_der(each).map_err(unusable)?;
            if is_listed(&read, &revoked) {
                continue;
            }
            if may_sign(&read) && is_in_date(&read, now).is_ok() {
                store.add(each.clone()).map_err(unusable)?;
            }
            given.push(Given { der: each.clone(), list_due: list_due(&read, &revoked) });
        }
        Ok(Verified { store, given, lists, uses_expired_lists: self.uses_expired_lists })
    }
}

/// What is wrong with revocation lists in PEM: they are none, or of a kind that is not taken.
///
/// # Errors
/// [`ContextError`].
pub fn check_lists(pem: &[u8]) -> Result<Vec<Option<u64>>, ContextError> {
    let lists = lists_in(pem)?;
    let read = |list| {
        OwnedCertRevocationList::from_der(list).map_err(unusable)?;
        CertificateList::from_der(list).map_err(unusable)
    };
    let lists = lists.iter().map(|list| read(list)).collect::<Result<Vec<_>, _>>()?;
    one_of_each_issuer(&lists)?;
    if lists.is_empty() { Err(ContextError::NoList) } else { Ok(lists.iter().map(due).collect()) }
}

fn lists_in(pem: &[u8]) -> Result<Vec<CertificateRevocationListDer<'static>>, ContextError> {
    let lists: Result<_, _> = CertificateRevocationListDer::pem_slice_iter(pem).collect();
    lists.map_err(|why| ContextError::Unreadable(why.to_string()))
}

/// Until when a list holds, in seconds since 1970.
fn due(list: &CertificateList) -> Option<u64> {
    list.tbs_cert_list.next_update.map(|end| end.to_unix_duration().as_secs())
}

/// Of several lists of one issuer webpki looks at the first alone, and what only another takes back
/// would come in. By name: a list does not tell by which key of its issuer it counts.
fn one_of_each_issuer(lists: &[CertificateList]) -> Result<(), ContextError> {
    let mut seen: Vec<String> = Vec::with_capacity(lists.len());
    for list in lists {
        let issuer = list.tbs_cert_list.issuer.to_string();
        if seen.contains(&issuer) {
            return Err(ContextError::TwoLists(issuer));
        }
        seen.push(issuer);
    }
    Ok(())
}

/// webpki does not look for those that are given in lists.
fn is_listed(read: &x509_cert::Certificate, lists: &[CertificateList]) -> bool {
    let read = &read.tbs_certificate;
    lists.iter().map(|list| &list.tbs_cert_list).any(|list| {
        let revoked = list.revoked_certificates.iter().flatten();
        list.issuer == read.issuer
            && revoked.into_iter().any(|each| each.serial_number == read.serial_number)
    })
}

fn list_due(read: &x509_cert::Certificate, lists: &[CertificateList]) -> Option<u64> {
    let is_its_issuers =
        |list: &&CertificateList| list.tbs_cert_list.issuer == read.tbs_certificate.issuer;
    lists.iter().find(is_its_issuers).and_then(due)
}

/// RFC 5280 §4.2.1.9, §4.2.1.3. One of version 1 says nothing of it, and may.
pub(super) fn may_sign(read: &x509_cert::Certificate) -> bool {
    let read = &read.tbs_certificate;
    let constraints = read.get::<BasicConstraints>().ok().flatten();
    let usage = read.get::<KeyUsage>().ok().flatten();
    let is_authority = match constraints {
        Some((_, constraints)) => constraints.ca,
        None => read.version == x509_cert::Version::V1,
    };
    is_authority && usage.is_none_or(|(_, usage)| usage.key_cert_sign())
}

fn is_in_date(read: &x509_cert::Certificate, now: UnixTime) -> Result<(), Error> {
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
    pub(super) webpki: webpki::KeyUsage,
    /// A name with `*` stands for many.
    pub(super) stands_for: bool,
}

/// A certificate that is believed as it is.
#[derive(Debug)]
struct Given {
    der: CertificateDer<'static>,
    /// Until when its issuer's revocation list holds, in seconds since 1970, if there is one.
    list_due: Option<u64>,
}

/// Roots that were made ready.
#[derive(Debug)]
pub(super) struct Verified {
    store: RootCertStore,
    given: Vec<Given>,
    lists: Vec<CertRevocationList<'static>>,
    uses_expired_lists: bool,
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
            if !self.uses_expired_lists && given.list_due.is_some_and(|due| now.as_secs() > due) {
                return Err(Error::InvalidCertificate(CertificateError::UnknownIssuer));
            }
            return may_be_used(leaf, usage.oid, now);
        }
        let read = EndEntityCert::try_from(leaf).map_err(failure::of_webpki)?;
        let rest = &few_of_each_name(rest);
        let lists: Vec<_> = self.lists.iter().collect();
        let revocation = RevocationOptionsBuilder::new(&lists).ok().map(|options| {
            let expired = if self.uses_expired_lists {
                ExpirationPolicy::Ignore
            } else {
                ExpirationPolicy::Enforce
            };
            options
                .with_depth(RevocationCheckDepth::Chain)
                .with_status_policy(UnknownStatusPolicy::Allow)
                .with_expiration_policy(expired)
                .build()
        });
        let (anchors, eku) = (&self.store.roots, usage.webpki);
        read.verify_for_usage(known.all, anchors, rest, now, eku, revocation, None)
            .map(|_| ())
            .map_err(failure::of_webpki)
    }
}

/// Of certificates of one subject the first two: as many as a change of an authority's key has.
///
/// webpki tries every order of them, and reads them again each time: a dozen of one name, which
/// anybody can make, took a second and a half. Now each step of a path has two ways, and a path six
/// steps.
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
fn may_be_used(
    leaf: &CertificateDer<'_>,
    as_what: ObjectIdentifier,
    now: UnixTime,
) -> Result<(), Error> {
    let unreadable = |_| Error::InvalidCertificate(CertificateError::BadEncoding);
    let read = x509_cert::Certificate::from_der(leaf).map_err(unreadable)?;
    is_in_date(&read, now)?;
    let usage = read.tbs_certificate.get::<ExtendedKeyUsage>().map_err(unreadable)?;
    let fits = |usage: &ObjectIdentifier| *usage == as_what || *usage == ANY_EXTENDED_KEY_USAGE;
    match usage {
        Some((_, usage)) if !usage.0.iter().any(fits) => {
            Err(Error::InvalidCertificate(CertificateError::InvalidPurpose))
        }
        _ => Ok(()),
    }
}
