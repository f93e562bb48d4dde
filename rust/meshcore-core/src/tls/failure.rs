//! Why a connection's TLS is over.

use std::cell::Cell;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::{
    AlertDescription, CertificateError, Error, InvalidMessage, OtherError, PeerIncompatible,
    PeerMisbehaved, ProtocolVersion,
};
use x509_cert::Certificate;
use x509_cert::der::Decode;

use super::identity::{self, hex};
use super::words;
use crate::identity::Identity;

/// What ended a session before, or against, what was agreed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The alert, by its name in RFC 8446 §6; `None` where the protocol names none that is known.
    pub alert: Option<&'static str>,
    /// The peer sent it; else it was told the peer.
    pub by_peer: bool,
    /// The peer spoke something else.
    pub no_tls: bool,
    /// What was wrong, for people: of what rustls says, nothing that a peer can make longer.
    pub detail: String,
}

/// The longest detail, but for whose certificate it is about.
const DETAIL_BYTES: usize = 200;
/// The longest name in that.
const NAME_BYTES: usize = 100;

impl Failure {
    /// `said` is what the peer was told of it.
    pub(super) fn of(error: &Error, version: Option<ProtocolVersion>, said: &[u8]) -> Self {
        let by_peer = matches!(error, Error::AlertReceived(_));
        let alert = alert_in(said).or_else(|| alert_of(error));
        let detail = detail_of(error, version);
        Self { alert: alert.and_then(name_of), by_peer, no_tls: false, detail }
    }

    /// Of an answer to our first message: what is no record is another protocol's.
    pub(super) fn of_first_answer(error: &Error) -> Option<Self> {
        let is_record = !matches!(error, Error::InvalidMessage(InvalidMessage::InvalidContentType));
        (!is_record).then(|| Self {
            alert: None,
            by_peer: true,
            no_tls: true,
            detail: "what answered speaks no TLS".to_owned(),
        })
    }
}

thread_local! {
    /// What a verifier has to say of the error that it is giving back: those that rustls has an
    /// alert for hold no words. Read in the same call, when the session fails with it.
    static DETAILS: Cell<Details> = const { Cell::new(Details { words: None, whose: None }) };
}

thread_local! {
    /// Of a name that has one certificate, if that was chosen in this call.
    static ONLY_ONE: Cell<Option<OnlyOne>> = const { Cell::new(None) };
}

/// What a client found that could have no other certificate.
#[derive(Clone, Copy)]
pub(super) struct OnlyOne {
    /// Of which kind its key is.
    pub(super) kind: &'static str,
    /// The client has a suite of TLS 1.2 that is used here: with a key of another kind, if it is
    /// refused for its suites.
    pub(super) has_suite: bool,
}

/// A name has one certificate.
pub(super) fn chosen_from_one(one: OnlyOne) {
    ONLY_ONE.set(Some(one));
}

/// Runs a session's machine: what it says of its failure is of its own certificates.
pub(super) fn of_own<T>(run: impl FnOnce() -> T) -> T {
    ONLY_ONE.set(None);
    run()
}

#[derive(Default)]
struct Details {
    words: Option<String>,
    whose: Option<String>,
}

/// An error about a certificate, and what it says.
pub(super) fn with_words(error: CertificateError, words: String) -> Error {
    DETAILS.set(Details { words: Some(words), whose: None });
    error.into()
}

/// Verifies a certificate: an error says whose it is, and nothing that an earlier one left.
pub(super) fn verifying<T>(
    leaf: &CertificateDer<'_>,
    verify: impl FnOnce() -> Result<T, Error>,
) -> Result<T, Error> {
    DETAILS.take();
    verify().inspect_err(|_| DETAILS.set(Details { whose: whose(leaf), ..DETAILS.take() }))
}

/// Of a certificate whose issuer's list may not be about it.
const OTHER_POINT: &str = "the revocation list of the certificate's issuer is of another \
                           distribution point than those that the certificate names";

/// Of a certificate whose issuer's list that has not signed.
const WRONG_LIST: &str = "the revocation list of the certificate's issuer is not signed by its key";

