//! Whom to believe: chains by webpki, and certificates that were given as they are.
//!
//! A self-signed certificate that may sign others is no end entity to webpki, and what
//! `openssl req -x509` makes is one. Where such a certificate was itself given as `ca`, it is
//! believed by being the same bytes; its dates, name and usage, and the signature of the
//! handshake, are verified all the same.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
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
use x509_cert::ext::pkix::ExtendedKeyUsage;

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
        store(&self.certificates).map(|_| ())
    }

    /// All of it, in order.
    pub(super) fn parts(&self) -> impl Iterator<Item = &[u8]> {
        let certificates = self.certificates.iter().map(AsRef::as_ref);
        certificates.chain([&b"lists"[..]]).chain(self.lists.iter().map(AsRef::as_ref))
    }
}

fn store(certificates: &[CertificateDer<'static>]) -> Result<Arc<RootCertStore>, ContextError> {
    let mut store = RootCertStore::empty();
    for each in certificates {
        store.add(each.clone()).map_err(|why| ContextError::UnusableRoots(why.to_string()))?;
    }
    Ok(Arc::new(store))
}

fn unusable(why: impl ToString) -> ContextError {
    ContextError::UnusableRoots(why.to_string())
}

/// Verifies clients of a listener; `required`: none comes in without a certificate.
pub(super) fn clients(
    roots: &Roots,
    required: bool,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, ContextError> {
    let given = roots.certificates.clone();
    let chains = WebPkiClientVerifier::builder_with_provider(store(&given)?, Arc::clone(provider))
        .with_crls(roots.lists.clone())
        .allow_unknown_revocation_status();
    let chains = if required { chains } else { chains.allow_unauthenticated() };
    let chains = chains.build().map_err(unusable)?;
    Ok(Arc::new(Clients { chains, given }))
}

/// Verifies endpoints.
pub(super) fn servers(
    roots: &Roots,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, ContextError> {
    let given = roots.certificates.clone();
    let chains = WebPkiServerVerifier::builder_with_provider(store(&given)?, Arc::clone(provider))
        .with_crls(roots.lists.clone())
        .allow_unknown_revocation_status()
        .build()
        .map_err(unusable)?;
    Ok(Arc::new(Servers { chains, given }))
}

/// Believes whoever answers, but not that a handshake is somebody else's.
pub(super) fn anybody(provider: &Arc<CryptoProvider>) -> Arc<dyn ServerCertVerifier> {
    Arc::new(Anybody(Arc::clone(provider)))
}

#[derive(Debug)]
struct Clients {
    chains: Arc<dyn ClientCertVerifier>,
    given: Vec<CertificateDer<'static>>,
}

impl ClientCertVerifier for Clients {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chains.root_hint_subjects()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.chains.client_auth_mandatory()
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        match self.chains.verify_client_cert(leaf, rest, now) {
            Err(error) if is_given(leaf, &self.given, &error) => {
                may_be_used(leaf, ID_KP_CLIENT_AUTH)?;
                Ok(ClientCertVerified::assertion())
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chains.verify_tls12_signature(message, leaf, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chains.verify_tls13_signature(message, leaf, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chains.supported_verify_schemes()
    }
}

#[derive(Debug)]
struct Servers {
    chains: Arc<WebPkiServerVerifier>,
    given: Vec<CertificateDer<'static>>,
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
        match self.chains.verify_server_cert(leaf, rest, name, ocsp, now) {
            Err(error) if is_given(leaf, &self.given, &error) => {
                may_be_used(leaf, ID_KP_SERVER_AUTH)?;
                let parsed = rustls::server::ParsedCertificate::try_from(leaf)?;
                rustls::client::verify_server_name(&parsed, name)?;
                Ok(ServerCertVerified::assertion())
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chains.verify_tls12_signature(message, leaf, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chains.verify_tls13_signature(message, leaf, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chains.supported_verify_schemes()
    }
}

#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

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

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, leaf, signed, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, leaf, signed, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Whether the one thing against a certificate is that it may sign others, and it was given itself.
/// webpki looks at the dates before.
fn is_given(leaf: &CertificateDer<'_>, given: &[CertificateDer<'_>], error: &Error) -> bool {
    let Error::InvalidCertificate(CertificateError::Other(why)) = error else { return false };
    let signs = why.0.downcast_ref() == Some(&webpki::Error::CaUsedAsEndEntity);
    signs && given.iter().any(|each| each == leaf)
}

/// What webpki would look at behind that (RFC 5280 §4.2.1.12).
fn may_be_used(leaf: &CertificateDer<'_>, as_what: ObjectIdentifier) -> Result<(), Error> {
    let unreadable = |_| Error::InvalidCertificate(CertificateError::BadEncoding);
    let read = x509_cert::Certificate::from_der(leaf).map_err(unreadable)?;
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
    Client(Arc<dyn ClientCertVerifier>),
    Server(Arc<dyn ServerCertVerifier>, ServerName<'static>),
}

impl Again {
    pub(super) fn verify(
        &self,
        chain: Option<&[CertificateDer<'static>]>,
        now: UnixTime,
    ) -> Result<(), Failure> {
        let verified = match (self, chain.and_then(<[_]>::split_first)) {
            (Self::Client(rules), None) if !rules.client_auth_mandatory() => Ok(()),
            (_, None) => Err(Error::NoCertificatesPresented),
            (Self::Client(rules), Some((leaf, rest))) => {
                rules.verify_client_cert(leaf, rest, now).map(|_| ())
            }
            (Self::Server(rules, name), Some((leaf, rest))) => {
                rules.verify_server_cert(leaf, rest, name, &[], now).map(|_| ())
            }
        };
        verified.map_err(|error| Failure { alert: None, ..Failure::of(&error) })
    }
}
