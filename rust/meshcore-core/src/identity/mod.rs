//! Who a verified certificate says its holder is, and the rules that go by it.
//!
//! What a certificate says is read in [`tls`](crate::tls), where it is verified; who comes in
//! there, and what the layers let pass, is decided by the same [`Rules`].

mod index;
mod named;
mod rules;
pub mod spiffe;

use std::net::IpAddr;

pub use index::{Admitted, Index};
pub use rules::Rules;
pub use spiffe::is_domain;

/// The names of a certificate. Of one that was verified they are its holder's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// URI names, as they are.
    pub uris: Vec<String>,
    /// DNS names, in lower case; one that begins with `*.` stands for many.
    pub dns: Vec<String>,
    /// Addresses.
    pub ips: Vec<IpAddr>,
    /// Addresses of mail.
    pub emails: Vec<String>,
    /// The subject, as RFC 4514 writes it; may be empty.
    pub subject: String,
    /// SHA-256 of the certificate, in lower-case hex.
    pub fingerprint: String,
    /// The only URI is a SPIFFE ID, and the certificate what X.509-SVID wants.
    pub(crate) is_spiffe: bool,
}

impl Identity {
    /// The SPIFFE ID.
    #[must_use]
    pub fn spiffe(&self) -> Option<&str> {
        self.uris.first().filter(|_| self.is_spiffe).map(String::as_str)
    }

    /// The trust domain of the SPIFFE ID.
    #[must_use]
    pub fn domain(&self) -> Option<&str> {
        self.spiffe().map(|id| spiffe::split(id).0)
    }

    /// What the holder is called: its SPIFFE ID, else its first DNS name, else its subject, else
    /// what the certificate is. None of them can be taken for one of another kind.
    #[must_use]
    pub fn name(&self) -> String {
        let first = self.spiffe().or_else(|| self.dns.first().map(String::as_str));
        let first = first.or(Some(&*self.subject)).filter(|name| !name.is_empty());
        first.map_or_else(|| format!("sha256:{}", self.fingerprint), str::to_owned)
    }

    /// Its names as rules write them: `dns:a.example`, `uri:…`, `ip:…`, `email:…`, and a SPIFFE ID
    /// as it is.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let uri = |uri: &String| if self.is_spiffe { uri.clone() } else { format!("uri:{uri}") };
        let mut names: Vec<_> = self.uris.iter().map(uri).collect();
        names.extend(self.dns.iter().map(|name| format!("dns:{name}")));
        names.extend(self.ips.iter().map(|ip| format!("ip:{ip}")));
        names.extend(self.emails.iter().map(|name| format!("email:{name}")));
        names
    }
}