/// What webpki says, as rustls does: each has its alert.
pub(super) fn of_webpki(error: webpki::Error) -> Error {
    use CertificateError as C;
    use webpki::Error as E;
    match error {
        E::BadDer | E::BadDerTime | E::TrailingData(_) => C::BadEncoding.into(),
        E::CertNotValidYet { time, not_before } => {
            C::NotValidYetContext { time, not_before }.into()
        }
        E::CertExpired { time, not_after } => C::ExpiredContext { time, not_after }.into(),
        E::InvalidCertValidity => C::Expired.into(),
        E::UnknownIssuer => C::UnknownIssuer.into(),
        E::CertRevoked => C::Revoked.into(),
        E::UnknownRevocationStatus => {
            with_words(C::UnknownRevocationStatus, OTHER_POINT.to_owned())
        }
        E::CrlExpired { time, next_update } => {
            C::ExpiredRevocationListContext { time, next_update }.into()
        }
        E::InvalidSignatureForPublicKey => C::BadSignature.into(),
        // It is not the peer's fault.
        E::InvalidCrlSignatureForPublicKey => {
            with_words(C::UnknownRevocationStatus, WRONG_LIST.to_owned())
        }
        E::RequiredEkuNotFoundContext(_) => C::InvalidPurpose.into(),
        E::UnsupportedSignatureAlgorithmContext(about) => C::UnsupportedSignatureAlgorithmContext {
            signature_algorithm_id: about.signature_algorithm_id,
            supported_algorithms: about.supported_algorithms,
        }
        .into(),
        E::UnsupportedSignatureAlgorithmForPublicKeyContext(about) => {
            C::UnsupportedSignatureAlgorithmForPublicKeyContext {
                signature_algorithm_id: about.signature_algorithm_id,
                public_key_algorithm_id: about.public_key_algorithm_id,
            }
            .into()
        }
        error => C::Other(OtherError(Arc::new(error))).into(),
    }
}

/// What was wrong, and whose certificate it was, if it was one.
fn detail_of(error: &Error, version: Option<ProtocolVersion>) -> String {
    let details = DETAILS.take();
    if let Error::AlertReceived(alert) = error {
        return match name_of(*alert) {
            Some(name) => format!("alert {name}"),
            None => format!("alert {}", u8::from(*alert)),
        };
    }
    if !matches!(error, Error::InvalidCertificate(_)) {
        let words = bounded(words::of_error(error), DETAIL_BYTES);
        return match ONLY_ONE.get().filter(|one| one.is_why(error, version)) {
            Some(OnlyOne { kind, .. }) => {
                format!("{words}: the name that it asks for has a key of one kind alone, {kind}")
            }
            None => words,
        };
    }
    // What verifiers say is as long as its few names.
    let words = details.words.unwrap_or_else(|| bounded(words::of_error(error), DETAIL_BYTES));
    match details.whose {
        Some(whose) => format!("{words} ({whose})"),
        None => words,
    }
}

impl OnlyOne {
    /// Whether a key of another kind could have done: where the client has no suite that is used
    /// here it could not, and suites of TLS 1.3 go with every kind (RFC 8446 §B.4).
    fn is_why(&self, error: &Error, version: Option<ProtocolVersion>) -> bool {
        use PeerIncompatible as P;
        match error {
            Error::PeerIncompatible(P::NoSignatureSchemesInCommon) => true,
            Error::PeerIncompatible(P::NoCipherSuitesInCommon) => {
                self.has_suite && version == Some(ProtocolVersion::TLSv1_2)
            }
            _ => false,
        }
    }
}

/// A certificate by what finds it in its issuer's books.
fn whose(leaf: &CertificateDer<'_>) -> Option<String> {
    let read = Certificate::from_der(leaf).ok()?.tbs_certificate;
    let named = Identity::of(leaf).map(|identity| identity.name());
    let name = named.unwrap_or_else(|_| identity::visible(&read.subject.to_string()));
    let issuer = identity::visible(&read.issuer.to_string());
    let serial = hex(read.serial_number.as_bytes());
    let [name, issuer] = [name, issuer].map(|text| bounded(text, NAME_BYTES));
    Some(format!("it is of {name}, serial {serial}, issued by {issuer}"))
}

