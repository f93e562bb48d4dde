//! Authorities whose revocations are not looked up, though one of their name has a list.

use std::time::Duration;

use rustls::pki_types::{CertificateDer, UnixTime};
use x509_cert::Certificate;
use x509_cert::der::Decode;
use x509_cert::ext::pkix::SubjectKeyIdentifier;

use super::revocation::{Lists, lists_in};
use super::roots::{is_in_date, may_sign};
use super::signed::{Keys, key_of};
use super::{ContextError, certificates};

/// An authority of whose key there is no list, where there is one of its name: one that has a new
/// key, say, and gives a list of that alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unlisted {
    /// The how manieth certificate it is.
    pub place: usize,
    /// Its name and number.
    pub whose: String,
    /// No client that it signed comes in, for a list may be its own; else revoked ones do.
    pub is_shut_out: bool,
}

impl Unlisted {
    /// Those that sign at a time, in seconds since 1970, among the certificates of a text.
    /// O(bytes + certificates · lists).
    ///
    /// # Errors
    /// [`ContextError`]: one of the texts cannot be used.
    pub fn among(ca_pem: &[u8], crl_pem: &[u8], unix_s: u64) -> Result<Vec<Self>, ContextError> {
        let all = certificates::chain(ca_pem)?;
        let lists = Lists::compile(&lists_in(crl_pem)?, false, &Keys::of(all.iter()))?;
        let now = UnixTime::since_unix_epoch(Duration::from_secs(unix_s));
        let each = all.iter().enumerate();
        Ok(each.filter_map(|(place, der)| Self::of(place, der, &lists, now)).collect())
    }

    fn of(place: usize, der: &CertificateDer<'_>, lists: &Lists, now: UnixTime) -> Option<Self> {
        let read = Certificate::from_der(der).ok()?;
        if !may_sign(&read) || is_in_date(&read, now).is_err() {
            return None;
        }
        let (name, key) = key_of(&read)?;
        let own = read.tbs_certificate.get::<SubjectKeyIdentifier>().ok().flatten();
        let own = own.map(|(_, id)| id.0.as_bytes().to_vec());
        let is_shut_out = lists.lack(&name, &key, own.as_deref())?;
        let read = &read.tbs_certificate;
        let whose = format!("{} (serial {})", read.subject, read.serial_number);
        Some(Self { place, whose, is_shut_out })
    }
}
