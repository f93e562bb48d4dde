//! What an authority says of a certificate: an OCSP response that is stapled to it (RFC 6960).
//!
//! Its signature is not looked at: its readers verify it, and we believe our own files.

use aws_lc_rs::digest::{self, Algorithm};
use rustls::pki_types::CertificateDer;
use x509_cert::Certificate;
use x509_cert::der::asn1::{AnyRef, GeneralizedTime};
use x509_cert::der::oid::ObjectIdentifier;
use x509_cert::der::{self, Decode, Encode, Reader, SliceReader, Tag, Tagged};
use x509_cert::name::Name;

use super::{ContextError, is_late};

/// `id-pkix-ocsp-basic` (RFC 6960 §4.2.1).
const BASIC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.48.1.1");
const SHA_1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.14.3.2.26");
const SHA_256: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.1");
const SHA_384: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.2");
const SHA_512: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.3");

/// What a response says of one certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Staple {
    /// How it stands: `good`, `revoked` or `unknown`.
    pub status: &'static str,
    /// When that was known, in seconds since 1970: it is not believed before.
    pub this_update_s: u64,
    /// Until when there is to be a newer response; `None`: it says nothing of that.
    pub next_update_s: Option<u64>,
}

impl Staple {
    /// Whether it is shown in this second: it has begun, and is not followed by another.
    pub(super) fn is_believed(&self, now_s: u64) -> bool {
        let is_followed = self.next_update_s.is_some_and(|due_s| is_late(due_s, now_s));
        self.this_update_s <= now_s && !is_followed
    }

    /// What a response in DER says of the first certificate of a chain. O(bytes).
    ///
    /// # Errors
    /// [`ContextError::BadStaple`]: it is no response. [`ContextError::OtherStaple`]: it says nothing
    /// of that certificate.
    pub(super) fn of(der: &[u8], chain: &[CertificateDer<'_>]) -> Result<Self, ContextError> {
        let leaf = chain.first().ok_or(ContextError::NoCertificate)?;
        let leaf = Certificate::from_der(leaf);
        let leaf = leaf.map_err(|why| ContextError::Unreadable(why.to_string()))?.tbs_certificate;
        let bad = |why: der::Error| ContextError::BadStaple(format!("no OCSP response: {why}"));
        let issuer = leaf.issuer.to_der().map_err(bad)?;
        let key = chain.get(1).and_then(|next| key_of(next, &leaf.issuer));
        if !is_successful(der).map_err(bad)? {
            return Err(ContextError::OtherStaple);
        }
        let mut entries = entries(der).map_err(bad)?;
        while !entries.is_finished() {
            let entry = Entry::read(&mut entries).map_err(bad)?;
            if entry.is_of(&issuer, key.as_deref(), leaf.serial_number.as_bytes()) {
                return Ok(entry.staple);
            }
        }
        Err(ContextError::OtherStaple)
    }
}

/// Whether it is an answer, and not that there is none now, such as `tryLater`, which clients write into
/// the file over the last one (RFC 6960 §2.3).
fn is_successful(der: &[u8]) -> der::Result<bool> {
    let mut response = inside(&mut SliceReader::new(der)?)?;
    let status = AnyRef::decode(&mut response)?;
    if status.tag() != Tag::Enumerated {
        return Err(status.tag().unexpected_error(Some(Tag::Enumerated)));
    }
    Ok(status.value() == [0])
}

/// The entries of a response that was given (§4.2.1: `SEQUENCE OF SingleResponse`).
fn entries(der: &[u8]) -> der::Result<SliceReader<'_>> {
    let mut response = inside(&mut SliceReader::new(der)?)?;
    AnyRef::decode(&mut response)?; // that was how it stands
    let mut bytes = inside(&mut inside(&mut response)?)?;
    let kind = ObjectIdentifier::decode(&mut bytes)?;
    if kind != BASIC {
        return Err(Tag::ObjectIdentifier.value_error());
    }
    let mut data = inside(&mut inside(&mut inside(&mut bytes)?)?)?;
    let first = AnyRef::decode(&mut data)?;
    if number(first.tag()) == Some(0) {
        AnyRef::decode(&mut data)?; // that was the version: this is who says it
    }
    GeneralizedTime::decode(&mut data)?;
    inside(&mut data)
}

