//! Reads who a certificate says its holder is.

use std::fmt::Write as _;
use std::net::IpAddr;

use aws_lc_rs::digest::{SHA256, digest};
use rustls::pki_types::{CertificateDer, DnsName};
use x509_cert::Certificate;
use x509_cert::der::Decode;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{BasicConstraints, KeyUsage, SubjectAltName};

use crate::identity::{Identity, spiffe};
use crate::unseen::is_unseen;

/// Of a client's certificate: public authorities give a hundred, and each is looked up for each rule,
/// request by request.
const MOST_NAMES: usize = 256;

impl Identity {
    /// Of a certificate. Names that are none by their kind's rules are left out: no endpoint may be
    /// told of them, nor of what is not seen: of that the subject has the bytes.
    ///
    /// # Errors
    /// What is wrong with a certificate that is no X.509, or that claims a SPIFFE ID and may not
    /// have one.
    pub fn of(certificate: &CertificateDer<'_>) -> Result<Self, &'static str> {
        Self::of_at_most(certificate, usize::MAX)
    }

    /// The same of a client's, which chose its names.
    pub(super) fn of_client(certificate: &CertificateDer<'_>) -> Result<Self, &'static str> {
        Self::of_at_most(certificate, MOST_NAMES)
    }

    fn of_at_most(certificate: &CertificateDer<'_>, most: usize) -> Result<Self, &'static str> {
        let read = Certificate::from_der(certificate).map_err(|_| "it is not readable")?;
        let read = &read.tbs_certificate;
        let names = read.get::<SubjectAltName>().map_err(|_| "its names are not readable")?;
        let mut found = Self { subject: visible(&read.subject.to_string()), ..Self::default() };
        let (mut uris, mut is_claimed) = (0, false);
        if names.as_ref().is_some_and(|(_, names)| names.0.len() > most) {
            return Err("it has more than 256 names");
        }
        for name in names.into_iter().flat_map(|(_, names)| names.0) {
            match name {
                GeneralName::UniformResourceIdentifier(uri) => {
                    uris += 1;
                    is_claimed |= spiffe::is_claimed(uri.as_str());
                    found.uris.extend(graphic(uri.as_str()));
                }
                GeneralName::DnsName(name) => found.dns.extend(dns(name.as_str())),
                GeneralName::Rfc822Name(name) => found.emails.extend(graphic(name.as_str())),
                GeneralName::IpAddress(bytes) => found.ips.extend(ip(bytes.as_bytes())),
                _ => {}
            }
        }
        if is_claimed {
            if uris > 1 {
                return Err("it has a SPIFFE ID and another URI (X.509-SVID §2)");
            }
            spiffe::check(found.uris.first().map_or("", String::as_str))?;
            may_be_svid(read)?;
            found.is_spiffe = true;
        }
        found.fingerprint = hex(digest(&SHA256, certificate).as_ref());
        Ok(found)
    }
}

/// X.509-SVID §4.1, §4.3.
fn may_be_svid(read: &x509_cert::TbsCertificate) -> Result<(), &'static str> {
    let unreadable = |_| "its extensions are not readable";
    let constraints = read.get::<BasicConstraints>().map_err(unreadable)?;
    let usage = read.get::<KeyUsage>().map_err(unreadable)?;
    if constraints.is_some_and(|(_, constraints)| constraints.ca) {
        return Err("it has a SPIFFE ID and is an authority's (X.509-SVID §4.1)");
    }
    if usage.is_some_and(|(_, usage)| usage.key_cert_sign() || usage.crl_sign()) {
        return Err("it has a SPIFFE ID and may sign certificates or lists (X.509-SVID §4.3)");
    }
    Ok(())
}

fn graphic(text: &str) -> Option<String> {
    let is_one = !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic());
    is_one.then(|| text.to_owned())
}

fn dns(text: &str) -> Option<String> {
    let bare = text.strip_prefix("*.").unwrap_or(text);
    DnsName::try_from(bare).ok()?;
    Some(text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase())
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    let four = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    four.or_else(|_| <[u8; 16]>::try_from(bytes).map(|all| IpAddr::from(all).to_canonical())).ok()
}

/// What lines and terminals read as something else is written as RFC 4514 §2.4 writes bytes: left
/// out, two names would be one.
pub(super) fn visible(text: &str) -> String {
    let mut all = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() || is_unseen(c) {
            for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                let _ = write!(all, "\\{byte:02X}");
            }
        } else {
            all.push(c);
        }
    }
    all
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut all, byte| {
        let _ = write!(all, "{byte:02x}");
        all
    })
}
