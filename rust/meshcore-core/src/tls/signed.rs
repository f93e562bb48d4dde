//! What a key has signed, and whose key that was.

use std::cell::RefCell;
use std::collections::HashMap;

use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::CertificateDer;
use webpki::Error;
use x509_cert::der::asn1::{AnyRef, BitStringRef};
use x509_cert::der::{self, Decode, Encode, Reader, SliceReader};
use x509_cert::ext::pkix::SubjectKeyIdentifier;
use x509_cert::{Certificate, TbsCertificate};

use super::distinguished_name::SameName;

/// What of a certificate or of a list is signed, and how: both have one form (RFC 5280 §4.1, §5.1).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Signed {
    message: Vec<u8>,
    algorithm: Vec<u8>,
    signature: Vec<u8>,
}

impl Signed {
    pub(super) fn read(der: &[u8]) -> der::Result<Self> {
        let mut parts = SliceReader::new(AnyRef::from_der(der)?.value())?;
        let message = parts.tlv_bytes()?.to_vec();
        let algorithm = AnyRef::decode(&mut parts)?.value().to_vec();
        let signature = BitStringRef::decode(&mut parts)?.raw_bytes().to_vec();
        Ok(Self { message, algorithm, signature })
    }

    /// How it was signed: what an `AlgorithmIdentifier` holds (RFC 5280 §4.1.1.2).
    pub(super) fn algorithm(&self) -> &[u8] {
        &self.algorithm
    }

    /// Whether the holder of this key has signed it. O(bytes).
    pub(super) fn verify(
        &self,
        spki: &[u8],
        known: &WebPkiSupportedAlgorithms,
    ) -> Result<(), Error> {
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

/// Whether two keys may be one: of elliptic curves one is spelt in two ways (RFC 5480 §2.2), with
/// its second coordinate and without. It errs towards one alone: then a list counts that is another
/// key's, or an authority without a list of its own is not told of, and never does a revoked one pass.
pub(super) fn may_be_same_key(spki: &[u8], other: &[u8]) -> bool {
    spki == other || point(spki).zip(point(other)).is_some_and(|(one, other)| one == other)
}

/// The first coordinate of a key that is a point; of another key all of it.
fn point(spki: &[u8]) -> Option<Vec<u8>> {
    const PLAIN: u8 = 4;
    const PACKED: [u8; 2] = [2, 3];
    let mut parts = SliceReader::new(AnyRef::from_der(spki).ok()?.value()).ok()?;
    AnyRef::decode(&mut parts).ok()?;
    let key = BitStringRef::decode(&mut parts).ok()?.raw_bytes();
    let (form, rest) = key.split_first()?;
    let first = match *form {
        PLAIN => rest.get(..rest.len() / 2)?,
        form if PACKED.contains(&form) => rest,
        _ => key,
    };
    Some(first.to_vec())
}

/// One who may have signed lists.
struct Key {
    name: SameName,
    spki: Vec<u8>,
    /// What it calls its key (RFC 5280 §4.2.1.2).
    id: Option<Vec<u8>>,
}

/// The keys of those who may have signed lists, by their names.
pub(super) struct Keys {
    each: Vec<Key>,
    known: WebPkiSupportedAlgorithms,
    /// Whose each was that was asked for: lists of many domains stand in one file.
    found: RefCell<HashMap<Signed, Option<usize>>>,
}

impl Keys {
    /// Of certificates; what cannot be read is no key. O(certificates).
    pub(super) fn of<'a>(all: impl Iterator<Item = &'a CertificateDer<'static>>) -> Self {
        let read = all.filter_map(|each| Certificate::from_der(each).ok());
        let each = read.filter_map(|each| {
            let (name, spki) = key_of(&each)?;
            Some(Key { name, spki, id: own_key_id(&each.tbs_certificate) })
        });
        let known = super::provider::provider().signature_verification_algorithms;
        Self { each: each.collect(), known, found: RefCell::default() }
    }

    /// Which key of this name has signed it, if one of these has; that with the identifier that it
    /// tells is asked first. O(keys · bytes) for what is new.
    pub(super) fn signer(
        &self,
        name: &SameName,
        signed: &Signed,
        key_id: Option<&[u8]>,
    ) -> Option<&[u8]> {
        if let Some(found) = self.found.borrow().get(signed) {
            return found.map(|place| &self.each[place].spki[..]);
        }
        let mut of_name: Vec<usize> =
            (0..self.each.len()).filter(|&place| self.each[place].name == *name).collect();
        of_name.sort_by_key(|&place| key_id.is_none() || self.each[place].id.as_deref() != key_id);
        let is_its = |&place: &usize| signed.verify(&self.each[place].spki, &self.known).is_ok();
        let found = of_name.into_iter().find(is_its);
        self.found.borrow_mut().insert(signed.clone(), found);
        found.map(|place| &self.each[place].spki[..])
    }
}

/// What a certificate calls its own key, if it tells (RFC 5280 §4.2.1.2).
pub(super) fn own_key_id(read: &TbsCertificate) -> Option<Vec<u8>> {
    let own = read.get::<SubjectKeyIdentifier>().ok()??;
    Some(own.1.0.as_bytes().to_vec())
}

/// A certificate's name and key.
pub(super) fn key_of(read: &Certificate) -> Option<(SameName, Vec<u8>)> {
    let read = &read.tbs_certificate;
    Some((SameName::of(&read.subject), read.subject_public_key_info.to_der().ok()?))
}
