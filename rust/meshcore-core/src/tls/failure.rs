//! Why a connection's TLS is over.

use std::cell::Cell;
use std::sync::Arc;

use rustls::{
    AlertDescription, CertificateError, Error, InvalidMessage, OtherError, PeerIncompatible,
};

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

/// So long a detail is at the most: names of peers' certificates are in some.
const DETAIL_BYTES: usize = 200;

impl Failure {
    /// `said` is what the peer was told of it.
    pub(super) fn of(error: &Error, said: &[u8]) -> Self {
        let by_peer = matches!(error, Error::AlertReceived(_));
        let alert = alert_in(said).or_else(|| alert_of(error));
        let detail = detail_of(error);
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
    static WORDS: Cell<Option<String>> = const { Cell::new(None) };
}

/// An error about a certificate, and what it says.
pub(super) fn told(error: CertificateError, words: String) -> Error {
    WORDS.set(Some(words));
    error.into()
}

/// Of a certificate whose issuer's list may not be about it.
const OTHER_POINT: &str = "the revocation list of the certificate's issuer is of another \
                           distribution point than those that the certificate names";

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
        E::UnknownRevocationStatus => told(C::UnknownRevocationStatus, OTHER_POINT.to_owned()),
        E::CrlExpired { time, next_update } => {
            C::ExpiredRevocationListContext { time, next_update }.into()
        }
        E::InvalidSignatureForPublicKey | E::InvalidCrlSignatureForPublicKey => {
            C::BadSignature.into()
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

fn detail_of(error: &Error) -> String {
    let words = WORDS.take().filter(|_| matches!(error, Error::InvalidCertificate(_)));
    if let Some(words) = words {
        return words; // as long as its few names
    }
    let mut told = match error {
        Error::AlertReceived(alert) => match name_of(*alert) {
            Some(name) => format!("alert {name}"),
            None => format!("alert {}", u8::from(*alert)),
        },
        Error::InvalidCertificate(CertificateError::Other(why)) => {
            match why.0.downcast_ref::<webpki::Error>() {
                Some(why) => old_habit(why),
                None => error.to_string(),
            }
        }
        Error::PeerIncompatible(why) => match of_version(why) {
            Some(words) => words.to_owned(),
            None => error.to_string(),
        },
        other => other.to_string(),
    };
    if told.len() > DETAIL_BYTES {
        let end = (0..=DETAIL_BYTES).rev().find(|at| told.is_char_boundary(*at));
        told.truncate(end.unwrap_or(0));
    }
    told
}

/// What a version has to do with it.
const fn of_version(why: &PeerIncompatible) -> Option<&'static str> {
    use PeerIncompatible as P;
    match why {
        P::SupportedVersionsExtensionRequired => Some("it speaks no TLS 1.3, the least here"),
        P::Tls12NotOffered | P::Tls12NotOfferedOrEnabled | P::ServerDoesNotSupportTls12Or13 => {
            Some("it speaks no TLS of those that are spoken here")
        }
        P::ServerTlsVersionIsDisabledByOurConfig => {
            Some("it speaks an older TLS than the least here")
        }
        P::NoCipherSuitesInCommon => Some("it knows no suite of those that are used here"),
        _ => None,
    }
}

/// What other libraries take and this one does not, in words that say what to do.
fn old_habit(why: &webpki::Error) -> String {
    use webpki::Error as E;
    match why {
        E::CaUsedAsEndEntity => {
            "the certificate may sign others, and is none that was given as it is".to_owned()
        }
        E::UnsupportedCertVersion => "the certificate is of X.509 v1: make one of v3".to_owned(),
        other => format!("the certificate: {other}"),
    }
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
        Error::InappropriateMessage { .. } | Error::InappropriateHandshakeMessage { .. } => {
            AlertDescription::UnexpectedMessage
        }
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
