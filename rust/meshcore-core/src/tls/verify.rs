//! Whom to believe: chains by webpki, and certificates that were given as they are.
//!
//! webpki looks neither at the dates of an authority nor at whether it is one, and an end entity that
//! may sign others, as `openssl req -x509` makes, is none to it. So only what may sign and is in date
//! is an authority here; and a certificate that was itself given is believed by being the same bytes,
//! if its dates, usage and name, and the signature of the handshake, are right.

use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientSessionStore, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore,
    SignatureScheme,
};
use x509_cert::der::Decode;
use x509_cert::der::oid::ObjectIdentifier;
use x509_cert::der::oid::db::rfc5280::{
    ANY_EXTENDED_KEY_USAGE, ID_KP_CLIENT_AUTH, ID_KP_SERVER_AUTH,
};
use x509_cert::ext::pkix::{BasicConstraints, ExtendedKeyUsage, KeyUsage};

use super::tickets::Refused;
use super::{ContextError, Failure, certificates};

/// Those who may sign, and what they have taken back.
#[derive(Clone, Debug, Default)]
pub struct Roots {
    certificates: Vec<CertificateDer<'static>>,
    lists: Vec<CertificateRevocationListDer<'static>>,
}

impl Roots {
    /// Of certificates of authorities, or of certificates that are believed as they are; and of
    /// revocation lists: where there is one for an issuer, what it lists does not come in.
    ///
    /// # Errors
    /// [`ContextError`]: a text is no PEM, or there is no certificate in it.
    pub fn from_pem(ca_pem: &[u8], crl_pem: &[u8]) -> Result<Self, ContextError> {
        let lists: Result<_, _> = CertificateRevocationListDer::pem_slice_iter(crl_pem).collect();
        let lists = lists.map_err(|why| ContextError::Unreadable(why.to_string()))?;
        Ok(Self { certificates: certificates::chain(ca_pem)?, lists })
    }

    /// Of what a system trusts: what of it cannot be used is left out.
    #[must_use]
    pub fn of(certificates: Vec<CertificateDer<'static>>) -> Self {
        let usable = |each: &CertificateDer<'_>| webpki::anchor_from_trusted_cert(each).is_ok();
        let certificates = certificates.into_iter().filter(usable).collect();
        Self { certificates, lists: Vec::new() }
    }

    /// Whether all of it can be used.
    ///
    /// # Errors
    /// [`ContextError::UnusableRoots`].
    pub fn check(&self) -> Result<(), ContextError> {
        let usable = |each| x509_cert::Certificate::from_der(each).map_err(unusable);
        self.certificates.iter().try_for_each(|each| {
            webpki::anchor_from_trusted_cert(each).map_err(unusable)?;
            usable(each).map(|_| ())
        })
    }

    /// All of it, in order.
    pub(super) fn parts(&self) -> impl Iterator<Item = &[u8]> {
        let certificates = self.certificates.iter().map(AsRef::as_ref);
        certificates.chain([&b"lists"[..]]).chain(self.lists.iter().map(AsRef::as_ref))
    }
}

/// Those that may sign, now.
fn store(
    certificates: &[CertificateDer<'static>],
    now: UnixTime,
) -> Result<Arc<RootCertStore>, ContextError> {
    let mut store = RootCertStore::empty();
    for each in certificates {
        let read = x509_cert::Certificate::from_der(each).map_err(unusable)?;
        if may_sign(&read) && is_in_date(&read, now).is_ok() {
            store.add(each.clone()).map_err(unusable)?;
        }
    }
    Ok(Arc::new(store))
}

/// RFC 5280 §4.2.1.9, §4.2.1.3. One of version 1 says nothing of it, and may.
fn may_sign(read: &x509_cert::Certificate) -> bool {
    let read = &read.tbs_certificate;
    let constraints = read.get::<BasicConstraints>().ok().flatten();
    let usage = read.get::<KeyUsage>().ok().flatten();
    let is_authority = match constraints {
        Some((_, constraints)) => constraints.ca,
        None => read.version == x509_cert::Version::V1,
    };
    is_authority && usage.is_none_or(|(_, usage)| usage.key_cert_sign())
}

fn is_in_date(read: &x509_cert::Certificate, now: UnixTime) -> Result<(), Error> {
    let valid = &read.tbs_certificate.validity;
    let now = Duration::from_secs(now.as_secs());
    if now < valid.not_before.to_unix_duration() {
        return Err(Error::InvalidCertificate(CertificateError::NotValidYet));
    }
    if now > valid.not_after.to_unix_duration() {
        return Err(Error::InvalidCertificate(CertificateError::Expired));
    }
    Ok(())
}

fn unusable(why: impl ToString) -> ContextError {
    ContextError::UnusableRoots(why.to_string())
}

/// Verifies clients of a listener; `required`: none comes in without a certificate. Who may sign is
/// decided at this time.
pub(super) fn clients(
    roots: &Roots,
    required: bool,
    provider: &Arc<CryptoProvider>,
    now: UnixTime,
) -> Result<Arc<dyn ClientCertVerifier>, ContextError> {
    let (given, store) = (roots.certificates.clone(), store(&roots.certificates, now)?);
    let chains = if store.is_empty() {
        None
    } else {
        let chains = WebPkiClientVerifier::builder_with_provider(store, Arc::clone(provider))
            .with_crls(roots.lists.clone())
            .allow_unknown_revocation_status();
        Some(chains.build().map_err(unusable)?)
    };
    Ok(Arc::new(Clients { chains, given, required, known: known(provider) }))
}

/// Verifies endpoints. Who may sign is decided at this time.
pub(super) fn servers(
    roots: &Roots,
    provider: &Arc<CryptoProvider>,
    now: UnixTime,
) -> Result<Arc<dyn ServerCertVerifier>, ContextError> {
    let (given, store) = (roots.certificates.clone(), store(&roots.certificates, now)?);
    let chains = if store.is_empty() {
        None
    } else {
        let chains = WebPkiServerVerifier::builder_with_provider(store, Arc::clone(provider))
            .with_crls(roots.lists.clone())
            .allow_unknown_revocation_status();
        Some(chains.build().map_err(unusable)?)
    };
    Ok(Arc::new(Servers { chains, given, known: known(provider) }))
}

/// Believes whoever answers, but not that a handshake is somebody else's.
pub(super) fn anybody(provider: &Arc<CryptoProvider>) -> Arc<dyn ServerCertVerifier> {
    Arc::new(Anybody(known(provider)))
}

/// What signatures of handshakes are verified with.
fn known(provider: &CryptoProvider) -> WebPkiSupportedAlgorithms {
    provider.signature_verification_algorithms
}

const NOBODY: Error = Error::InvalidCertificate(CertificateError::UnknownIssuer);

/// Both kinds of verifiers verify signatures alike.
macro_rules! signatures {
    ($algorithms:tt) => {
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            leaf: &CertificateDer<'_>,
            signed: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            rustls::crypto::verify_tls12_signature(message, leaf, signed, &self.$algorithms)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            leaf: &CertificateDer<'_>,
            signed: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            rustls::crypto::verify_tls13_signature(message, leaf, signed, &self.$algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.$algorithms.supported_schemes()
        }
    };
}

#[derive(Debug)]
struct Clients {
    chains: Option<Arc<dyn ClientCertVerifier>>,
    given: Vec<CertificateDer<'static>>,
    required: bool,
    known: WebPkiSupportedAlgorithms,
}

impl ClientCertVerifier for Clients {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chains.as_ref().map_or(&[], |chains| chains.root_hint_subjects())
    }

    fn client_auth_mandatory(&self) -> bool {
        self.required
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if self.given.iter().any(|each| each == leaf) {
            may_be_used(leaf, ID_KP_CLIENT_AUTH, now)?;
            return Ok(ClientCertVerified::assertion());
        }
        let chains = self.chains.as_ref().ok_or(NOBODY)?;
        chains.verify_client_cert(leaf, rest, now)
    }

    signatures!(known);
}

