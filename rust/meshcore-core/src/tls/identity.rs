//! Who a verified certificate says its holder is.

use rustls::pki_types::CertificateDer;
use webpki::EndEntityCert;

/// The names of a certificate that was verified.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// URI names; a SPIFFE certificate has exactly one (SPIFFE X.509-SVID §2).
    pub uris: Vec<String>,
    /// DNS names.
    pub dns: Vec<String>,
}

impl Identity {
    /// Of a certificate; nothing of one that cannot be read.
    #[must_use]
    pub fn of(certificate: &CertificateDer<'_>) -> Self {
        let Ok(read) = EndEntityCert::try_from(certificate) else { return Self::default() };
        Self {
            uris: read.valid_uri_names().map(str::to_owned).collect(),
            dns: read.valid_dns_names().map(str::to_owned).collect(),
        }
    }
}
