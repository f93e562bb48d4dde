//! What a key has signed, and whose key that was.

use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::CertificateDer;
use webpki::Error;
use x509_cert::Certificate;
use x509_cert::der::asn1::{AnyRef, BitStringRef};
use x509_cert::der::{self, Decode, Encode, Reader, SliceReader};

use super::distinguished_name::SameName;

/// What of a certificate or of a list is signed, and how: both have one form (RFC 5280 §4.1, §5.1).
#[derive(Clone, Debug, PartialEq, Eq)]
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

/// The keys of those who may have signed lists, by their names.
pub(super) struct Keys {
    each: Vec<(SameName, Vec<u8>)>,
    known: WebPkiSupportedAlgorithms,
}

impl Keys {
    /// Of certificates; what cannot be read is no key. O(certificates).
    pub(super) fn of<'a>(all: impl Iterator<Item = &'a CertificateDer<'static>>) -> Self {
        let read = all.filter_map(|each| Certificate::from_der(each).ok());
        let each = read.filter_map(|each| key_of(&each)).collect();
        Self { each, known: super::server::provider().signature_verification_algorithms }
    }

    /// Which key of this name has signed it, if one of these has. O(keys · bytes).
    pub(super) fn signer(&self, name: &SameName, signed: &Signed) -> Option<&[u8]> {
        let of_name = self.each.iter().filter(|(each, _)| each == name);
        let mut keys = of_name.map(|(_, key)| &key[..]);
        keys.find(|key| signed.verify(key, &self.known).is_ok())
    }
}

/// A certificate's name and key.
pub(super) fn key_of(read: &Certificate) -> Option<(SameName, Vec<u8>)> {
    let read = &read.tbs_certificate;
    Some((SameName::of(&read.subject), read.subject_public_key_info.to_der().ok()?))
}