#[derive(Debug)]
struct Servers {
    chains: Option<Arc<WebPkiServerVerifier>>,
    given: Vec<CertificateDer<'static>>,
    known: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Servers {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.given.iter().any(|each| each == leaf) {
            may_be_used(leaf, ID_KP_SERVER_AUTH, now)?;
            let parsed = rustls::server::ParsedCertificate::try_from(leaf)?;
            rustls::client::verify_server_name(&parsed, name)?;
            return Ok(ServerCertVerified::assertion());
        }
        let chains = self.chains.as_ref().ok_or(NOBODY)?;
        chains.verify_server_cert(leaf, rest, name, ocsp, now)
    }

    signatures!(known);
}

#[derive(Debug)]
struct Anybody(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    signatures!(0);
}

/// What webpki looks at behind a chain (RFC 5280 §4.1.2.5, §4.2.1.12).
fn may_be_used(
    leaf: &CertificateDer<'_>,
    as_what: ObjectIdentifier,
    now: UnixTime,
) -> Result<(), Error> {
    let unreadable = |_| Error::InvalidCertificate(CertificateError::BadEncoding);
    let read = x509_cert::Certificate::from_der(leaf).map_err(unreadable)?;
    is_in_date(&read, now)?;
    let usage = read.tbs_certificate.get::<ExtendedKeyUsage>().map_err(unreadable)?;
    let fits = |usage: &ObjectIdentifier| *usage == as_what || *usage == ANY_EXTENDED_KEY_USAGE;
    match usage {
        Some((_, usage)) if !usage.0.iter().any(fits) => {
            Err(Error::InvalidCertificate(CertificateError::InvalidPurpose))
        }
        _ => Ok(()),
    }
}

/// Verifies a peer once more whose session was resumed: rustls does not.
#[derive(Clone, Debug)]
pub(super) enum Again {
    Client(Arc<dyn ClientCertVerifier>, Refused),
    Server {
        rules: Arc<dyn ServerCertVerifier>,
        name: ServerName<'static>,
        kept: Arc<dyn ClientSessionStore>,
    },
}

impl Again {
    /// Whether it passes as in a whole handshake. What does not is not resumed again: the next
    /// handshake is a whole one.
    pub(super) fn verify(
        &self,
        chain: Option<&[CertificateDer<'static>]>,
        now: UnixTime,
    ) -> Result<(), Failure> {
        let found = chain.and_then(<[_]>::split_first);
        let verified = match (self, found) {
            (Self::Client(rules, _), None) if !rules.client_auth_mandatory() => Ok(()),
            (_, None) => Err(Error::NoCertificatesPresented),
            (Self::Client(rules, _), Some((leaf, rest))) => {
                rules.verify_client_cert(leaf, rest, now).map(|_| ())
            }
            (Self::Server { rules, name, .. }, Some((leaf, rest))) => {
                rules.verify_server_cert(leaf, rest, name, &[], now).map(|_| ())
            }
        };
        verified.map_err(|error| {
            self.forget(found.map(|(leaf, _)| leaf));
            Failure { alert: None, ..Failure::of(&error, &[]) }
        })
    }

    fn forget(&self, leaf: Option<&CertificateDer<'static>>) {
        match self {
            Self::Client(_, refused) => leaf.into_iter().for_each(|leaf| refused.add(leaf)),
            Self::Server { name, kept, .. } => {
                kept.remove_tls12_session(name);
                while kept.take_tls13_ticket(name).is_some() {}
            }
        }
    }
}
