//! Authorities whose revocations are not looked up, though one of their name has a list.

use rustls::pki_types::CertificateDer;
use x509_cert::Certificate;
use x509_cert::der::Decode;

use super::revocation::{ListFacts, Lists, lists_in};
use super::roots::may_sign;
use super::signed::{Keys, key_of, own_key_id};
use super::{ContextError, certificates};

/// An authority that has no list in force: there is none of its key, where there is one of its name
/// (it has a new key, say, and gives a list of that alone), or its list has run out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unlisted {
    /// The how manieth certificate it is.
    pub place: usize,
    /// Its name and number.
    pub whose: String,
    /// No client that it signed comes in, for a list may be its own, or what its list says is too
    /// old; else revoked ones do.
    pub is_shut_out: bool,
    /// A list says that it is of its key, which has not signed it.
    pub is_forged: bool,
    /// The first second in which this is so, since 1970: before, it did not sign, or its list held.
    pub since_s: u64,
    /// The last second in which it is: behind that it does not sign.
    pub until_s: u64,
    /// When its list runs out; `None`: it has none.
    pub list_ends_s: Option<u64>,
}

/// What is known of revocation lists and of those who give them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// Each list, in order.
    pub lists: Vec<ListFacts>,
    /// The authorities that have none in force now, or had none or will have none, as long as they
    /// are given the same lists.
    pub unlisted: Vec<Unlisted>,
}

impl Listing {
    /// Of the lists of one text and the authorities of another, if there is any: each list is made
    /// ready once. O(bytes + certificates · lists).
    ///
    /// # Errors
    /// [`ContextError`]: the lists cannot be used.
    pub fn read(crl_pem: &[u8], ca_pem: &[u8]) -> Result<Self, ContextError> {
        let all = certificates::chain(ca_pem).unwrap_or_default();
        let lists = Lists::compile(&lists_in(crl_pem)?, false, &Keys::of(all.iter()))?;
        let each = all.iter().enumerate();
        let unlisted = each.filter_map(|(place, der)| Unlisted::of(place, der, &lists)).collect();
        Ok(Self { lists: lists.facts(), unlisted })
    }
}

impl Unlisted {
    fn of(place: usize, der: &CertificateDer<'_>, lists: &Lists) -> Option<Self> {
        let read = Certificate::from_der(der).ok()?;
        if !may_sign(&read) {
            return None;
        }
        let (name, key) = key_of(&read)?;
        let own = own_key_id(&read.tbs_certificate);
        let lack = lists.lack(&name, &key, own.as_deref());
        let is_forged = lack.is_some() && lists.has_forged(&name, own.as_deref());
        let list_ends_s = if lack.is_none() { Some(lists.end_s(&name, &key)?) } else { None };
        let read = &read.tbs_certificate;
        let valid = &read.validity;
        let begins_s = valid.not_before.to_unix_duration().as_secs();
        let until_s = valid.not_after.to_unix_duration().as_secs();
        let since_s = begins_s.max(list_ends_s.map_or(0, |end_s| end_s.saturating_add(1)));
        let whose = format!("{} (serial {})", read.subject, read.serial_number);
        let is_shut_out = lack.unwrap_or(true);
        let found = Self { place, whose, is_shut_out, is_forged, since_s, until_s, list_ends_s };
        (since_s <= until_s).then_some(found)
    }
}