/// The content of the next element.
fn inside<'a>(reader: &mut SliceReader<'a>) -> der::Result<SliceReader<'a>> {
    SliceReader::new(AnyRef::decode(reader)?.value())
}

fn number(tag: Tag) -> Option<u8> {
    match tag {
        Tag::ContextSpecific { number, .. } => Some(number.value()),
        _ => None,
    }
}

/// What a response says of one certificate, and of which (§4.1.1: `CertID`).
struct Entry<'a> {
    hash: ObjectIdentifier,
    issuer_hash: &'a [u8],
    key_hash: &'a [u8],
    serial: &'a [u8],
    staple: Staple,
}

impl<'a> Entry<'a> {
    fn read(entries: &mut SliceReader<'a>) -> der::Result<Self> {
        let mut entry = inside(entries)?;
        let mut id = inside(&mut entry)?;
        let hash = ObjectIdentifier::decode(&mut inside(&mut id)?)?;
        let issuer_hash = AnyRef::decode(&mut id)?.value();
        let key_hash = AnyRef::decode(&mut id)?.value();
        let serial = AnyRef::decode(&mut id)?.value();
        let status = match number(AnyRef::decode(&mut entry)?.tag()) {
            Some(0) => "good",
            Some(1) => "revoked",
            _ => "unknown",
        };
        let this_update_s = GeneralizedTime::decode(&mut entry)?.to_unix_duration().as_secs();
        let next = if entry.is_finished() { None } else { Some(AnyRef::decode(&mut entry)?) };
        let next = next.filter(|next| number(next.tag()) == Some(0));
        let next = next.map(|next| GeneralizedTime::from_der(next.value())).transpose()?;
        let next_update_s = next.map(|next| next.to_unix_duration().as_secs());
        Ok(Self {
            hash,
            issuer_hash,
            key_hash,
            serial,
            staple: Staple { status, this_update_s, next_update_s },
        })
    }

    /// `key`: of the issuer, where the chain tells it. What is hashed in a way of which nothing is
    /// known here is of none.
    fn is_of(&self, issuer: &[u8], key: Option<&[u8]>, serial: &[u8]) -> bool {
        let algorithm: &'static Algorithm = match self.hash {
            SHA_1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
            SHA_256 => &digest::SHA256,
            SHA_384 => &digest::SHA384,
            SHA_512 => &digest::SHA512,
            _ => return false,
        };
        let is_hash = |of: &[u8], hash: &[u8]| digest::digest(algorithm, of).as_ref() == hash;
        is_hash(issuer, self.issuer_hash)
            && key.is_none_or(|key| is_hash(key, self.key_hash))
            && plain(self.serial) == plain(serial)
    }
}

/// The key of a chain's next certificate, if it is the issuer's; as it is hashed (§4.1.1).
fn key_of(next: &CertificateDer<'_>, issuer: &Name) -> Option<Vec<u8>> {
    let next = Certificate::from_der(next).ok()?.tbs_certificate;
    let key = next.subject_public_key_info.subject_public_key;
    (next.subject == *issuer).then(|| key.raw_bytes().to_vec())
}

/// A number without the zeros before it.
fn plain(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    &number[zeros..]
}

#[cfg(test)]
mod tests {
    use super::Staple;

    #[test]
    fn a_response_is_shown_to_the_end_of_the_second_in_which_another_is_due() {
        let staple = Staple { status: "good", this_update_s: 10, next_update_s: Some(20) };
        let shown = |now_s| staple.is_believed(now_s);
        assert_eq!([9, 10, 20, 21].map(shown), [false, true, true, false]);
        assert!(Staple { next_update_s: None, ..staple }.is_believed(u64::MAX));
    }
}
