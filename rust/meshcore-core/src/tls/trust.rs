//! Whom a listener or an upstream believes, and of them whom it lets in.

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::{CertificateError, DistinguishedName, Error};

use super::roots::{Usage, Verified};
use super::signed::Keys;
use super::{ContextError, Identity, Roots, Rules, failure};

/// Roots, by trust domain where there are some, and the names that come in.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    /// For certificates without a SPIFFE ID; where there are no `domains`, for every certificate.
    pub roots: Option<Roots>,
    /// For the SPIFFE IDs of each trust domain: no other roots vouch for them, nor these for
    /// others. One of another domain does not come in.
    pub domains: Vec<(String, Roots)>,
    /// Names of which a certificate must have one.
    pub rules: Rules,
}

impl From<Roots> for Trust {
    fn from(roots: Roots) -> Self {
        Self { roots: Some(roots), ..Self::default() }
    }
}

impl Trust {
    /// All of it, in order.
    pub(super) fn parts(&self) -> Vec<&[u8]> {
        let mut parts: Vec<&[u8]> = Vec::new();
        for (name, roots) in self.sets() {
            parts.extend([&b"roots"[..], name.as_bytes()]);
            parts.extend(roots.parts());
        }
        parts.push(b"rules");
        parts.extend(self.rules.texts().iter().map(|text| text.as_bytes()));
        parts
    }

    /// Those for no domain have no name.
    fn sets(&self) -> impl Iterator<Item = (&str, &Roots)> {
        let own = self.roots.iter().map(|roots| ("", roots));
        own.chain(self.domains.iter().map(|(name, roots)| (&**name, roots)))
    }

    /// Who may sign is decided at this time.
    pub(super) fn compile(&self, now: UnixTime) -> Result<Verifier, ContextError> {
        // A list may be of another domain's.
        let keys = Keys::of(self.sets().flat_map(|(_, roots)| roots.certificates()));
        let domains = self
            .domains
            .iter()
            .map(|(name, roots)| Ok::<_, ContextError>((name.clone(), roots.compile(now, &keys)?)));
        Ok(Verifier {
            roots: self.roots.as_ref().map(|roots| roots.compile(now, &keys)).transpose()?,
            domains: domains.collect::<Result<_, _>>()?,
            rules: self.rules.clone(),
        })
    }
}

/// A [`Trust`] that was made ready.
#[derive(Debug)]
pub(super) struct Verifier {
    roots: Option<Verified>,
    domains: HashMap<String, Verified, RandomState>,
    rules: Rules,
}

impl Verifier {
    /// Who may sign; none for any.
    pub(super) fn hints(&self) -> Vec<DistinguishedName> {
        let each = self.roots.iter().chain(self.domains.values()).map(Verified::hints);
        each.collect::<Option<Vec<_>>>().unwrap_or_default().concat()
    }

    /// Whether rules say whose a certificate must be, so that it need not be the host's.
    pub(super) const fn goes_by_names(&self) -> bool {
        !self.rules.is_empty()
    }

    /// Whether nothing is looked at but who signed.
    pub(super) fn is_plain(&self) -> bool {
        self.rules.is_empty() && self.domains.is_empty()
    }

    /// Whether a chain is right, whatever names it has.
    pub(super) fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        usage: &Usage,
        now: UnixTime,
        known: &WebPkiSupportedAlgorithms,
    ) -> Result<(), Error> {
        let roots = self.roots.as_ref().ok_or(UNKNOWN)?;
        roots.verify(leaf, rest, usage, now, known)
    }

    /// Whether a chain is right, and its holder one of those who come in. O(chain + names · rules).
    pub(super) fn admit(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        usage: &Usage,
        now: UnixTime,
        known: &WebPkiSupportedAlgorithms,
    ) -> Result<(), Error> {
        let read = if usage.stands_for { Identity::of } else { Identity::of_client };
        let identity = read(leaf).map_err(|why| {
            let words = format!("the certificate cannot be used: {why}");
            failure::with_words(CertificateError::BadEncoding, words)
        })?;
        let domain = identity.domain().filter(|_| !self.domains.is_empty());
        let roots = match domain {
            None => self.roots.as_ref(),
            Some(domain) => self.domains.get(domain),
        };
        let Some(roots) = roots else { return Err(self.unknown_domain(&identity)) };
        roots.verify(leaf, rest, usage, now, known)?;
        if self.rules.admit(&identity, usage.stands_for) {
            return Ok(());
        }
        let (presented, wanted) = (listed(&identity.names()), listed(self.rules.texts()));
        let words = format!("the certificate is of {presented}, and wanted is {wanted}");
        Err(failure::with_words(CertificateError::ApplicationVerificationFailure, words))
    }

    /// Of a domain whose roots are not known.
    fn unknown_domain(&self, identity: &Identity) -> Error {
        let mut known: Vec<_> = self.domains.keys().cloned().collect();
        known.sort_unstable();
        let presented = identity.spiffe().unwrap_or("no SPIFFE ID");
        let presented = listed(&[presented.to_owned()]);
        let words = format!("the certificate has {presented}, and known is {}", listed(&known));
        failure::with_words(CertificateError::UnknownIssuer, words)
    }
}

const UNKNOWN: Error = Error::InvalidCertificate(CertificateError::UnknownIssuer);

/// How many names a line shows, and how much of each.
const MOST_NAMES: usize = 3;
const MOST_NAME_BYTES: usize = 100;

/// The first of some names, in ASCII.
fn listed(names: &[String]) -> String {
    let shown = names.iter().take(MOST_NAMES).map(|name| match name.get(..MOST_NAME_BYTES) {
        Some(begin) if name.len() > MOST_NAME_BYTES => format!("{begin}…"),
        _ => name.clone(),
    });
    let more = names.len().saturating_sub(MOST_NAMES);
    let shown = shown.collect::<Vec<_>>().join(", ");
    match (names.len(), more) {
        (0, _) => "nobody by name".to_owned(),
        (_, 0) => shown,
        _ => format!("{shown} and {more} more"),
    }
}
