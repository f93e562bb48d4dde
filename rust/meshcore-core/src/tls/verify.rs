//! Whom to believe, as rustls asks: in whole handshakes, and once more in resumed ones.

use std::sync::Arc;

use rustls::client::ClientSessionStore;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use x509_cert::der::oid::db::rfc5280::{ID_KP_CLIENT_AUTH, ID_KP_SERVER_AUTH};

use super::roots::Usage;
use super::tickets::Refused;
use super::trust::{Trust, Verifier};
use super::{ContextError, Failure, failure};

const CLIENT: Usage =
    Usage { oid: ID_KP_CLIENT_AUTH, webpki: webpki::KeyUsage::client_auth(), stands_for: false };
const SERVER: Usage =
    Usage { oid: ID_KP_SERVER_AUTH, webpki: webpki::KeyUsage::server_auth(), stands_for: true };

/// Verifies clients of a listener; `required`: none comes in without a certificate. Who may sign is
/// decided at this time.
pub(super) fn clients(
    trust: &Trust,
    required: bool,
    provider: &CryptoProvider,
    now: UnixTime,
) -> Result<Arc<dyn ClientCertVerifier>, ContextError> {
    let verifier = trust.compile(now)?;
    let hints = verifier.hints();
    Ok(Arc::new(Clients { verifier, hints, required, known: known(provider) }))
}

/// Verifies endpoints. Who may sign is decided at this time.
pub(super) fn servers(
    trust: &Trust,
    provider: &CryptoProvider,
    now: UnixTime,
) -> Result<Arc<dyn ServerCertVerifier>, ContextError> {
    Ok(Arc::new(Servers { verifier: trust.compile(now)?, known: known(provider) }))
}

/// Believes any server, but not that a handshake is another's.
pub(super) fn anybody(provider: &CryptoProvider) -> Arc<dyn ServerCertVerifier> {
    Arc::new(Anybody(known(provider)))
}

/// What signatures of handshakes are verified with.
fn known(provider: &CryptoProvider) -> WebPkiSupportedAlgorithms {
    provider.signature_verification_algorithms
}

/// All kinds of verifiers verify signatures alike.
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
    verifier: Verifier,
    hints: Vec<DistinguishedName>,
    required: bool,
    known: WebPkiSupportedAlgorithms,
}

impl ClientCertVerifier for Clients {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
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
        let admitted =
            failure::verifying(leaf, || self.verifier.admit(leaf, rest, &CLIENT, now, &self.known));
        admitted.map(|()| ClientCertVerified::assertion())
    }

    signatures!(known);
}

#[derive(Debug)]
struct Servers {
    verifier: Verifier,
    known: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Servers {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        failure::verifying(leaf, || {
            if self.verifier.is_plain() {
                self.verifier.verify(leaf, rest, &SERVER, now, &self.known)?;
            } else {
                self.verifier.admit(leaf, rest, &SERVER, now, &self.known)?;
            }
            if !self.verifier.goes_by_names() {
                let parsed = rustls::server::ParsedCertificate::try_from(leaf)?;
                rustls::client::verify_server_name(&parsed, name)?;
            }
            Ok(ServerCertVerified::assertion())
        })
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

/// Verifies a peer once more whose session was resumed: rustls does not.
#[derive(Clone, Debug)]
pub(super) enum Again {
    Client {
        rules: Arc<dyn ClientCertVerifier>,
        refused: Refused,
        /// The URI that our own certificates name.
        own: Option<Arc<str>>,
    },
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
            (Self::Client { rules, .. }, None) if !rules.client_auth_mandatory() => Ok(()),
            (_, None) => Err(Error::NoCertificatesPresented),
            (Self::Client { rules, .. }, Some((leaf, rest))) => {
                rules.verify_client_cert(leaf, rest, now).map(|_| ())
            }
            (Self::Server { rules, name, .. }, Some((leaf, rest))) => {
                rules.verify_server_cert(leaf, rest, name, &[], now).map(|_| ())
            }
        };
        verified.map_err(|error| {
            self.forget(found.map(|(leaf, _)| leaf));
            Failure { alert: None, ..Failure::of(&error, None, &[]) }
        })
    }

    fn forget(&self, leaf: Option<&CertificateDer<'static>>) {
        match self {
            Self::Client { refused, .. } => leaf.into_iter().for_each(|leaf| refused.add(leaf)),
            Self::Server { name, kept, .. } => {
                kept.remove_tls12_session(name);
                while kept.take_tls13_ticket(name).is_some() {}
            }
        }
    }
}