fn bounded(mut text: String, most: usize) -> String {
    if text.len() > most {
        let end = (0..=most).rev().find(|at| text.is_char_boundary(*at));
        text.truncate(end.unwrap_or(0));
        text.push('…');
    }
    text
}

/// The alert in a record that is not sealed (RFC 8446 §5.1, §6), as all are before keys are known.
fn alert_in(record: &[u8]) -> Option<AlertDescription> {
    match *record {
        [0x15, _, _, 0, 2, _, description] => Some(description.into()),
        _ => None,
    }
}

/// Which alert belongs to a failure, where it was sealed. rustls keeps its own table to itself; where that sends one
/// whose name is not told by the error's kind there is none here.
fn alert_of(error: &Error) -> Option<AlertDescription> {
    Some(match error {
        Error::AlertReceived(alert) => *alert,
        Error::InvalidCertificate(why) => why.clone().into(),
        Error::InvalidMessage(why) => (*why).into(),
        Error::NoCertificatesPresented => AlertDescription::CertificateRequired,
        Error::NoApplicationProtocol => AlertDescription::NoApplicationProtocol,
        Error::DecryptError => AlertDescription::BadRecordMac,
        Error::PeerSentOversizedRecord => AlertDescription::RecordOverflow,
        Error::InappropriateMessage { .. }
        | Error::InappropriateHandshakeMessage { .. }
        | Error::PeerMisbehaved(PeerMisbehaved::IllegalMiddleboxChangeCipherSpec) => {
            AlertDescription::UnexpectedMessage
        }
        Error::PeerIncompatible(
            PeerIncompatible::NoSignatureSchemesInCommon
            | PeerIncompatible::NoCertificateRequestSignatureSchemesInCommon,
        ) => AlertDescription::HandshakeFailure,
        Error::PeerMisbehaved(
            PeerMisbehaved::UnsolicitedEncryptedExtension
            | PeerMisbehaved::DisallowedEncryptedExtension
            | PeerMisbehaved::UnsolicitedEchExtension,
        ) => AlertDescription::UnsupportedExtension,
        _ => return None,
    })
}

macro_rules! names {
    ($($variant:ident = $name:literal,)+) => {
        impl Failure {
            /// The names of all alerts that are known.
            pub const ALERTS: &'static [&'static str] = &[$($name),+];
        }

        fn name_of(alert: AlertDescription) -> Option<&'static str> {
            match alert {
                $(AlertDescription::$variant => Some($name),)+
                _ => None,
            }
        }
    };
}

names! {
    CloseNotify = "close_notify",
    UnexpectedMessage = "unexpected_message",
    BadRecordMac = "bad_record_mac",
    RecordOverflow = "record_overflow",
    HandshakeFailure = "handshake_failure",
    BadCertificate = "bad_certificate",
    UnsupportedCertificate = "unsupported_certificate",
    CertificateRevoked = "certificate_revoked",
    CertificateExpired = "certificate_expired",
    CertificateUnknown = "certificate_unknown",
    IllegalParameter = "illegal_parameter",
    UnknownCA = "unknown_ca",
    AccessDenied = "access_denied",
    DecodeError = "decode_error",
    DecryptError = "decrypt_error",
    ProtocolVersion = "protocol_version",
    InsufficientSecurity = "insufficient_security",
    InternalError = "internal_error",
    InappropriateFallback = "inappropriate_fallback",
    UserCanceled = "user_canceled",
    NoRenegotiation = "no_renegotiation",
    MissingExtension = "missing_extension",
    UnsupportedExtension = "unsupported_extension",
    UnrecognisedName = "unrecognized_name",
    BadCertificateStatusResponse = "bad_certificate_status_response",
    UnknownPSKIdentity = "unknown_psk_identity",
    CertificateRequired = "certificate_required",
    NoApplicationProtocol = "no_application_protocol",
}
