//! What a certificate says of itself, for people.

use std::net::IpAddr;

use rustls::pki_types::CertificateDer;
use x509_cert::Certificate;
use x509_cert::der::Decode;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use super::{ContextError, certificates};

/// A certificate of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Whose it is: host names, addresses and URIs, in its order.
    pub names: Vec<String>,
    /// When it begins, in seconds since 1970.
    pub not_before_s: u64,
    /// When it ends: its last second.
    pub not_after_s: u64,
}

impl Facts {
    /// Of each certificate in a PEM text, in order. O(bytes).
    ///
    /// # Errors
    /// [`ContextError`]: the text is no PEM, or what is in it no certificate.
    pub fn read(pem: &[u8]) -> Result<Vec<Self>, ContextError> {
        certificates::chain(pem)?.iter().map(Self::of).collect()
    }

    fn of(der: &CertificateDer<'_>) -> Result<Self, ContextError> {
        let read = Certificate::from_der(der)
            .map_err(|why| ContextError::Unreadable(why.to_string()))?
            .tbs_certificate;
        let names = read.get::<SubjectAltName>().ok().flatten();
        Ok(Self {
            names: names.into_iter().flat_map(|(_, names)| names.0).filter_map(name).collect(),
            not_before_s: read.validity.not_before.to_unix_duration().as_secs(),
            not_after_s: read.validity.not_after.to_unix_duration().as_secs(),
        })
    }
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
